"""Random search: different architectures, uniform over those within the budget."""

from __future__ import annotations

import numpy as np

from lookup_table import Budget

ROUND = 500  # candidates between two writes of the history


class RandomSearch:
    """Ask-tell random search over `iterations` candidates, each asked once.

    Args:
        budget: what may be asked.
        rng: the source of all its randomness.
        iterations: candidates in all; fewer where the budget holds fewer.
    """

    def __init__(self, budget: Budget, rng: np.random.Generator, iterations: int) -> None:
        self.budget = budget
        self.rng = rng
        self.iterations = iterations
        self.seen: set[tuple[int, ...]] = set()

    @property
    def total(self) -> int:
        """How many candidates it will ask for at most."""
        return min(self.iterations, self.budget.count)

    def ask(self) -> np.ndarray:
        """The next candidates, int [N, L]; none when the search is over."""
        n = min(ROUND, self.iterations - len(self.seen))
        return self.budget.sample_unique(n, self.rng, exclude=self.seen)

    def tell(self, architectures: np.ndarray, scores: np.ndarray) -> None:
        """Scores of what was asked, float [N]. Only remembered as seen."""
        self.seen.update(map(tuple, architectures.tolist()))
