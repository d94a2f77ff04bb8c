"""Random search: different architectures, uniform over those within the budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from config_file.arg_config.fields import flag
from config_file.arg_config.types import integer
from lookup_table import Budget
from search_strategy.strategy import SearchStrategy, StrategyConfig

ROUND = 500  # candidates between two writes of the history


@dataclass(frozen=True, kw_only=True)
class RandomConfig(StrategyConfig):
    title: ClassVar[str] = "random search"

    random_iteration: int = flag(1000, integer(1), "candidates, also of additive", "N")


class RandomSearch(SearchStrategy):
    """Ask-tell random search over `random_iteration` candidates, each asked once."""

    Config = RandomConfig
    aliases = ("random_search",)
    is_random = True

    def __init__(
        self,
        config: RandomConfig,
        budget: Budget,
        rng: np.random.Generator,
        prior: np.ndarray | None = None,
    ) -> None:
        self.budget = budget
        self.rng = rng
        self.iterations = config.random_iteration
        self.seen: set[tuple[int, ...]] = set()

    @property
    def total(self) -> int:
        """Most candidates that it will ask for."""
        return min(self.iterations, self.budget.count)

    def ask(self) -> np.ndarray:
        """The next candidates, int [N, L]; none when the search is over."""
        n = min(ROUND, self.iterations - len(self.seen))
        return self.budget.sample_unique(n, self.rng, exclude=self.seen)

    def tell(self, architectures: np.ndarray, scores: np.ndarray) -> None:
        """Scores of what was asked, float [N]. Only remembered as seen."""
        self.seen.update(map(tuple, architectures.tolist()))
