"""Search strategies on fitness functions that are known."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import evolution, whole_budget

from lookup_table import Budget, BudgetCounts, Equivalence, LookupTable, architecture_keys
from lookup_table.builder import load_table
from model import SearchSpace, load_space
from search_strategy.breeding import OVERDRAW, repair
from search_strategy.evolution import EvolutionConfig
from search_strategy.history import History
from search_strategy.random_search import RandomConfig, RandomSearch


@pytest.fixture(scope="module")
def budget() -> Budget:
    table = load_table(load_space("proxylessnas", 8, 10))
    counts = BudgetCounts(table, "flops")
    return Budget(counts, None, counts.median)


def search(strategy, fitness) -> tuple[np.ndarray, np.ndarray]:
    architectures, scores = [], []
    while len(asked := strategy.ask()):
        strategy.tell(asked, fitness(asked))
        architectures.append(asked)
        scores.append(fitness(asked))
    return np.concatenate(architectures), np.concatenate(scores)


def test_evolution_beats_random_at_equal_evaluations(budget: Budget) -> None:
    """Fitness: random main effects and pair effects of neighbouring layers, ten landscapes.

    Neither asks a network twice, or one out of the budget.
    """
    gains = []
    for seed in range(10):
        world = np.random.default_rng(1000 + seed)
        main = world.normal(size=(21, 7))
        pairs = world.normal(size=(20, 7, 7)) / 2
        layers = np.arange(21)

        def fitness(a: np.ndarray, main=main, pairs=pairs, layers=layers) -> np.ndarray:
            return main[layers, a].sum(1) + pairs[layers[:-1], a[:, :-1], a[:, 1:]].sum(1)

        rng, best = np.random.default_rng(seed), []
        drawn = RandomSearch(RandomConfig(random_iteration=300), budget, rng)
        for strategy in (evolution(budget, 10, 30, 8, seed=seed), drawn):
            asked, scores = search(strategy, fitness)
            assert len(asked) == len(set(architecture_keys(asked))) == 300
            assert budget.contains(asked).all()
            best.append(scores.max())
        gains.append(best[0] - best[1])
    assert np.sum(np.array(gains) > 0) >= 9 and np.mean(gains) > 2
    shown = [len(set(column)) for column in asked.T]  # by random search: every choice
    assert shown == budget.counts.num_choices.tolist()


def test_mutation_and_crossover_inherit_from_parents(budget: Budget) -> None:
    """Mutants differ from a parent in about `mutation_prob` of layers; crossed genes are theirs."""
    strategy = evolution(budget, 3, 20, 4, mutation_prob=0.1)
    first = strategy.ask()
    strategy.tell(first, np.arange(20.0))
    parents = first[::-1][:4]  # the four best, best first
    assert np.array_equal(strategy.parents, parents)
    mutants = strategy.mutants(4000)
    changed = (mutants[:, None] != parents).mean(2).min(1)
    expected = 0.1 * (1 - 1 / budget.counts.num_choices).mean()  # a fresh draw can be the same
    assert changed.mean() == pytest.approx(expected, rel=0.05)
    crossed = strategy.crossed(1000)
    assert (crossed[:, None] == parents).any(1).all()
    assert len(set(architecture_keys(crossed))) > 500


def test_parents_are_the_best_of_all_generations(budget: Budget) -> None:
    strategy = evolution(budget, 3, 10, 3)
    first = strategy.ask()
    strategy.tell(first, np.arange(10.0))
    second = strategy.ask()
    strategy.tell(second, np.full(10, -1.0))
    assert np.array_equal(strategy.parents, first[[9, 8, 7]])


@pytest.mark.parametrize("kind", ["random", "evolution"])
@pytest.mark.parametrize("unite", [False, True])
def test_a_small_space_is_searched_whole_and_the_search_ends(
    tiny: SearchSpace, tiny_table: LookupTable, kind: str, unite: bool
) -> None:
    """Of equivalent codes one is asked, to the last of 156 networks."""
    networks = Equivalence(tiny) if unite else None
    everything = Budget(BudgetCounts(tiny_table, "flops", networks), None, None)
    config, rng = RandomConfig(random_iteration=1000), np.random.default_rng(0)
    at_random = RandomSearch(config, everything, rng)
    strategy = at_random if kind == "random" else evolution(everything, 50, 20, 5)
    number = 156 if unite else 192
    assert strategy.total == number
    asked, _ = search(strategy, lambda a: np.sin(a).sum(1))
    assert len(set(architecture_keys(asked))) == len(asked) == number
    assert networks is None or np.array_equal(networks.canonical(asked), asked)


def test_more_parents_than_candidates_is_an_error() -> None:
    with pytest.raises(ValueError, match="--parent-num"):
        EvolutionConfig(generation_num=2, population=5, parent_num=6).check()


def test_best_of_equals_is_the_cheapest(tiny, tiny_table) -> None:
    history = History(tiny, tiny_table)
    architectures = np.array([[2, 1, 2, 1], [0, 0, 0, 0], [0, 3, 0, 3], [1, 1, 1, 1]])
    history.add(architectures, np.array([50.0, 50.0, 50.0, 20.0]))
    assert history.best("flops") == 2


def test_repair_brings_mutants_into_the_budget(budget: Budget) -> None:
    """Every one, by few changes; what was inside stays as it was, and choices stay valid."""
    rng = np.random.default_rng(0)
    table, num_choices = budget.counts.table, budget.counts.num_choices
    drawn = rng.integers(0, num_choices, size=(500, 21))
    inside = budget.contains(drawn)
    repaired = repair(drawn, budget, rng)
    assert 0.3 < inside.mean() < 0.7 and budget.contains(repaired).all()
    assert np.array_equal(repaired[inside], drawn[inside])
    assert (repaired < num_choices).all()
    lowest, highest = table.range("flops")
    tight = Budget(budget.counts, None, lowest + (highest - lowest) // 50)
    assert tight.contains(repair(drawn, tight, rng)).all()
    window = Budget(budget.counts, budget.high - (highest - lowest) // 50, budget.high)
    assert window.contains(repair(drawn, window, rng)).mean() > 0.95


def test_patience_ends_a_search_that_stalls(budget: Budget) -> None:
    strategy = evolution(budget, 30, 10, 3, patience=4)
    asked, _ = search(strategy, lambda a: np.zeros(len(a)))
    assert len(asked) == 5 * 10  # the first is the best; four more bring nothing better
    rising = iter(range(1000))
    strategy = evolution(budget, 12, 10, 3, patience=4)
    assert len(search(strategy, lambda a: np.full(len(a), next(rising)))[0]) == 120


def test_aging_lets_the_old_die(budget: Budget) -> None:
    """The best of all, in the first generation, breeds for two generations and no longer."""
    strategy = evolution(budget, 5, 10, 3, aging=2)
    generations = []
    for g in range(4):
        generations.append(strategy.ask())
        strategy.tell(generations[-1], np.arange(10.0) + (100 if g == 0 else 0))
        if g == 1:
            assert np.array_equal(strategy.parents, generations[0][[9, 8, 7]])
    newest = np.stack([generations[3][9], generations[2][9], generations[3][8]])
    assert np.array_equal(strategy.parents, newest)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_crossover_prob_is_the_share_of_crossed_children(
    share: float, tiny_table: LookupTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are mutated."""
    strategy = evolution(whole_budget(tiny_table), 2, 40, 2, mutation_prob=0, crossover_prob=share)
    made = {}
    for name in ("mutants", "crossed"):
        make = getattr(strategy, name)
        count = lambda n, name=name, make=make: made.update({name: n}) or make(n)  # noqa: E731
        monkeypatch.setattr(strategy, name, count)
    strategy.tell(strategy.ask(), np.arange(40.0))
    assert len(strategy.ask()) == 40
    assert made.get("crossed", 0) == OVERDRAW * 40 * share
    assert made.get("mutants", 0) == OVERDRAW * 40 * (1 - share)
