"""The evaluator against one plain network at a time, and what it must leave untouched."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import NARROW, all_codes, batches, plain_network, trained_like
from torch import Tensor, nn

from model import SearchSpace, load_space
from search_strategy.evaluator import ActivationCache, Evaluator, branching_points, common_prefix
from search_strategy.folding import Part


def logits_of(evaluator: Evaluator, architectures: np.ndarray, images: Tensor) -> dict:
    keys = sorted(map(tuple, architectures.tolist()))
    nodes = evaluator.calibrate(keys)
    with torch.inference_mode():
        walk = evaluator.walk(images, keys, nodes, calibrate=False)
        return {key: evaluator.parts.classifier(features) for key, features in walk}


@pytest.mark.parametrize("name", NARROW)
def test_logits_equal_one_plain_network_at_a_time(
    name: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shared prefixes, folded batch norms and cut batches change rounding and nothing else."""
    space = load_space(name, 16, 10, NARROW[name])
    supernet = trained_like(space)
    architectures = rng.integers(0, space.num_choices, size=(3, space.num_layers))
    architectures[1, : space.num_layers // 2] = architectures[0, : space.num_layers // 2]
    calibration = [x for x, _ in batches(2, 16, 1)]
    validation = batches(2, 16, 2)
    images = torch.cat([x for x, _ in validation])
    labels = torch.cat([y for _, y in validation])
    monkeypatch.setattr("search_strategy.folding.WORKING_SET", 1 << 19)  # cut at several places
    evaluator = Evaluator(supernet, calibration, validation)
    logits = logits_of(evaluator, architectures, images)
    for a, score in zip(architectures, evaluator(architectures), strict=True):
        with torch.no_grad():
            single = plain_network(supernet, space, a, calibration)(images)
            expected = plain_network(supernet, space, a, calibration, torch.float64)(
                images.double()
            )
        error, rounding = ((x - expected).abs().max() for x in (logits[tuple(a)], single))
        assert error < max(1e-5, 4 * rounding)  # no worse than float32 is anyway
        naive = 100 * (expected.argmax(1) == labels).float().mean().item()
        assert score == pytest.approx(naive, abs=100 / 47 + 1e-6)  # at most one image on the edge


def test_the_mean_probability_of_the_true_class(
    tiny: SearchSpace, rng: np.random.Generator
) -> None:
    supernet, validation = trained_like(tiny), batches(3, 8, 2)
    calibration = [x for x, _ in batches(2, 8, 1)]
    architectures = rng.integers(0, tiny.num_choices, size=(4, 4))
    evaluator = Evaluator(supernet, calibration, validation, score="probability")
    by_top1 = Evaluator(supernet, calibration, validation)
    scores, top1 = evaluator(architectures), by_top1(architectures)
    for a, score, hits in zip(architectures, scores, top1, strict=True):
        net = plain_network(supernet, tiny, a, calibration)
        with torch.no_grad():
            loss = [nn.functional.cross_entropy(net(x), y, reduction="none") for x, y in validation]
        assert score == pytest.approx(100 * torch.cat(loss).neg().exp().mean().item(), rel=1e-4)
        assert evaluator.score(a[None]).tolist() == [[score, hits]]
        assert evaluator.test(a, validation) == hits
    with pytest.raises(ValueError, match="top1, probability, separation"):
        Evaluator(supernet, calibration, validation, score="loss")
    with pytest.raises(ValueError, match="at least one batch"):
        Evaluator(supernet, [], validation)


def test_separation_is_fishers_criterion(
    tiny: SearchSpace, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the variances of each feature, one class at a time; four parts are probability."""
    supernet, validation = trained_like(tiny), batches(3, 40, 2)
    calibration = [x for x, _ in batches(2, 8, 1)]
    architectures = rng.integers(0, tiny.num_choices, size=(3, 4))
    evaluator = Evaluator(supernet, calibration, validation, score="separation")
    monkeypatch.setattr("search_strategy.evaluator.CACHE_MB", 0)  # of its sums: one at a time
    alone = Evaluator(supernet, calibration, validation, score="separation")
    assert alone.chunk == 1 < evaluator.chunk
    assert np.array_equal(alone(architectures), evaluator(architectures))
    for a, score in zip(architectures, evaluator(architectures), strict=True):
        net = plain_network(supernet, tiny, a, calibration)
        net.head.classifier = nn.Identity()
        with torch.no_grad():
            x = torch.cat([net(images) for images, _ in validation]).double().numpy()  # [N, D]
        y = torch.cat([labels for _, labels in validation]).numpy()
        classes = [x[y == k] for k in np.unique(y)]
        shares = [len(members) / len(x) for members in classes]
        within = sum(s * members.var(0) for s, members in zip(shares, classes, strict=True))
        ratio = (x.var(0) - within) / (within + within.mean())
        probability = Evaluator(supernet, calibration, validation, score="probability")(a[None])[0]
        assert score == pytest.approx((probability**4 * 100 * ratio.mean()) ** 0.2, rel=1e-4)
        assert evaluator.score(a[None])[0, 1] == Evaluator(supernet, calibration, validation)(
            a[None]
        )


def test_bf16_stays_close(tiny: SearchSpace, rng: np.random.Generator) -> None:
    supernet = trained_like(tiny)
    data = batches(3, 8, 2)
    architectures = rng.integers(0, tiny.num_choices, size=(6, 4))
    calibration = [x for x, _ in data]
    exact = logits_of(Evaluator(supernet, calibration, data), architectures, data[0][0])
    rounded = Evaluator(supernet, calibration, data, precision="bf16")
    for key, logits in logits_of(rounded, architectures, data[0][0]).items():
        assert logits.dtype == torch.float32
        error = (logits - exact[key]).abs().max() / exact[key].std()
        assert 0 < error < 0.2  # bfloat16 has 8 bits of mantissa


def test_kept_activations_obey_their_bound(
    tiny: SearchSpace, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the bound, the scores are the same; with room, each node is computed once."""
    supernet = trained_like(tiny)
    images = [torch.randn(400, 3, 8, 8) for _ in range(2)]  # 0.4 MB behind the stem
    data = [(x, torch.randint(0, 10, (400,))) for x in images]
    architectures = np.unique(rng.integers(0, tiny.num_choices, size=(10, 4)), axis=0)
    most, calls = 0, 0
    keep, run = ActivationCache.keep, Part.run

    def watched_keep(cache: ActivationCache, depth: int, x: Tensor) -> None:
        nonlocal most
        keep(cache, depth, x)
        storages = {t.untyped_storage().data_ptr(): t.nbytes for t in cache.kept.values()}
        most = max(most, sum(storages.values()))

    def counted_run(*args: object) -> Tensor:
        nonlocal calls
        calls += 1
        return run(*args)

    monkeypatch.setattr(ActivationCache, "keep", watched_keep)
    monkeypatch.setattr(Part, "run", counted_run)
    scores, used = {}, {}
    for mb in (0, 2, 512):
        most, calls = 0, 0
        scores[mb] = Evaluator(supernet, images, data, cache_mb=mb)(architectures).tolist()
        used[mb] = calls
        assert most <= mb << 20
        assert (most > 0) == (mb > 0)
    assert scores[0] == scores[2] == scores[512]
    keys = list(map(tuple, architectures.tolist()))
    prefixes = {key[:depth] for key in keys for depth in range(5)}
    # 400 and 400 images: joined until 512 are there, so all 800 go through the trie at once
    assert used[512] == len(prefixes) + len(keys)  # () is the stem; and every path's head
    assert used[0] == len(keys) * 6
    assert used[512] < used[2] < used[0]


def test_branching_points_by_brute_force(rng: np.random.Generator) -> None:
    """Depth d of a path is needed later if a later path has its first d choices, not d + 1."""
    for _ in range(20):
        keys = sorted({tuple(k) for k in rng.integers(0, 2, size=(12, 5)).tolist()})
        for i, points in enumerate(branching_points(keys)):
            expected = set()
            for j in range(i + 1, len(keys)):  # where path j starts to be computed anew
                depth = common_prefix(keys[j - 1], keys[j])
                if keys[j][:depth] == keys[i][:depth]:
                    expected.add(depth)
            assert points == expected


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


def test_no_candidate_leaks_into_the_next(tiny: SearchSpace, rng: np.random.Generator) -> None:
    """Any order, any company, twice: the score of an architecture is the same number."""
    supernet = trained_like(tiny)
    data = batches(2, 8, 4)
    calibration = [x for x, _ in batches(1, 8, 5)]
    architectures = rng.permutation(all_codes(tiny))[:24]
    together = Evaluator(supernet, calibration, data)(architectures)
    backwards = Evaluator(supernet, calibration, data)(architectures[::-1])[::-1]
    evaluator = Evaluator(supernet, calibration, data)
    alone = [evaluator(a[None])[0] for a in architectures]
    twice = evaluator(np.repeat(architectures[:2], 3, axis=0))
    assert twice.tolist() == np.repeat(alone[:2], 3).tolist()
    assert together.tolist() == backwards.tolist() == alone
    assert len(set(alone)) > 3  # they do differ


def test_progress_adds_up_to_the_candidates(tiny: SearchSpace, rng: np.random.Generator) -> None:
    evaluator = Evaluator(trained_like(tiny), [torch.randn(9, 3, 8, 8)] * 2, batches(2, 8, 6))
    steps: list[tuple[float, float | None]] = []
    architectures = np.unique(rng.integers(0, tiny.num_choices, size=(6, 4)), axis=0)
    scores = evaluator.score(architectures, lambda done, top1: steps.append((done, top1)))[:, 1]
    assert sum(done for done, _ in steps) == pytest.approx(len(architectures))
    assert sorted(t for _, t in steps if t is not None) == sorted(scores)
