"""Checks that a mutation run found missing (docs/reliability.md); each catches a planted fault."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from helpers import all_codes, batches, built, trained_like, whole_budget
from torch import nn
from torch.nn import functional as F

from lookup_table import Budget, BudgetCounts, Equivalence, LookupTable
from lookup_table import budget as budget_module
from lookup_table.builder import load_costs
from lookup_table.latency import LatencySettings
from lookup_table.user_table import read_user_table
from model import SearchSpace, Subnet, load_architecture, load_space
from model.blocks import BlockStyle, ShuffleBlock, shuffle_channels
from search_strategy import evaluator
from search_strategy.breeding import new_children
from search_strategy.evaluator import Evaluator
from search_strategy.pareto import ParetoConfig, ParetoSearch


def test_mobilenet_v2_computes_what_torchvisions_does() -> None:
    """Same weights, same logits: residuals, pooling and batch norms, which no count can see."""
    theirs = torchvision.models.mobilenet_v2(weights=None)
    ours = Subnet(*load_architecture("mobilenetv2_100", input_size=96))
    torch.manual_seed(0)
    for m in theirs.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.eps = 1e-3  # the space's, of MobileNet in TensorFlow
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 2)
            nn.init.normal_(m.bias, 0, 0.1)
    pairs = zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
    with torch.no_grad():
        for mine, value in pairs:
            mine.copy_(value)
        images = torch.randn(2, 3, 96, 96)
        wanted = theirs.double().eval()(images.double())
        found = ours.double().eval()(images.double())
    assert torch.allclose(found, wanted, rtol=1e-9, atol=1e-12)


def test_channels_are_shuffled_as_pytorch_does() -> None:
    x = torch.randn(2, 12, 3, 3)
    assert torch.equal(shuffle_channels(x, 4), F.channel_shuffle(x, 4))


def test_even_channels_pass_and_odd_ones_go_through_the_branch() -> None:
    """SPOS's block (its released code), seen with a branch that does nothing."""
    block = ShuffleBlock(8, 8, 1, 3, BlockStyle())
    block.branch = nn.Sequential()
    x = torch.arange(8.0).view(1, 8, 1, 1)
    assert block(x).flatten().tolist() == [0, 2, 4, 6, 1, 3, 5, 7]


def test_a_limit_is_kept_to_the_unit(tiny: SearchSpace, tiny_table: LookupTable) -> None:
    everyone = all_codes(tiny)
    cost = tiny_table.cost(everyone, "flops")
    edge = int(np.sort(cost)[90])
    counts = BudgetCounts(tiny_table, "flops")
    below, above = Budget(counts, None, edge - 1), Budget(counts, edge + 1, None)
    assert np.array_equal(below.contains(everyone), cost < edge)
    assert np.array_equal(above.contains(everyone), cost > edge)


def test_draws_from_cells_are_checked(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window too large to list, whose cells reach beyond its limits."""
    monkeypatch.setattr(budget_module, "MAX_LISTED", 0)
    costs = rng.integers(10**11, 10**12, size=(6, 4)) | 1
    table = LookupTable({"flops": costs}, {"flops": 0}, np.full(6, 4))
    true = np.sort(table.cost(all_codes(table), "flops"))
    counts = BudgetCounts(table, "flops")
    assert not counts.exact
    for start in range(0, 4000, 100):  # about 10 networks each, some cells at both rims
        budget = Budget(counts, int(true[start]), int(true[start + 9]))
        assert budget.contains(budget.sample(50, rng)).all()


def test_costs_of_many_architectures(tiny: SearchSpace, tiny_table: LookupTable) -> None:
    """More than are summed at a time, against a plain sum."""
    architectures = np.tile(all_codes(tiny), (700, 1))  # 134,400
    rows = tiny_table.costs["flops"][np.arange(tiny.num_layers), architectures]
    expected = rows.sum(1) + tiny_table.fixed["flops"]
    assert np.array_equal(tiny_table.cost(architectures, "flops"), expected)


def test_costs_of_a_file_are_rounded_up(
    tiny: SearchSpace, tiny_table: LookupTable, tmp_path: Path
) -> None:
    rows = [f"{i + 1},{c},1.0000001" for i, la in enumerate(tiny.layers) for c in la.choices]
    (tmp_path / "t.csv").write_text("\n".join(["layer,choice,latency", "fixed,,0.5", *rows]))
    table = read_user_table(tmp_path / "t.csv", tiny, tiny_table)
    assert table.cost(np.zeros(4, dtype=int), "latency") == 500_000 + 4 * 1_000_001


def test_a_measured_latency_says_all_that_it_depends_on(tiny: SearchSpace, tmp_path: Path) -> None:
    """The same names make the key of the cache."""
    settings = LatencySettings(device=torch.device("cpu"), seconds=1e-4)
    table = load_costs(tiny, ["latency"], tmp_path, None, settings)
    known = {"device", "batch_size", "threads", "seconds", "dtype", "memory_format", "torch"}
    assert known <= table.sources["latency"].keys()


def test_layers_of_other_choices_are_no_run(tmp_path: Path) -> None:
    """Two layers that may be skipped, of one shape, with other kernels."""
    file = tmp_path / "s.yaml"
    file.write_text(
        "extends: fbnet\nstages:\n"
        "  - {width: 16, layers: 2, stride: 1, choices: [k3_e3, skip]}\n"
        "  - {width: 16, layers: 2, stride: 1, choices: [k5_e3, k3_e3, skip]}\n"
    )
    space = load_space(file, 8, 10)
    networks = {built(space, code) for code in all_codes(space)}
    equivalence = Equivalence(space)
    canonical = equivalence.canonical(all_codes(space))
    assert [built(space, code) for code in canonical] == [built(space, c) for c in all_codes(space)]
    assert len(networks) <= equivalence.size == len(np.unique(canonical, axis=0)) == 3 * 7


def test_every_calibration_batch_counts_once(tiny: SearchSpace) -> None:
    """Also where nodes are computed again for want of room."""
    keys = sorted(map(tuple, all_codes(tiny)[::5].tolist()))
    calibration = [x for x, _ in batches(3, 8, 1)]
    scores = Evaluator(trained_like(tiny), calibration, batches(1, 8, 2), cache_mb=0)
    nodes = scores.calibrate(keys)
    assert {state.batches for states in nodes.values() for state in states} == {len(calibration)}


def test_no_activation_outlives_its_branch(
    tiny: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stale ones would take the room of those that are needed."""
    caches: list[evaluator.ActivationCache] = []

    class Recorded(evaluator.ActivationCache):
        def __init__(self, limit: int) -> None:
            super().__init__(limit)
            caches.append(self)

    monkeypatch.setattr(evaluator, "ActivationCache", Recorded)
    keys = sorted(map(tuple, all_codes(tiny)[::5].tolist()))
    images = [x for x, _ in batches(1, 8, 1)]
    scores = Evaluator(trained_like(tiny), images, batches(1, 8, 2))
    walk = scores.walk(images[0], keys, {}, calibrate=True)
    with torch.inference_mode():
        for points, _ in zip(evaluator.branching_points(keys), walk, strict=True):
            assert set(caches[-1].kept) == points


def test_children_stay_among_those_that_an_oracle_knows(
    tiny: SearchSpace, tiny_table: LookupTable, rng: np.random.Generator
) -> None:
    """Repair knows costs only; what it leaves outside of the budget must not be asked."""
    known = all_codes(tiny)[::3]
    budget = Budget(BudgetCounts(tiny_table, "flops"), None, None, among=known)
    children = new_children(
        lambda n: rng.integers(0, tiny.num_choices, (n, tiny.num_layers)), 20, budget, set(), rng
    )
    assert len(children) == 20 and budget.contains(children).all()


def test_the_less_crowded_of_one_front_wins(tiny: SearchSpace, tiny_table: LookupTable) -> None:
    """NSGA-II's crowded comparison (section III-C): each other pair is won by the lonelier."""
    budget = whole_budget(tiny_table)
    search = ParetoSearch(ParetoConfig(population=30), budget, np.random.default_rng(0))
    everyone = all_codes(tiny)
    front = everyone[np.unique(tiny_table.cost(everyone, "flops"), return_index=True)[1]][:30]
    scores = 50 + np.linspace(0, 20, len(front)) ** 1.5 / 10  # more expensive is better: one front
    search.tell(front, scores)
    assert (search.ranks == 0).all()
    order = np.argsort(-search.crowding)
    place = {tuple(a): i for i, a in enumerate(search.survivors[order].tolist())}
    winners = [place[tuple(a)] for a in search.winners(3000).tolist()]
    assert np.mean(winners) < 0.4 * len(front)  # at random 0.5, the lonelier of two 0.33
