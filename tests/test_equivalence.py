"""Codes that are one network: against networks that are compared layer by layer, and counts."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from helpers import all_codes, built
from scipy.stats import chisquare

from lookup_table import Budget, BudgetCounts, Equivalence, LookupTable, architecture_keys
from model import SearchSpace, load_space

BOTH = pytest.mark.parametrize("skips", ["last", "first"])


@BOTH
def test_nas_bench_macro_has_3969_networks(skips: str) -> None:
    """The published count (arXiv 2103.11922)."""
    space = load_space("nas_bench_macro", 32, 10)
    equivalence = Equivalence(space, skips)
    codes = all_codes(space)
    canonical = equivalence.canonical(codes)
    assert len(codes) == 6561
    assert len(np.unique(canonical, axis=0)) == equivalence.size == 3969
    assert (equivalence.canonical(codes) == codes).all(axis=-1).sum() == 3969
    assert np.array_equal(equivalence.canonical(canonical), canonical)


@pytest.fixture(scope="module")
def networks(tiny: SearchSpace) -> dict[tuple[int, ...], str]:
    """What each code builds."""
    codes = all_codes(tiny)
    return {k: built(tiny, c) for k, c in zip(architecture_keys(codes), codes, strict=True)}


@BOTH
def test_codes_are_equivalent_just_where_they_build_the_same_network(
    tiny: SearchSpace, networks: dict[tuple[int, ...], str], skips: str
) -> None:
    equivalence = Equivalence(tiny, skips)
    keys = architecture_keys(equivalence.canonical(all_codes(tiny)))
    pairs = set(zip(networks.values(), keys, strict=True))
    assert len(set(networks.values())) == len(set(keys)) == len(pairs) == equivalence.size == 156
    assert list(networks.values()) == [networks[key] for key in keys]


def test_where_the_skips_stand(tiny: SearchSpace) -> None:
    skip = tiny.layers[0].choices.index("skip")
    code = np.array([skip, 1, 0, 2])
    assert Equivalence(tiny, "last").canonical(code).tolist() == [1, skip, 0, 2]
    assert Equivalence(tiny, "first").canonical(code).tolist() == code.tolist()
    assert Equivalence(load_space("spos", 32, 10)).runs == []


@pytest.mark.parametrize("skips", [None, "last", "first"])
@pytest.mark.parametrize("metric", ["flops", "params"])
def test_counts_and_draws_are_of_networks(
    tiny: SearchSpace,
    tiny_table: LookupTable,
    skips: str | None,
    metric: str,
    rng: np.random.Generator,
) -> None:
    """Brute force: every network (or code) inside once, each with the same probability."""
    equivalence = None if skips is None else Equivalence(tiny, skips)
    networks = all_codes(tiny)
    if equivalence is not None:
        networks = np.unique(equivalence.canonical(networks), axis=0)
    cost = tiny_table.cost(networks, metric)
    ordered = np.sort(cost)
    counts = BudgetCounts(tiny_table, metric, equivalence)
    assert counts.median == ordered[math.ceil(len(cost) / 2) - 1]
    for low, high in [(None, None), (None, 80), (40, 50), (0, 0)]:
        low, high = (None if end is None else ordered[end] for end in (low, high))
        budget = Budget(counts, low, high)
        is_inside = (cost >= (low or 0)) & (cost <= (high or ordered[-1]))
        inside = networks[is_inside]
        assert np.array_equal(budget.contains(networks), is_inside)
        assert budget.count == len(inside)
        assert np.array_equal(budget.enumerate(), inside)
        keys = architecture_keys(inside)
        tally = Counter(architecture_keys(budget.sample(60 * len(inside), rng)))
        assert tally.keys() <= set(keys)  # each the network's own code
        if len(keys) > 1:
            assert chisquare([tally[key] for key in keys]).pvalue > 1e-4
        largest = tiny_table.cost(budget.largest(), metric)
        assert largest == tiny_table.cost(inside, metric).max()
