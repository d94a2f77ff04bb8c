"""The lookup table and the exact budget, against independent counts and brute force."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from helpers import all_codes, independent_counts, whole_budget
from scipy.stats import chisquare

from lookup_table import Budget, BudgetCounts, LookupTable, architecture_keys
from lookup_table.builder import load_table
from model import SearchSpace, load_space
from model.space_file import shipped_spaces


@pytest.mark.parametrize("name", shipped_spaces())
@pytest.mark.parametrize("size", [32, 96])
def test_table_equals_an_independent_count(name: str, size: int, rng: np.random.Generator) -> None:
    """20 random subnets; the classifier of 7 classes is in the count."""
    space = load_space(name, size, 7)
    table = load_table(space)
    architectures = rng.integers(0, space.num_choices, size=(20, space.num_layers))
    flops, params = table.cost(architectures, "flops"), table.cost(architectures, "params")
    for i in range(20 if size == 32 else 4):
        assert (flops[i], params[i]) == independent_counts(space, architectures[i])


def test_macs_include_the_classifier() -> None:
    small, big = (load_table(load_space("proxylessnas", 32, n)) for n in (10, 110))
    path = np.zeros(21, dtype=np.int64)
    assert big.cost(path, "flops") - small.cost(path, "flops") == 100 * 1280
    assert big.cost(path, "params") - small.cost(path, "params") == 100 * 1280 + 100


def test_a_cached_table_is_not_read_for_another_space(tmp_path: Path) -> None:
    """Same folder, other sizes, classes, widths and spaces: each gets its own numbers."""
    base = load_space("proxylessnas", 32, 10)
    variants = [
        base,
        load_space("proxylessnas", 64, 10),
        load_space("proxylessnas", 32, 100),
        load_space("proxylessnas", 32, 10, [16, *base.widths[1:]]),
        load_space("fbnet", 32, 10),
        load_space("spos", 32, 10),
    ]
    cached = [load_table(space, tmp_path) for space in variants for _ in range(2)]
    for i, space in enumerate(variants):
        fresh = load_table(space)
        for table in cached[2 * i : 2 * i + 2]:
            for metric in ("flops", "params"):
                assert np.array_equal(table.costs[metric], fresh.costs[metric])
                assert table.fixed == fresh.fixed
    assert len(list(tmp_path.glob("*.json"))) == len(variants)


@pytest.mark.parametrize("damage", ["", "{}", "[1]", "key", "shape"])
def test_a_damaged_cache_is_built_again(tmp_path: Path, tiny: SearchSpace, damage: str) -> None:
    fresh = load_table(tiny, tmp_path)
    (file,) = tmp_path.glob("*.json")
    content = json.loads(file.read_text())
    if damage == "key":
        content["key"]["input_size"] = 9
    if damage == "shape":
        content["costs"]["flops"] = content["costs"]["flops"][:-1]
    file.write_text(json.dumps(content) if damage in ("key", "shape") else damage)
    again = load_table(tiny, tmp_path)
    assert np.array_equal(again.costs["flops"], fresh.costs["flops"])
    assert load_table(tiny, tmp_path).fixed == fresh.fixed


@pytest.mark.parametrize("metric", ["flops", "params"])
def test_counts_and_samples_against_brute_force(
    tiny: SearchSpace, tiny_table: LookupTable, metric: str, rng: np.random.Generator
) -> None:
    everyone = all_codes(tiny)
    cost = np.sort(tiny_table.cost(everyone, metric))
    counts = BudgetCounts(tiny_table, metric)
    assert counts.median == cost[math.ceil(len(cost) / 2) - 1]
    for low, high in [(None, None), (None, cost[100]), (cost[50], cost[60]), (cost[0], cost[0])]:
        budget = Budget(counts, low, high)
        inside = everyone[budget.contains(everyone)]
        true = tiny_table.cost(everyone, metric)
        expected = (true >= (low or 0)) & (true <= (high or cost[-1]))
        assert budget.count == len(inside) == expected.sum()
        assert np.array_equal(budget.enumerate(), inside)
        drawn = architecture_keys(budget.sample(60 * len(inside), rng))
        tally = {key: 0 for key in architecture_keys(inside)}
        for key in drawn:
            tally[key] += 1  # a KeyError would be one outside the budget
        if len(tally) > 1:
            assert chisquare(list(tally.values())).pvalue > 1e-4


def test_a_space_counted_in_cells_keeps_the_budget(rng: np.random.Generator) -> None:
    """Costs without a common unit are counted in cells; draws are checked against true costs."""
    costs = rng.integers(10**7, 10**8, size=(6, 4)) | 1
    table = LookupTable({"flops": costs, "params": costs}, {"flops": 5, "params": 5}, np.full(6, 4))
    counts = BudgetCounts(table, "flops")
    assert not counts.exact
    everyone = all_codes(table)
    true = np.sort(table.cost(everyone, "flops"))
    budget = Budget(counts, int(true[1000]), int(true[1400]))
    drawn = budget.sample_unique(300, rng)
    assert len(set(architecture_keys(drawn))) == 300 and budget.contains(drawn).all()


@pytest.mark.parametrize(
    ("low", "high", "ends"),
    [
        (None, 100, "at most 0.0001 M MACs"),
        (10**9, None, "at least 1,000.000 M MACs"),
        (400_001, 400_000, "at least 0.400 M MACs and at most 0.400 M MACs"),
    ],
)
def test_an_infeasible_budget_is_an_error_with_the_range(
    tiny_table: LookupTable, low: int | None, high: int | None, ends: str
) -> None:
    """At once, before anything is drawn: there is no loop that could go on forever."""
    with pytest.raises(ValueError, match=rf"costs {ends}: its range is [\d.]+ to [\d.]+ M MACs"):
        Budget(BudgetCounts(tiny_table, "flops"), low, high)


def test_unique_samples_end_when_all_are_found(
    tiny: SearchSpace, tiny_table: LookupTable, rng: np.random.Generator
) -> None:
    budget = whole_budget(tiny_table)
    first = budget.sample_unique(100, rng)
    rest = budget.sample_unique(10_000, rng, exclude=architecture_keys(first))
    keys = architecture_keys(first) + architecture_keys(rest)
    assert len(keys) == len(set(keys)) == tiny.size == 4 * 4 * 3 * 4
    assert len(budget.sample_unique(5, rng, exclude=keys)) == 0
