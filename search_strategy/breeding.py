"""Children of architectures: mutation, crossover, none outside the budget, no network twice.

Legend: L layers, N architectures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from config_file.arg_config.fields import flag
from config_file.arg_config.types import integer, number
from lookup_table import Budget, architecture_keys
from lookup_table.budget import repair
from search_strategy.strategy import StrategyConfig

MAX_BATCHES = 20  # of children: then the rest of a generation is drawn at random
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


def mutate(
    parents: np.ndarray,
    num_choices: np.ndarray,
    prob: float,
    rng: np.random.Generator,
    prior: np.ndarray | None = None,
) -> np.ndarray:
    """int [N, L]; each layer is drawn anew with probability `prob`.

    Args:
        prior: probabilities float [L, C] that fresh choices are drawn from; None is uniform.
    """
    if prior is None:
        fresh = rng.integers(0, num_choices, size=parents.shape)
    else:
        # a row's shares of [0, 1); its last choice takes what rounding leaves over
        ends = np.cumsum(prior / prior.sum(1, keepdims=True), axis=1)  # [L, C]
        fresh = (rng.random(parents.shape)[:, :, None] >= ends).sum(2)
        fresh = np.minimum(fresh, num_choices - 1)
    return np.where(rng.random(parents.shape) < prob, fresh, parents)


def cross(mothers: np.ndarray, fathers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """int [N, L] twice; each layer is one parent's or the other's (uniform crossover)."""
    return np.where(rng.random(mothers.shape) < 0.5, mothers, fathers)


def new_children(
    make: Callable[[int], np.ndarray],
    n: int,
    budget: Budget,
    taken: set[tuple[int, ...]],
    rng: np.random.Generator,
) -> np.ndarray:
    """Up to n children within the budget whose networks are not in `taken`, which they join.

    Args:
        make: gives that many children, int [N, L], of any cost.
    """
    found: list[np.ndarray] = []
    for _ in range(MAX_BATCHES):
        if len(found) == n:
            break
        drawn = budget.canonical(repair(make(OVERDRAW * n), budget, rng))
        drawn = drawn[budget.contains(drawn)]
        for child, key in zip(drawn, architecture_keys(drawn), strict=True):
            if key not in taken and len(found) < n:
                taken.add(key)
                found.append(child)
    return np.array(found, dtype=np.int64).reshape(len(found), len(budget.counts.num_choices))
