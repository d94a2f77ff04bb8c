"""NSGA-II's parts against their definitions by brute force and in a run."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lookup_table import Budget, BudgetCounts, Equivalence, LookupTable, architecture_keys
from lookup_table.builder import load_table
from model import SearchSpace, load_space
from search_strategy.history import History, run_search
from search_strategy.pareto import (
    ParetoConfig,
    ParetoSearch,
    crowding_distance,
    hypervolume,
    non_dominated_ranks,
    pareto_front,
    save_front,
)
from search_strategy.random_search import RandomConfig, RandomSearch


def brute_ranks(points: np.ndarray) -> np.ndarray:
    """Peel off front after front by comparing every pair."""
    ranks, rank = np.full(len(points), -1), 0
    while (left := np.flatnonzero(ranks < 0)).size:
        mine, other = points[left, None], points[None, left]
        beaten = ((other <= mine).all(-1) & (other < mine).any(-1)).any(1)
        ranks[left[~beaten]] = rank
        rank += 1
    return ranks


@pytest.mark.parametrize("m", [2, 3])
def test_ranks_by_definition(m: int, rng: np.random.Generator) -> None:
    for points in (rng.random((60, m)), rng.integers(0, 4, (60, m)).astype(float)):
        assert np.array_equal(non_dominated_ranks(points), brute_ranks(points))


def test_crowding_distance_by_hand() -> None:
    """Figure 1 of the paper: neighbours' box; ends are infinite."""
    front = np.array([[0.0, 10.0], [1.0, 6.0], [4.0, 5.0], [10.0, 0.0]])
    distance = crowding_distance(front)
    assert np.isinf(distance[[0, 3]]).all()
    assert distance[1] == pytest.approx(4 / 10 + 5 / 10)
    assert distance[2] == pytest.approx(9 / 10 + 6 / 10)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_hypervolume_counts_grid_cells(m: int, rng: np.random.Generator) -> None:
    """Points on an integer grid: the volume is the number of cells that one of them dominates."""
    for n in (1, 5, 12):
        points = rng.integers(0, 7, (n, m)).astype(float)
        cells = np.array(list(itertools.product(range(6), repeat=m)))
        dominated = (points[:, None] <= cells[None]).all(-1).any(0).sum()
        assert hypervolume(points, np.full(m, 6.0)) == pytest.approx(dominated)


def fitness(a: np.ndarray) -> np.ndarray:
    """A conflict with cost: expensive choices are better, with a hidden taste."""
    return 50 + 3 * np.sin(a * np.arange(1, a.shape[1] + 1)).sum(1)


def test_the_front_of_a_small_space_is_found_and_saved(
    tiny: SearchSpace, tiny_table: LookupTable, tmp_path
) -> None:
    """All networks by brute force give the same front as the search that has seen them all."""
    budget = Budget(BudgetCounts(tiny_table, "flops", Equivalence(tiny)), None, None)
    config = ParetoConfig(objectives=("flops", "params"), generation_num=40, population=10)
    strategy = ParetoSearch(config, budget, np.random.default_rng(0))
    history, volumes = History(tiny, tiny_table), []
    run_search(strategy, fitness, history, lambda: volumes.append(strategy.metrics["hypervolume"]))
    assert len(history) == len(set(architecture_keys(history.architectures))) == 156
    assert volumes == sorted(volumes) and 0 < volumes[0] < volumes[-1] < 1
    everyone = budget.enumerate()
    points = np.column_stack(
        [-fitness(everyone), *(tiny_table.cost(everyone, m) for m in ("flops", "params"))]
    )
    expected = {tuple(p) for p in points[brute_ranks(points) == 0]}
    front = pareto_front(history, ("flops", "params"))
    costs = (history.cost(m)[front] for m in ("flops", "params"))
    assert set(zip(-history.top1[front], *costs, strict=True)) == expected
    number = save_front(tmp_path, history, ("flops", "params"), "test")
    lines = (tmp_path / "pareto_front.csv").read_text().splitlines()
    assert lines[0] == "index,candidate,architecture,flops,params,top1"
    assert len(lines) == 1 + number == 1 + len(list((tmp_path / "pareto_front").glob("*.yaml")))


def test_more_hypervolume_than_random_at_equal_evaluations() -> None:
    space = load_space("proxylessnas", 8, 10)
    table = load_table(space)
    budget = Budget(BudgetCounts(table, "flops", Equivalence(space)), None, None)
    for seed in range(2):
        main = np.random.default_rng(seed).normal(size=(21, 7))
        found = []
        for kind in ("pareto", "random"):
            rng = np.random.default_rng(seed)
            judge = ParetoSearch(ParetoConfig(generation_num=10, population=30), budget, rng)
            drawn = RandomSearch(RandomConfig(random_iteration=300), budget, rng)
            history = History(space, table)
            score = lambda a, main=main: 60 + main[np.arange(21), a].sum(1)  # noqa: E731
            run_search(judge if kind == "pareto" else drawn, score, history)
            points = judge.to_minimise(history.architectures, history.top1)
            assert len(points) == 300
            found.append(hypervolume(points, np.ones(2)))
        assert found[0] > found[1]


@pytest.mark.parametrize("objectives", [(), ("flops", "flops"), ("flops", "params", "latency")])
def test_objectives_are_one_or_two(objectives: tuple) -> None:
    with pytest.raises(ValueError, match="--objectives"):
        ParetoConfig(objectives=objectives).check()
