"""Several limits at once, against brute force; and what `--limit` says."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from helpers import all_codes
from scipy.stats import chisquare

from lookup_table import (
    Budget,
    BudgetCounts,
    Equivalence,
    Limit,
    LimitedBudget,
    LookupTable,
    architecture_keys,
    build_budget,
    limited,
    median_cost,
    parse_limit,
    resolve_limits,
    run_limits,
)
from lookup_table.budget import repair
from lookup_table.builder import load_table
from lookup_table.joint import JointCounts
from lookup_table.knapsack import highest_sum, largest_of_two, most_probable
from model import SearchSpace, load_space
from search_strategy.differentiable import log_probability


def networks(space: SearchSpace) -> np.ndarray:
    """The code of each network, found by brute force."""
    return np.unique(Equivalence(space).canonical(all_codes(space)), axis=0)


def costly(table: LookupTable, rng: np.random.Generator) -> LookupTable:
    """The same table with a latency of its own per choice, and with a metric that is a maximum."""
    shape = table.costs["flops"].shape
    table = table.with_metric("latency", rng.integers(0, 10**6, shape), 10**5, "ms", {})
    heights = rng.integers(1, 60, shape) * 10**6
    return table.with_metric("height", heights, 10**6, "m", {}, is_peak=True)


def quantile(table: LookupTable, among: np.ndarray, metric: str, share: float) -> int:
    return int(np.sort(table.cost(among, metric))[int(share * (len(among) - 1))])


def is_inside(table: LookupTable, among: np.ndarray, limits: list[Limit]) -> np.ndarray:
    """By plain sums and maxima, independent of `LookupTable.cost`; bool [N]."""
    kept = np.ones(len(among), dtype=bool)
    for limit in limits:
        parts = table.costs[limit.metric][np.arange(among.shape[1]), among]  # [N, L]
        fixed = table.fixed[limit.metric]
        cost = np.maximum(parts.max(1), fixed) if limit.metric == "height" else parts.sum(1) + fixed
        kept &= (cost >= (limit.low or 0)) & (cost <= (limit.high or 10**15))
    return kept


def inside(table: LookupTable, among: np.ndarray, limits: list[Limit]) -> np.ndarray:
    return among[is_inside(table, among, limits)]


CASES = {  # metric -> shares of networks below the lowest and the highest cost allowed
    "two": {"flops": (None, 0.5), "params": (None, 0.5)},
    "windows": {"flops": (0.2, 0.7), "latency": (0.3, 0.8)},
    "three": {"flops": (None, 0.6), "params": (None, 0.7), "latency": (None, 0.6)},
    "with a maximum": {"latency": (None, 0.8), "height": (None, 0.8)},
    "two and a maximum": {"flops": (0.1, 0.8), "latency": (None, 0.7), "height": (None, 0.9)},
    "a maximum alone": {"height": (None, 0.3)},
    "a maximum from below": {"flops": (None, 0.5), "height": (0.5, 0.9)},
}


def limits_of(case: str, table: LookupTable, among: np.ndarray) -> list[Limit]:
    return [
        Limit(m, *(None if s is None else quantile(table, among, m, s) for s in shares))
        for m, shares in CASES[case].items()
    ]


@pytest.fixture(scope="module")
def macro() -> SearchSpace:
    return load_space("nas_bench_macro", 32, 10)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("large", [False, True], ids=["listed", "drawn"])
def test_counts_and_draws_against_brute_force(
    macro: SearchSpace, case: str, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listed as small spaces are, and drawn as if the space were too large for that."""
    rng = np.random.default_rng(1)
    table, among = costly(load_table(macro), rng), networks(macro)
    limits = limits_of(case, table, among)
    if large:
        monkeypatch.setattr(limited, "MAX_LISTED", 0)
    budget = build_budget(table, limits, Equivalence(macro))
    expected = inside(table, among, limits)
    assert isinstance(budget, LimitedBudget) and 1 < len(expected) < len(among)
    assert np.array_equal(budget.contains(among), is_inside(table, among, limits))
    assert budget.count == pytest.approx(len(expected), rel=0.1 if large else 0)
    if large:
        with pytest.raises(ValueError, match="too many to list"):
            budget.enumerate()
    else:
        assert np.array_equal(budget.enumerate(), expected)
    keys = architecture_keys(expected)
    tally = Counter(architecture_keys(budget.sample(30 * len(expected), rng)))
    assert tally.keys() <= set(keys) and chisquare([tally[key] for key in keys]).pvalue > 1e-4
    some = architecture_keys(budget.sample_unique(len(keys) // 2, rng, exclude=keys[:9]))
    assert len(set(some)) == len(some) == len(keys) // 2 and not set(some) & set(keys[:9])
    largest = budget.largest()
    assert budget.contains(largest[None])[0]
    if budget.largest_is_exact:
        most = table.cost(expected, limits[0].metric).max()
        assert table.cost(largest, limits[0].metric) == most
    exact = case in ("two", "with a maximum") or not large
    assert budget.largest_is_exact or not exact


@pytest.mark.parametrize("case", ["two", "windows", "two and a maximum"])
def test_cells_of_two_limits_against_brute_force(
    macro: SearchSpace, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cells so coarse that all kinds of rounding occur: a superset, drawn from uniformly."""
    rng = np.random.default_rng(2)
    monkeypatch.setattr("lookup_table.joint.CELLS", 300)
    table, among = costly(load_table(macro), rng), networks(macro)
    limits = limits_of(case, table, among)
    allowed = limited.allowed_choices(table, limits)
    joint = JointCounts(table, (limits[0], limits[1]), Equivalence(macro), allowed)
    expected = inside(table, among, limits)
    found = joint.list_inside()
    assert found is not None
    assert np.array_equal(inside(table, found, limits), expected)
    assert len(expected) <= joint.size < len(among)
    drawn = joint.draw_inside(40 * len(expected), rng)
    assert (Equivalence(macro).canonical(drawn) == drawn).all()
    tally = Counter(architecture_keys(inside(table, drawn, limits)))
    assert chisquare([tally[key] for key in architecture_keys(expected)]).pvalue > 1e-4


def test_few_of_a_large_space_are_listed() -> None:
    """Both limits near what is possible: far too few for a draw to hit, and all of them found."""
    space = load_space("proxylessnas", 32, 10)
    table, equivalence = costly(load_table(space), np.random.default_rng(3)), Equivalence(space)
    values = -table.costs["latency"].astype(float)
    flops = BudgetCounts(table, "flops", equivalence)
    target = int(table.range("flops")[0] * 1.1)
    fastest = int(table.cost(highest_sum(values, Budget(flops, None, target)), "latency"))
    limits = [Limit("flops", None, target), Limit("latency", None, int(1.02 * fastest))]
    budget = build_budget(table, limits, equivalence)
    assert budget.listed is not None and budget.count > 0
    everything = Budget(flops, None, target).sample(10**5, np.random.default_rng(0))
    kept = set(architecture_keys(everything[budget.contains(everything)]))
    assert kept <= set(architecture_keys(budget.enumerate()))
    with pytest.raises(
        ValueError, match=r"tightest pair is .* and .*: within the former there are"
    ):
        build_budget(table, [limits[0], Limit("latency", None, fastest - 1)], equivalence)


@pytest.mark.parametrize("case", CASES)
def test_the_best_sum_within_several_limits(macro: SearchSpace, case: str) -> None:
    """The knapsack read-off, over all 6,561 codes and over those that represent a network."""
    rng = np.random.default_rng(4)
    table, everything = costly(load_table(macro), rng), all_codes(macro)
    limits = limits_of(case, table, networks(macro))
    budget = build_budget(table, limits, Equivalence(macro))
    kept = inside(table, everything, limits)
    for seed in range(3):
        values = np.random.default_rng(seed).normal(size=(8, 3))
        sums = values[np.arange(8), kept].sum(1)
        found = highest_sum(values, budget)
        assert values[np.arange(8), found].sum() == pytest.approx(sums.max())
        assert is_inside(table, found[None], limits).all()
        represents = (Equivalence(macro).canonical(kept) == kept).all(1)
        found = highest_sum(values, budget, canonical=True)
        assert found.tolist() == kept[np.where(represents, sums, -np.inf).argmax()].tolist()


def test_a_large_space_at_its_medians(rng: np.random.Generator) -> None:
    """Draws and the read-off of limits that no list can check, against each other."""
    space = load_space("fbnet", 224, 1000)
    table, equivalence = load_table(space), Equivalence(space)
    limits = [
        Limit(metric, None, BudgetCounts(table, metric, equivalence).median)
        for metric in ("flops", "params")
    ]
    budget = build_budget(table, limits, equivalence)
    drawn = budget.sample(20_000, rng)
    assert len(drawn) == 20_000 and budget.contains(drawn).all()
    assert (equivalence.canonical(drawn) == drawn).all()
    p = rng.dirichlet(np.full(space.max_choices, 0.5), size=space.num_layers)
    found = most_probable(p, budget)
    assert budget.contains(found[None]).all()
    best = np.log(p[np.arange(space.num_layers), drawn]).sum(1).max()
    assert log_probability(p, found) >= best


def test_repair_brings_into_all_limits(macro: SearchSpace, rng: np.random.Generator) -> None:
    table, among = costly(load_table(macro), rng), networks(macro)
    limits = limits_of("two and a maximum", table, among)
    budget = build_budget(table, limits, Equivalence(macro))
    random = rng.integers(0, macro.num_choices, size=(500, 8))
    repaired = repair(random, budget, rng)
    kept = budget.contains(random)
    assert np.array_equal(repaired[kept], random[kept])
    assert budget.contains(repaired).mean() > 0.9 > 0.6 > kept.mean()


def test_one_limit_is_the_budget_of_one_limit(
    tiny: SearchSpace, tiny_table: LookupTable, rng: np.random.Generator
) -> None:
    budget = build_budget(tiny_table, [Limit("flops", None, 10**9)], Equivalence(tiny))
    assert type(budget) is Budget and budget.limits == (Limit("flops", None, 10**9),)
    known = networks(tiny)[::2]
    limits = [Limit("flops", None, 10**9), Limit("params", None, 10**9)]
    budget = build_budget(tiny_table, limits, Equivalence(tiny), among=known)
    assert np.array_equal(budget.enumerate(), known)


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ([("flops", None, 1), ("params", None, 10**9)], "the limit MACs of at most 1e-06 M"),
        ([("flops", 9, 8), ("params", None, 10**9)], "the limit MACs from 9e-06 to 8e-06 M"),
        ([("height", None, 10**6), ("depth", None, 1)], "no choice of layer 1 is within height"),
        ([("height", None, 10**6), ("latency", None, 1)], "tightest pair is height .* latency"),
        ([("height", 10**6 + 1, 2 * 10**6 - 1)], "no architecture is within height from 1.000"),
    ],
)
def test_what_no_architecture_has_is_said(macro: SearchSpace, limits: list, says: str) -> None:
    table = costly(load_table(macro), np.random.default_rng(1))
    low, deep = np.array([[1, 2, 2]] * 8) * 10**6, np.array([[2, 1, 1]] * 8)
    table = table.with_metric("height", low, 0, "m", {}, is_peak=True)
    table = table.with_metric("depth", deep, 0, "m", {}, is_peak=True)
    table = table.with_metric("latency", deep - 1, 0, "ms", {})
    with pytest.raises(ValueError, match=says):
        build_budget(table, [Limit(*limit) for limit in limits])


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("params=4", None, 4_000_000),
        ("params = 4.5 : 2", 2_000_000, 4_500_000),
        ("params=none:1", 1_000_000, None),
        ("params=50%", None, 6_000_000),
        ("params=50%:25%", 3_000_000, 6_000_000),
    ],
)
def test_limits_are_read(text: str, low: int | None, high: int | None) -> None:
    costs = np.array([[5, 10]]) * 10**6
    table = LookupTable({"params": costs}, {"params": 2 * 10**6}, np.array([2]))
    assert resolve_limits([parse_limit(text)], table) == [Limit("params", low, high)]


WRONG = "|params|=4|params=|params=x|params=4:|params=-1|params=0|params=nan|params=inf|params=2:4"
WRONG += "|params=none|params=4=5|params=4:2:1|params=1e13"


@pytest.mark.parametrize("text", WRONG.split("|"))
def test_limits_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"METRIC=VALUE|the lowest value comes second"):
        parse_limit(text)


def test_a_metric_is_known_and_limited_once(tiny_table: LookupTable) -> None:
    for flags, says in (
        (["energy=3"], "--limit energy: the metric is unknown"),
        (["params=3", "params=4"], "limited by another --limit already"),
        (["flops=3"], "limited by --target-hc and --min-hc already"),
    ):
        with pytest.raises(ValueError, match=says):
            resolve_limits([parse_limit(flag) for flag in flags], tiny_table, taken=["flops"])


@pytest.mark.parametrize("metric", ["flops", "height"])
def test_the_median_of_a_sum_and_of_a_maximum(macro: SearchSpace, metric: str) -> None:
    table, everything = costly(load_table(macro), np.random.default_rng(5)), all_codes(macro)
    assert median_cost(table, metric) == quantile(table, everything, metric, 0.5)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (11, None),
        (12, None),
        (12.0000001, None),  # the largest, as it is printed
        (13, r"13.000 M params is more than the largest .* \(12.000 M params\); lower it"),
        (8_000_000, r"did you mean 8 M params\?"),
        (8_000, r"did you mean 8 M params\?"),
    ],
)
def test_upper_limits_in_another_unit_are_refused(value: float, says: str | None) -> None:
    costs = np.array([[5, 10]]) * 10**6
    table = LookupTable(
        {"params": costs, "flops": costs}, {"params": 2 * 10**6, "flops": 0}, np.array([2])
    )
    for flag, metric, high, further in (
        ("--target-hc", "params", value, ()),
        ("--limit params", "flops", None, (f"params={value}",)),
    ):
        if says is None:
            assert run_limits(metric, None, high, further, table)[-1].high == round(1e6 * value)
        else:
            with pytest.raises(ValueError, match=f"{flag}: .*{says}"):
                run_limits(metric, None, high, further, table)


def test_a_limit_below_the_smallest_in_another_unit(tiny_table: LookupTable) -> None:
    lowest, highest = tiny_table.range("flops")
    limit = Limit("flops", None, (lowest + highest) // 2 // 1000)
    for limits in ([limit], [limit, Limit("params", None, 10**9)]):
        with pytest.raises(ValueError, match=r"did you mean .* M MACs\?"):
            build_budget(tiny_table, limits)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.7])
def test_the_largest_network_of_odd_costs(
    macro: SearchSpace, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Costs that are counted in cells: a subset sum, against brute force; and with few bits."""
    rng = np.random.default_rng(6)
    table, among = costly(load_table(macro), rng), networks(macro)
    monkeypatch.setattr("lookup_table.counts.MAX_BINS", 1)
    monkeypatch.setattr("lookup_table.budget.MAX_LISTED", 0)
    high = quantile(table, among, "latency", share) + 7
    budget = Budget(BudgetCounts(table, "latency", Equivalence(macro)), None, high)
    assert budget.listed is None and budget.largest_is_exact
    costs = table.cost(among, "latency")
    assert table.cost(budget.largest(), "latency") == costs[costs <= high].max()
    assert np.array_equal(Equivalence(macro).canonical(budget.largest()), budget.largest())
    monkeypatch.setattr("lookup_table.knapsack.MAX_BITS", 1)
    budget = Budget(BudgetCounts(table, "latency", Equivalence(macro)), None, high)
    assert not budget.largest_is_exact and budget.contains(budget.largest()[None])[0]


def test_the_largest_network_of_two_limits_that_bind(macro: SearchSpace) -> None:
    """By each metric in turn, over 30 pairs of limits, against brute force."""
    table, among = load_table(macro), networks(macro)
    allowed = np.ones((8, 3), dtype=bool)
    for seed in range(30):
        shares = np.random.default_rng(seed).uniform(0.2, 0.8, size=2)
        first, second = (
            Limit(metric, None, quantile(table, among, metric, share))
            for metric, share in zip(("flops", "params")[:: (-1) ** seed], shares, strict=True)
        )
        expected = table.cost(inside(table, among, [first, second]), first.metric).max()
        counts = BudgetCounts(table, first.metric, Equivalence(macro), allowed)
        found = largest_of_two(counts, first, second)
        assert found is not None and len(inside(table, found[None], [first, second]))
        assert table.cost(found, first.metric) == expected
