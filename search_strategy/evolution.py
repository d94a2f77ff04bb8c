"""Evolutionary search (SPOS, https://arxiv.org/abs/1904.00420, section 3.4 and algorithm 1).

Every generation is `population` new, different networks within the budget: mutated from and
crossed between the `parent_num` best so far, the rest (all of the first generation) drawn exactly
uniformly. With `aging` only networks of the last generations breed, however good older ones are
(regularised evolution, https://arxiv.org/abs/1802.01548, section 3.1, by generations).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from config_file.arg_config.fields import flag
from config_file.arg_config.types import integer
from lookup_table import Budget
from search_strategy.breeding import BreedingConfig, BreedingSearch, Make, cross, mutate


@dataclass(frozen=True, kw_only=True)
class EvolutionConfig(BreedingConfig):
    """Raises ValueError where there are more parents than candidates."""

    title: ClassVar[str] = "evolution"

    parent_num: int = flag(10, integer(1), "top candidates kept as parents", "N")
    aging: int = flag(
        0,
        integer(0),
        "generations for which a candidate can breed; 0: for ever; 3 if only named",
        "G",
        nargs="?",
        const=3,
    )
    patience: int = flag(
        0, integer(0), "stop after so many generations without a better best; 0: never", "G"
    )

    def check(self) -> None:
        if self.parent_num > self.population:
            raise ValueError(
                f"--parent-num {self.parent_num} is more than --population {self.population}; "
                f"take fewer"
            )


class EvolutionSearch(BreedingSearch[EvolutionConfig]):
    """Ask-tell evolution of `generation_num` generations; mutations follow the prior."""

    Config = EvolutionConfig

    def __init__(
        self,
        config: EvolutionConfig,
        budget: Budget,
        rng: np.random.Generator,
        prior: np.ndarray | None = None,
    ) -> None:
        super().__init__(config, budget, rng, prior)
        self.parents = np.empty((0, len(self.num_choices)), dtype=np.int64)  # best first
        self.parent_scores = np.empty(0)
        # what can still breed, newest first; without aging the parents are enough
        self.alive: list[tuple[np.ndarray, np.ndarray]] = []
        self.best, self.best_generation = -np.inf, 0

    @property
    def finished(self) -> bool:
        """True after the last generation, or `patience` ones without a better best."""
        stalled = self.generation - 1 - self.best_generation  # generations told since the best
        return super().finished or 0 < self.config.patience <= stalled

    def broods(self) -> list[tuple[Make, int]]:
        crossed = int(self.config.crossover_prob * self.config.population)  # the others are mutants
        return [(self.mutants, self.config.population - crossed), (self.crossed, crossed)]

    def tell(self, architectures: np.ndarray, scores: np.ndarray) -> None:
        """Take the scores of a generation; the best of those alive are the next parents."""
        super().tell(architectures, scores)
        old = self.alive if self.config.aging else [(self.parents, self.parent_scores)]
        self.alive = [(architectures, scores), *old][: self.config.aging or None]  # 0 keeps all
        everyone = np.concatenate([a for a, _ in self.alive])
        all_scores = np.concatenate([s for _, s in self.alive])
        # of equals the newer one: on a plateau the search drifts on instead of standing still
        best = np.argsort(-all_scores, kind="stable")[: self.config.parent_num]
        self.parents, self.parent_scores = everyone[best], all_scores[best]
        if len(scores) and scores.max() > self.best:
            self.best, self.best_generation = float(scores.max()), self.generation
        self.generation += 1

    def mutants(self, n: int) -> np.ndarray:
        """Mutate random parents, int [n, L]; costs are not looked at."""
        parents = self.parents[self.rng.integers(len(self.parents), size=n)]  # with replacement
        return mutate(parents, self.num_choices, self.config.mutation_prob, self.rng, self.prior)

    def crossed(self, n: int) -> np.ndarray:
        """Cross random pairs of parents, int [n, L]; costs are not looked at."""
        mothers, fathers = self.parents[self.rng.integers(len(self.parents), size=(2, n))]
        return cross(mothers, fathers, self.rng)  # not mutated besides, as in SPOS's algorithm 1
