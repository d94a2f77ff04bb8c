"""Evolutionary search (SPOS, https://arxiv.org/abs/1904.00420, section 3.4 and algorithm 1).

Every generation is `population` new, different candidates within the budget: half mutated from
and half crossed between the `parent_num` best of all candidates so far, the rest (all of the
first generation) drawn exactly uniformly.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lookup_table import Budget, architecture_keys

MAX_BATCHES = 20  # of children per half: then the rest of the generation is drawn at random
OVERDRAW = 8  # children drawn per one wanted: most are out of the budget or seen before


class EvolutionSearch:
    """Ask-tell evolution: `generation_num` times ask, evaluate, tell.

    Args:
        budget: what may be asked.
        rng: the source of all its randomness.
        generation_num: generations, the random first one included.
        population: candidates of each.
        parent_num: the best so far that have children.
        mutation_prob: chance of each layer to be drawn anew in a mutation.
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
        self.prior = prior
        self.generation = 0
        self.parents = np.empty((0, len(self.num_choices)), dtype=np.int64)  # best first
        self.parent_scores = np.empty(0)
        self.seen: set[tuple[int, ...]] = set()

    @property
    def total(self) -> int:
        """How many candidates it will ask for at most."""
        return min(self.generation_num * self.population, self.budget.count)

    def ask(self) -> np.ndarray:
        """The next generation, int [N, L]; none when the search is over.

        N < population only where the budget holds fewer candidates not yet seen.
        """
        if self.generation == self.generation_num:
            return self.parents[:0]
        taken = set(self.seen)
        parts = []
        if len(self.parents):
            parts.append(self._children(self._mutate, self.population // 2, taken))
            parts.append(self._children(self._cross, self.population // 2, taken))
        rest = self.population - sum(map(len, parts))
        parts.append(self.budget.sample_unique(rest, self.rng, exclude=taken))
        return np.concatenate(parts)

    def tell(self, architectures: np.ndarray, scores: np.ndarray) -> None:
        """Scores of a generation, float [N], higher is better."""
        self.seen.update(architecture_keys(architectures))
        everyone = np.concatenate([architectures, self.parents])
        all_scores = np.concatenate([scores, self.parent_scores])
        # of equals the newer one: on a plateau the search drifts on instead of standing still
        best = np.argsort(-all_scores, kind="stable")[: self.parent_num]
        self.parents, self.parent_scores = everyone[best], all_scores[best]
        self.generation += 1

    def _children(
        self, make: Callable[[int], np.ndarray], n: int, taken: set[tuple[int, ...]]
    ) -> np.ndarray:
        """Up to n children that are within the budget and not in `taken`, which they join."""
        found: list[np.ndarray] = []
        for _ in range(MAX_BATCHES):
            if len(found) == n:
                break
            drawn = make(OVERDRAW * n)
            drawn = drawn[self.budget.contains(drawn)]
            for child, key in zip(drawn, architecture_keys(drawn), strict=True):
                if key not in taken and len(found) < n:
                    taken.add(key)
                    found.append(child)
        return np.array(found, dtype=np.int64).reshape(len(found), len(self.num_choices))

    def _mutate(self, n: int) -> np.ndarray:
        parents = self.parents[self.rng.integers(len(self.parents), size=n)]
        fresh = self._fresh(parents.shape)
        return np.where(self.rng.random(parents.shape) < self.mutation_prob, fresh, parents)

    def _fresh(self, shape: tuple[int, int]) -> np.ndarray:
        """Choices [n, L] of single layers, uniform or from the prior."""
        if self.prior is None:
            return self.rng.integers(0, self.num_choices, size=shape)
        # a row's shares of [0, 1); its last choice takes what rounding leaves over
        ends = np.cumsum(self.prior / self.prior.sum(1, keepdims=True), axis=1)  # [L, C]
        drawn = (self.rng.random(shape)[:, :, None] >= ends).sum(2)
        return np.minimum(drawn, self.num_choices - 1)

    def _cross(self, n: int) -> np.ndarray:
        mothers, fathers = self.parents[self.rng.integers(len(self.parents), size=(2, n))]
        return np.where(self.rng.random(mothers.shape) < 0.5, mothers, fathers)
