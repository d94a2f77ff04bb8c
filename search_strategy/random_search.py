"""Random search: different architectures, uniform over those within the budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from config_file.arg_config.fields import flag
from config_file.arg_config.types import integer
from search_strategy.strategy import SearchStrategy, StrategyConfig

ROUND = 500  # candidates between two writes of the history


@dataclass(frozen=True, kw_only=True)
class RandomConfig(StrategyConfig):
    title: ClassVar[str] = "random search"

    random_iteration: int = flag(1000, integer(1), "candidates, also of additive", "N")


class RandomSearch(SearchStrategy[RandomConfig]):
    """Ask-tell random search over `random_iteration` candidates, each asked once."""

    Config = RandomConfig
    aliases: ClassVar[tuple[str, ...]] = ("random_search",)
    is_random = True

    @property
    def iterations(self) -> int:
        """Random candidates to score."""
        return self.config.random_iteration

    @property
    def total(self) -> int:
        return min(self.iterations, self.budget.count)

    def ask(self) -> np.ndarray:
        """Draw the next candidates, int [N, L]; none when the search is over."""
        n = max(0, min(ROUND, self.iterations - len(self.seen)))  # -1 after additive's answer
        return self.budget.sample_unique(n, self.rng, exclude=self.seen)
