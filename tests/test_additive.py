"""Additive search against all networks of a space, one by one."""

from __future__ import annotations

import numpy as np
import pytest

from lookup_table import Budget, BudgetCounts, Equivalence, LookupTable
from lookup_table.builder import load_table
from model import SearchSpace, load_space
from search_strategy.additive import AdditiveSearch, fit_effects, smoothed
from search_strategy.history import History, run_search
from search_strategy.random_search import RandomConfig


def test_effects_are_the_least_squares_fit(rng: np.random.Generator) -> None:
    """Where scores are sums of effects they are found again; a choice never seen is worth 0."""
    num_choices = np.array([3, 2, 4])
    truth = rng.normal(size=(3, 4))
    architectures = rng.integers(0, num_choices - [1, 0, 0], size=(60, 3))  # never choice 2 of 0
    scores = 70 + truth[np.arange(3), architectures].sum(1)
    effects = fit_effects(architectures, scores, num_choices)
    fitted = scores.mean() + effects[np.arange(3), architectures].sum(1)
    assert fitted == pytest.approx(scores)
    assert effects[2, 1] - effects[2, 0] == pytest.approx(truth[2, 1] - truth[2, 0])
    assert effects[0, 2] == pytest.approx(0) and effects[0, 3] == effects[1, 2] == 0


def test_smoothed_scores_are_halfway_to_the_sums(rng: np.random.Generator) -> None:
    """Where every combination is scored once, the fitted sum is that of the marginal means."""
    scores = rng.normal(70, 5, size=(3, 2, 4))
    architectures = np.indices(scores.shape).reshape(3, -1).T  # all [24, 3]
    marginal = [scores.mean(axis=axes) - scores.mean() for axes in ((1, 2), (0, 2), (0, 1))]
    sums = scores.mean() + sum(
        m[choices] for m, choices in zip(marginal, architectures.T, strict=True)
    )
    expected = (scores.ravel() + sums) / 2
    order = rng.permutation(24)
    found = smoothed(architectures[order], scores.ravel()[order], np.array([3, 2, 4]))
    assert found == pytest.approx(expected[order])


def test_a_smooth_history_chooses_better_from_noisy_scores(rng: np.random.Generator) -> None:
    """Of the same candidates: nearer to the truth than the highest score, over 20 draws of noise;
    its table has what it chose by."""
    space = load_space("nas_bench_macro", 32, 10)
    table = load_table(space)
    budget = Budget(BudgetCounts(table, "flops", Equivalence(space)), None, None)
    worth = rng.normal(size=(8, 3)) * 3

    drawn = budget.sample_unique(300, rng)
    true = worth[np.arange(8), drawn].sum(1)
    regrets = []
    for _ in range(20):
        noisy = true + rng.normal(size=300) * 4
        histories = [History(space, table, smooth=smooth) for smooth in (False, True)]
        for history in histories:
            history.add(drawn, noisy)
        regrets.append([true.max() - true[h.best("flops")] for h in histories])
    plain, smooth = np.mean(regrets, axis=0)
    assert smooth < 0.8 * plain, (plain, smooth)
    header, *lines = history.to_csv().splitlines()
    assert header.endswith("params,smoothed,top1")
    column = [float(line.split(",")[-2]) for line in lines]
    assert int(np.argmax(column)) == history.best("flops")


@pytest.mark.parametrize("share", [0.3, 0.6, 1.0])
def test_it_chooses_the_best_sum_and_not_the_luckiest_score(
    share: float, rng: np.random.Generator
) -> None:
    space = load_space("nas_bench_macro", 32, 10)
    table = load_table(space)
    counts = BudgetCounts(table, "flops", Equivalence(space))
    low, high = table.range("flops")
    budget = Budget(counts, None, int(low + share * (high - low)))
    worth = rng.normal(size=(8, 3)) * 3
    everything = budget.enumerate()
    best = everything[worth[np.arange(8), everything].sum(1).argmax()]

    def noisy(architectures: np.ndarray) -> np.ndarray:
        return worth[np.arange(8), architectures].sum(1) + rng.normal(size=len(architectures))

    history = History(space, table)
    search = AdditiveSearch(RandomConfig(random_iteration=700), budget, np.random.default_rng(0))
    run_search(search, noisy, history)
    assert history.architectures[history.best("flops")].tolist() == search.chosen.tolist()
    regret = (worth[np.arange(8), best] - worth[np.arange(8), search.chosen]).sum()
    lucky = history.architectures[history.scores.argmax()]
    assert 0 <= regret <= (worth[np.arange(8), best] - worth[np.arange(8), lucky]).sum()
    assert regret < 0.5  # noise of 1 in each score, 16 effects, 700 scores
    assert len({tuple(a) for a in history.architectures.tolist()}) == len(history)
    assert len(history) - min(700, budget.count) in (0, 1)
    assert budget.contains(history.architectures).all()


def test_a_budget_of_few_networks(tiny: SearchSpace, tiny_table: LookupTable) -> None:
    """All are scored, and one of them is chosen."""
    counts = BudgetCounts(tiny_table, "flops", Equivalence(tiny))
    budget = Budget(counts, None, tiny_table.range("flops")[0])
    history = History(tiny, tiny_table)
    run_search(
        AdditiveSearch(RandomConfig(random_iteration=50), budget, np.random.default_rng(0)),
        lambda a: a.sum(1),
        history,
    )
    assert len(history) == budget.count
    assert budget.contains(history.architectures[history.best("flops")][None])[0]
