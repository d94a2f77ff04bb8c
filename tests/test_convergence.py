"""What a search says of its architecture parameters."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import entropy

from lookup_table import BudgetCounts, LookupTable
from lookup_table.builder import load_table
from model import SearchSpace, load_space
from sampler.convergence import (
    convergence_rows,
    count_skips,
    decisions,
    entropy_share,
    expected_cost,
)


def random_probabilities(space: SearchSpace, sharpness: float) -> np.ndarray:
    logits = sharpness * np.random.default_rng(0).normal(size=(space.num_layers, space.max_choices))
    logits[np.arange(space.max_choices) >= space.num_choices[:, None]] = -np.inf
    p = np.exp(logits)
    return p / p.sum(1, keepdims=True)


def test_entropy_and_cost_against_scipy_and_samples(
    tiny: SearchSpace, tiny_table: LookupTable
) -> None:
    p = random_probabilities(tiny, 1.0)
    share = sum(entropy(row) for row in p) / sum(np.log(tiny.num_choices))
    assert entropy_share(p, tiny.num_choices) == pytest.approx(share)
    assert entropy_share(random_probabilities(tiny, 0.0), tiny.num_choices) == pytest.approx(1)
    rng = np.random.default_rng(1)
    drawn = np.stack([rng.choice(len(row), 20_000, p=row) for row in p], axis=1)
    costs = tiny_table.cost(drawn, "flops")
    assert abs(costs.mean() - expected_cost(p, tiny_table, "flops")) < 5 * costs.std() / 20_000**0.5


def test_skips_are_counted_where_there_is_a_choice() -> None:
    space = load_space("singlepath", 8, 10)
    names = ["k3_e3", "skip", "skip", "k5_e6"] * 5
    assert count_skips(space, space.encode([*names, "k3_e6"])) == (10, 15)
    macro = load_space("nas_bench_macro", 16, 10)  # three of its layers have stride 2
    assert count_skips(macro, macro.encode(["identity"] * 8)) == (5, 5)


def test_a_superkernel_is_costed_by_its_decisions() -> None:
    space = load_space("singlepath", 8, 10)
    p = random_probabilities(space, 1.0)
    assert (decisions(space, p).argmax(1) == p.argmax(1)).all()
    assert (decisions(space, p).sum(1) == 1).all() and decisions(space, p).max() == 1


def test_warnings_say_what_did_not_converge(tiny: SearchSpace, tiny_table: LookupTable) -> None:
    counts = BudgetCounts(tiny_table, "flops")
    skips = tiny.encode(["skip", "skip", "k3_e3", "skip"])
    uniform = random_probabilities(tiny, 0.0)
    high = tiny_table.range("flops")[1]
    rows, warnings = convergence_rows(tiny, counts, uniform, skips, high)
    assert rows["entropy of choices"].startswith("100% of uniform")
    assert len(warnings) == 3
    for warning, flag in zip(warnings, ("--a-lr", "--hc-weight", "--target-hc"), strict=True):
        assert flag in warning
    for target, advice in ((high // 9, "another loss and a higher one"), (9 * high, "a lower one")):
        assert advice in convergence_rows(tiny, counts, uniform, skips, target)[1][1]
    decided = np.eye(4)[[0, 1, 2, 1]]
    answer = decided.argmax(1)
    cost = int(tiny_table.cost(answer, "flops"))
    rows, warnings = convergence_rows(tiny, counts, decided, answer, cost)
    assert not warnings and "1.000 of the target" in rows["expected cost"]
    assert rows["probability"].startswith("1 of the answer") and "0 of 3" in rows["skips"]
    rows, _ = convergence_rows(tiny, counts, decided, answer, None)
    assert "target" not in rows["expected cost"]


def test_thresholds_decide_at_any_entropy() -> None:
    space = load_space("singlepath", 8, 10)
    counts = BudgetCounts(load_table(space), "flops")
    uniform = random_probabilities(space, 0.0)
    answer = uniform.argmax(1)
    cost = int(counts.table.cost(answer, "flops"))
    rows, warnings = convergence_rows(space, counts, uniform, answer, cost)
    assert rows["entropy of choices"].startswith("100% of uniform (of the margins") and not warnings
