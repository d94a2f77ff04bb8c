"""The evaluator against one plain network at a time, and what it must leave untouched."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from model import SearchSpace, Subnet, build_supernet, inherit_weights, load_space
from search_strategy import Evaluator


def batches(n: int, size: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    g = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(b, 3, size, size, generator=g), torch.randint(0, 10, (b,), generator=g))
        for b in [20] * n + [7]
    ]


def trained_like(space: SearchSpace) -> nn.Module:
    """A supernet whose BN statistics are no longer at their start."""
    torch.manual_seed(0)
    supernet = build_supernet(space)
    for m in supernet.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_()
            m.running_var.uniform_(0.5, 2)
            if m.affine:
                m.weight.data.uniform_(0.5, 1.5)
                m.bias.data.normal_(0, 0.3)
    return supernet.train()


def naive_top1(supernet, space, architecture, calibration, validation) -> float:
    """A standalone network, its BN reset and averaged over the calibration batches."""
    subnet = Subnet(space, architecture)
    inherit_weights(subnet, supernet, architecture)
    for m in subnet.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.reset_running_stats()
            m.momentum = None
    subnet.train()
    with torch.no_grad():
        for images in calibration:
            subnet(images)
        subnet.eval()
        hits = [(subnet(x).argmax(1) == y).float() for x, y in validation]
    return 100 * torch.cat(hits).mean().item()


@pytest.mark.parametrize("name", ["proxylessnas", "fbnet", "spos", "nas_bench_macro"])
def test_scores_equal_one_plain_network_at_a_time(name: str, rng: np.random.Generator) -> None:
    """Shared prefixes and lent statistics change nothing."""
    space = load_space(name, 16, 10)
    supernet = trained_like(space)
    architectures = rng.integers(0, space.num_choices, size=(5, space.num_layers))
    architectures[1:3, : space.num_layers // 2] = architectures[0, : space.num_layers // 2]
    calibration = [x for x, _ in batches(2, 16, 1)]
    validation = batches(2, 16, 2)
    scores = Evaluator(supernet, calibration, validation)(architectures)
    naive = [naive_top1(supernet, space, a, calibration, validation) for a in architectures]
    assert scores == pytest.approx(naive, abs=100 / 47 + 1e-6)  # at most one image on the edge
    assert np.mean(np.abs(scores - naive)) < 100 / 47 / 2


def test_nothing_of_the_supernet_changes(tiny: SearchSpace, rng: np.random.Generator) -> None:
    """Weights, BN statistics, modes and momenta are as before; also after an error."""
    supernet = trained_like(tiny)
    supernet.head.eval()
    before = {k: v.clone() for k, v in supernet.state_dict().items()}
    modes = [m.training for m in supernet.modules()]
    norms = [m for m in supernet.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [m.momentum for m in norms]
    evaluator = Evaluator(supernet, [batches(1, 8, 0)[0][0]], batches(1, 8, 1))
    evaluator(rng.integers(0, tiny.num_choices, size=(4, 4)))
    broken = Evaluator(
        supernet, [torch.zeros(2, 3, 8, 8)], [(torch.zeros(2, 5, 8, 8), torch.zeros(2))]
    )
    with pytest.raises(RuntimeError):
        broken(np.zeros((1, 4), dtype=int))
    after = supernet.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())
    assert [m.training for m in supernet.modules()] == modes
    assert [m.momentum for m in norms] == momenta


def test_calibration_changes_only_bn_statistics(tiny: SearchSpace) -> None:
    """Inside: other scores than without calibration, yet every weight has its old bits."""
    supernet = trained_like(tiny)
    weights = {k: v.clone() for k, v in supernet.named_parameters()}
    data = batches(3, 8, 3)
    path = np.array([1, 1, 1, 1])
    seen: list[Tensor] = []
    evaluator = Evaluator(supernet, [x for x, _ in data], data)
    original = supernet.head.forward
    supernet.head.forward = lambda x: seen.append(original(x)) or seen[-1]
    evaluator(path[None])
    supernet.head.forward = original
    calibrated = torch.cat(seen[len(data) :])
    with torch.no_grad():
        plain = torch.cat([supernet.eval()(x, path) for x, _ in data])
    assert (calibrated - plain).abs().max() > 0.01
    assert all(torch.equal(weights[k], v) for k, v in supernet.named_parameters())


def test_no_candidate_leaks_into_the_next(tiny: SearchSpace, rng: np.random.Generator) -> None:
    """Any order, any company, twice: the score of an architecture is the same number."""
    supernet = trained_like(tiny)
    data = batches(2, 8, 4)
    calibration = [x for x, _ in batches(1, 8, 5)]
    architectures = rng.permutation(
        np.array(np.meshgrid(*[range(3)] * 4)).reshape(4, -1).T.clip(max=tiny.num_choices - 1)
    )[:24]
    together = Evaluator(supernet, calibration, data)(architectures)
    backwards = Evaluator(supernet, calibration, data)(architectures[::-1])[::-1]
    alone = [Evaluator(supernet, calibration, data)(a[None])[0] for a in architectures]
    assert together.tolist() == backwards.tolist() == alone
    assert len(set(alone)) > 3  # they do differ


def test_scores_are_cached(tiny: SearchSpace) -> None:
    evaluator = Evaluator(trained_like(tiny), [torch.randn(9, 3, 8, 8)], batches(1, 8, 6))
    path = np.zeros((1, 4), dtype=int)
    first = evaluator(path)
    evaluator.score = None  # type: ignore[method-assign]
    assert evaluator(np.repeat(path, 3, axis=0)).tolist() == [first[0]] * 3


def test_progress_adds_up_to_the_candidates(tiny: SearchSpace, rng: np.random.Generator) -> None:
    evaluator = Evaluator(trained_like(tiny), [torch.randn(9, 3, 8, 8)] * 2, batches(2, 8, 6))
    steps: list[tuple[float, float | None]] = []
    architectures = np.unique(rng.integers(0, tiny.num_choices, size=(6, 4)), axis=0)
    scores = evaluator(architectures, lambda done, top1: steps.append((done, top1)))
    assert sum(done for done, _ in steps) == pytest.approx(len(architectures))
    assert sorted(t for _, t in steps if t is not None) == sorted(scores)


def test_no_calibration_batch_is_an_error(tiny: SearchSpace) -> None:
    with pytest.raises(ValueError, match="at least one batch"):
        Evaluator(trained_like(tiny), [], [])
