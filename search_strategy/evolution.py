"""Evolutionary search (SPOS, https://arxiv.org/abs/1904.00420, section 3.4 and algorithm 1).

Every generation is `population` new, different networks within the budget: mutated from and
crossed between the `parent_num` best so far, the rest (all of the first generation) drawn exactly
uniformly. With `aging` only networks of the last generations breed, however good older ones are
(regularised evolution, https://arxiv.org/abs/1802.01548, section 3.1, by generations).
"""

from __future__ import annotations

import numpy as np

from lookup_table import Budget, architecture_keys
from search_strategy.breeding import cross, mutate, new_children


class EvolutionSearch:
    """Ask-tell evolution: `generation_num` times ask, evaluate, tell.

    Args:
        budget: what may be asked.
        rng: the source of all its randomness.
        generation_num: generations, the random first one included.
        population: candidates of each.
        parent_num: the best so far that have children.
        mutation_prob: chance of each layer to be drawn anew in a mutation.
        crossover_prob: share of children that are crossed; the others are mutated.
        aging: generations for which a candidate can breed; 0 is for ever.
        patience: generations without a better best after which the search ends; 0 is never.
        prior: probabilities float [L, C] that mutated layers are drawn from; None is uniform.

    Raises:
        ValueError: more parents than candidates.
    """

    def __init__(
        self,
        budget: Budget,
        rng: np.random.Generator,
        generation_num: int = 20,
        population: int = 60,
        parent_num: int = 10,
        mutation_prob: float = 0.1,
        crossover_prob: float = 0.5,
        aging: int = 0,
        patience: int = 0,
        prior: np.ndarray | None = None,
    ) -> None:
        if parent_num > population:
            raise ValueError(
                f"--parent-num {parent_num} is more than --population {population}; take fewer"
            )
        self.budget = budget
        self.rng = rng
        self.num_choices = budget.counts.num_choices  # [L]
        self.generation_num = generation_num
        self.population = population
        self.parent_num = parent_num
        self.mutation_prob = mutation_prob
        self.crossover_prob = crossover_prob
        self.aging = aging
        self.patience = patience
        self.prior = prior
        self.generation = 0
        self.parents = np.empty((0, len(self.num_choices)), dtype=np.int64)  # best first
        self.parent_scores = np.empty(0)
        # what can still breed, newest first; without aging the parents are enough
        self.alive: list[tuple[np.ndarray, np.ndarray]] = []
        self.seen: set[tuple[int, ...]] = set()
        self.best, self.best_generation = -np.inf, 0

    @property
    def total(self) -> int:
        """How many candidates it will ask for at most."""
        return min(self.generation_num * self.population, self.budget.count)

    @property
    def finished(self) -> bool:
        stalled = self.generation - 1 - self.best_generation
        return self.generation == self.generation_num or 0 < self.patience <= stalled

    def ask(self) -> np.ndarray:
        """The next generation, int [N, L]; none when the search is over.

        N < population only where the budget holds fewer candidates not yet seen.
        """
        if self.finished:
            return self.parents[:0]
        taken = set(self.seen)
        parts = []
        if len(self.parents):
            crossed = int(self.crossover_prob * self.population)
            mutated = self.population - crossed
            parts.append(new_children(self._mutate, mutated, self.budget, taken, self.rng))
            parts.append(new_children(self._cross, crossed, self.budget, taken, self.rng))
        rest = self.population - sum(map(len, parts))
        parts.append(self.budget.sample_unique(rest, self.rng, exclude=taken))
        return np.concatenate(parts)

    def tell(self, architectures: np.ndarray, scores: np.ndarray) -> None:
        """Scores of a generation, float [N], higher is better."""
        self.seen.update(architecture_keys(architectures))
        old = self.alive if self.aging else [(self.parents, self.parent_scores)]
        self.alive = [(architectures, scores), *old][: self.aging or None]
        everyone = np.concatenate([a for a, _ in self.alive])
        all_scores = np.concatenate([s for _, s in self.alive])
        # of equals the newer one: on a plateau the search drifts on instead of standing still
        best = np.argsort(-all_scores, kind="stable")[: self.parent_num]
        self.parents, self.parent_scores = everyone[best], all_scores[best]
        if len(scores) and scores.max() > self.best:
            self.best, self.best_generation = float(scores.max()), self.generation
        self.generation += 1

    def _mutate(self, n: int) -> np.ndarray:
        parents = self.parents[self.rng.integers(len(self.parents), size=n)]
        return mutate(parents, self.num_choices, self.mutation_prob, self.rng, self.prior)

    def _cross(self, n: int) -> np.ndarray:
        mothers, fathers = self.parents[self.rng.integers(len(self.parents), size=(2, n))]
        return cross(mothers, fathers, self.rng)
