"""The lookup table and the exact budget, against independent counts and brute force."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY
from helpers import independent_counts, whole_budget

from lookup_table import Budget, BudgetCounts, LookupTable, architecture_keys
from lookup_table.builder import load_table
from model import SearchSpace, load_space
from model.space_file import shipped_spaces


@pytest.mark.parametrize("name", shipped_spaces())
@pytest.mark.parametrize("size", [32, 96])
def test_table_equals_an_independent_count(name: str, size: int, rng: np.random.Generator) -> None:
    """Each choice of each layer, and random subnets; a classifier of 7 classes is in the count."""
    space = load_space(name, size, 7)
    table = load_table(space)
    uniform = np.arange(space.max_choices)[:, None] % space.num_choices
    random = rng.integers(0, space.num_choices, size=(3, space.num_layers))
    for architecture in np.vstack([uniform, random]) if size == 32 else random:
        costs = table.cost(architecture, "flops"), table.cost(architecture, "params")
        assert costs == independent_counts(space, architecture)


def test_a_cached_table_is_not_read_for_another_space(tmp_path: Path) -> None:
    """Same folder, other sizes, classes, widths and spaces: each gets its own numbers."""
    base = load_space(TINY, 8, 10)
    variants = [
        base,
        load_space(TINY, 16, 10),
        load_space(TINY, 8, 100),
        load_space(TINY, 8, 10, [16, *base.widths[1:]]),
        load_space("nas_bench_macro", 8, 10),
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
