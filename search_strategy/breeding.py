"""Searches by generations: mutation, crossover, none outside the budget, no network twice.

Legend: L layers, N architectures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np

from config_file.arg_config.fields import flag
from config_file.arg_config.types import integer, number
from lookup_table import Budget, architecture_keys
from lookup_table.budget import repair
from search_strategy.strategy import SearchStrategy, StrategyConfig

MAX_BATCHES = 20  # of children: then the rest of a generation is drawn at random
Make = Callable[[int], np.ndarray]  # n -> children, int [n, L], of any cost
OVERDRAW = 4  # children drawn per one wanted: some stay out of the budget or were seen before


@dataclass(frozen=True, kw_only=True)
class BreedingConfig(StrategyConfig):
    title: ClassVar[str] = "evolution and pareto"

    generation_num: int = flag(
        20,
        integer(1),
        "generations, the random first one included",
        "N",
        names=("--generation_num",),
    )
    population: int = flag(60, integer(2, 100_000), "candidates per generation", "N")
    mutation_prob: float = flag(0.1, number(0, 1), "chance of each layer to be drawn anew", "F")
    crossover_prob: float = flag(0.5, number(0, 1), "share of children that have two parents", "F")


Flags = TypeVar("Flags", bound=BreedingConfig)


def mutate(
    parents: np.ndarray,
    num_choices: np.ndarray,
    prob: float,
    rng: np.random.Generator,
    prior: np.ndarray | None = None,
) -> np.ndarray:
    """Draw each layer of parents, int [N, L], anew with probability `prob`.

    Args:
        prior: probabilities float [L, C] that fresh choices are drawn from; None is uniform.
    """
    if prior is None:
        fresh = rng.integers(0, num_choices, size=parents.shape)  # may be the parent's own choice
    else:
        # a row's shares of [0, 1); its last choice takes what rounding leaves over
        ends = np.cumsum(prior / prior.sum(1, keepdims=True), axis=1)  # [L, C]
        fresh = (rng.random(parents.shape)[:, :, None] >= ends).sum(2)  # inverse CDF, [N, L]
        fresh = np.minimum(fresh, num_choices - 1)
    return np.where(rng.random(parents.shape) < prob, fresh, parents)


def cross(mothers: np.ndarray, fathers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Take each layer from one parent or the other, int [N, L] (uniform crossover)."""
    return np.where(rng.random(mothers.shape) < 0.5, mothers, fathers)


def new_children(
    make: Make, n: int, budget: Budget, taken: set[tuple[int, ...]], rng: np.random.Generator
) -> np.ndarray:
    """Make up to n children within the budget, of networks that are not in `taken`; add them."""
    found: list[np.ndarray] = []
    for _ in range(MAX_BATCHES):
        if len(found) == n:
            break
        drawn = budget.canonical(repair(make(OVERDRAW * n), budget, rng))  # one code per network
        drawn = drawn[budget.contains(drawn)]  # `repair` can fail
        for child, key in zip(drawn, architecture_keys(drawn), strict=True):
            if key not in taken and len(found) < n:
                taken.add(key)
                found.append(child)
    return np.array(found, dtype=np.int64).reshape(len(found), len(budget.counts.num_choices))


class BreedingSearch(SearchStrategy[Flags]):
    """Base of the searches by generations of new, different networks within the budget."""

    generation = 0  # the next one

    @property
    def total(self) -> int:
        return min(self.config.generation_num * self.config.population, self.budget.count)

    @property
    def finished(self) -> bool:
        """True after the last generation."""
        return self.generation == self.config.generation_num

    def broods(self) -> Sequence[tuple[Make, int]]:
        """Return who makes children of the survivors, and how many are wanted of each."""
        raise NotImplementedError

    def ask(self) -> np.ndarray:
        """Return the next generation, int [N, L]; none when the search is over.

        N < population only where the budget holds fewer candidates not yet seen.
        """
        if self.finished:
            return np.empty((0, len(self.num_choices)), dtype=np.int64)
        taken = set(self.seen)  # a copy: `new_children` adds to it
        broods = self.broods() if self.generation else ()  # the first generation is random
        parts = [new_children(make, n, self.budget, taken, self.rng) for make, n in broods]
        rest = self.config.population - sum(map(len, parts))  # what breeding did not yield
        return np.concatenate([*parts, self.budget.sample_unique(rest, self.rng, exclude=taken)])
