"""The most probable architecture within a budget, against all architectures one by one."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import all_codes

from lookup_table import Budget, BudgetCounts, Equivalence, LookupTable
from lookup_table.builder import load_table
from lookup_table.knapsack import highest_sum, most_probable
from model import load_space
from search_strategy.differentiable import log_probability


def brute_force(p: np.ndarray, budget: Budget) -> float:
    everything = all_codes(budget.counts.table)
    inside = everything[budget.contains(everything)]
    return np.log(p)[np.arange(len(p)), inside].sum(1).max()


def some_table(rng: np.random.Generator, top: int) -> LookupTable:
    num_choices = np.array([3, 4, 2, 4, 1, 3])
    costs = rng.integers(0, top, size=(6, 4))
    costs[np.arange(4) >= num_choices[:, None]] = 0
    return LookupTable({"flops": costs, "params": costs}, {"flops": 7, "params": 7}, num_choices)


@pytest.mark.parametrize("top", [30, 10**12])
def test_it_equals_brute_force(top: int, rng: np.random.Generator) -> None:
    """With one bin per cost, and with cells of costs that are 10^12 apart."""
    for _ in range(25):
        counts = BudgetCounts(some_table(rng, top), "flops")
        assert counts.exact == (top == 30)
        p = rng.dirichlet(np.full(4, 0.5), size=6)
        some = rng.integers(0, counts.num_choices, size=(2, 6))
        low, high = sorted(counts.table.cost(some, "flops").tolist())
        for window in ((None, high), (low, None), (low, high), (low, low)):
            budget = Budget(counts, *window)
            found = most_probable(p, budget)
            assert budget.contains(found[None])[0]
            assert log_probability(p, found) == pytest.approx(brute_force(p, budget))


def test_without_a_bound_it_is_the_argmax(rng: np.random.Generator) -> None:
    table = load_table(load_space("proxylessnas", 8, 10))
    counts = BudgetCounts(table, "flops")
    p = rng.random((21, 7))
    expected = [row[:n].argmax() for row, n in zip(p, counts.num_choices, strict=True)]
    assert most_probable(p, Budget(counts, None, None)).tolist() == expected
    within = most_probable(p, Budget(counts, None, counts.median // 2))
    assert table.cost(within, "flops") <= counts.median // 2


def test_certain_choices_that_do_not_fit_give_way() -> None:
    """Probability 0 is no obstacle where nothing else is within the budget."""
    counts = BudgetCounts(some_table(np.random.default_rng(0), 30), "flops")
    low, _ = counts.table.range("flops")
    most_expensive = [
        row[:n].argmax()
        for row, n in zip(counts.table.costs["flops"], counts.num_choices, strict=True)
    ]
    budget = Budget(counts, None, low)
    found = most_probable(np.eye(4)[most_expensive], budget)
    assert counts.table.cost(found, "flops") == low


@pytest.mark.parametrize("skips", ["last", "first"])
def test_among_codes_that_represent_a_network(skips: str, rng: np.random.Generator) -> None:
    """Against all 6,561 codes, of which 3,969 represent a network; any code is worth no less."""
    space = load_space("nas_bench_macro", 32, 10)
    table, networks = load_table(space), Equivalence(space, skips)
    counts = BudgetCounts(table, "flops", networks)
    everything = all_codes(space)
    represents = (networks.canonical(everything) == everything).all(axis=1)
    for high in (20_000_000, 40_000_000, counts.median, None):
        values = rng.normal(size=(8, 3))
        budget = Budget(counts, None, high)
        sums = values[np.arange(8), everything].sum(1)
        sums[~budget.contains(everything)] = -np.inf
        found = highest_sum(values, budget, canonical=True)
        expected = everything[np.where(represents, sums, -np.inf).argmax()]
        assert found.tolist() == expected.tolist()
        assert highest_sum(values, budget).tolist() == everything[sums.argmax()].tolist()


def test_ties_are_not_unfolded() -> None:
    """Probabilities as after a first step of binary gates: many sums differ by rounding only."""
    space = load_space("fbnet", 8, 10, [8] * 9)
    budget = Budget(counts := BudgetCounts(load_table(space), "flops"), None, counts.median)
    rng, alpha = np.random.default_rng(0), np.zeros((space.num_layers, space.max_choices))
    for row, n in zip(alpha, space.num_choices, strict=True):
        row[rng.choice(n, 2, replace=False)] += rng.normal() * np.array([1e-3, -1e-3])
        row[n:] = -np.inf
    p = np.exp(alpha) / np.exp(alpha).sum(1, keepdims=True)
    found = most_probable(p.astype(np.float32).astype(float), budget)
    assert budget.contains(found[None])[0]
    drawn = budget.sample(5000, rng)
    rows = np.arange(space.num_layers)
    assert np.log(p[rows, found]).sum() >= np.log(p[rows, drawn]).sum(1).max()
