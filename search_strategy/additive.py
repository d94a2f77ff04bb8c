"""Additive search: what each choice of each layer is worth, and the best sum within the budget.

A supernet's scores are noisy, and biased where choices meet, so the best of many scores is partly
the luckiest. Accuracies are nearly sums of what each layer's choice contributes (on NAS-Bench-Macro
a sum fitted to all true accuracies ranks them at a Kendall τ of 0.87), and a sum of ten to hundreds
of effects, fitted to hundreds of scores, averages the noise away. Its best network within the
budget is a knapsack, solved exactly. Legend: N architectures, L layers, C choices.
"""

from __future__ import annotations

import numpy as np

from lookup_table import Budget
from lookup_table.knapsack import highest_sum
from search_strategy.random_search import ROUND, RandomConfig
from search_strategy.strategy import SearchStrategy


def fit_effects(
    architectures: np.ndarray, scores: np.ndarray, num_choices: np.ndarray
) -> np.ndarray:
    """Effects of all choices, float [L, C], whose sums are the least-squares fit to the scores.

    In the scores' unit, around their mean. Of several equal fits, the one of the smallest effects:
    a choice that no architecture has is as good as the mean.

    Args:
        architectures: int [N, L].
        scores: float [N].
        num_choices: of each layer, int [L].
    """
    effects = np.zeros((len(num_choices), int(num_choices.max())))
    exists = np.arange(effects.shape[1]) < num_choices[:, None]  # [L, C]
    one_hot = architectures[:, :, None] == np.arange(effects.shape[1])  # [N, L, C]
    columns = one_hot[:, exists].astype(float)
    effects[exists] = np.linalg.lstsq(columns, scores - scores.mean(), rcond=None)[0]
    return effects


def smoothed(architectures: np.ndarray, scores: np.ndarray, num_choices: np.ndarray) -> np.ndarray:
    """Scores halfway to the sums of effects fitted to all of them, float [N].

    What a score has that no sum explains is partly true (choices meet) and partly noise. Half of it
    is kept, as it would be where the two are of one size. Arguments as of `fit_effects`.
    """
    effects = fit_effects(architectures, scores, num_choices)
    sums = scores.mean() + effects[np.arange(len(num_choices)), architectures].sum(axis=1)
    return (scores + sums) / 2


class AdditiveSearch(SearchStrategy):
    """Ask-tell: uniform candidates within the budget, then the one of the highest fitted sum.

    The effects are fitted to `random_iteration` candidates, or all where the budget holds fewer.
    """

    Config = RandomConfig
    about = "the best sum of what choices are worth in random candidates"
    by_score = False
    chosen_by = "highest sum of its choices' effects, fitted to all scores"

    def __init__(
        self,
        config: RandomConfig,
        budget: Budget,
        rng: np.random.Generator,
        prior: np.ndarray | None = None,
    ) -> None:
        self.budget = budget
        self.rng = rng
        self.iterations = min(config.random_iteration, budget.count)
        self.scores: dict[tuple[int, ...], float] = {}

    @property
    def total(self) -> int:
        """Most candidates that it will ask for."""
        return min(self.iterations + 1, self.budget.count)

    def ask(self) -> np.ndarray:
        """The next candidates, int [N, L]; none when the search is over."""
        n = min(ROUND, self.iterations - len(self.scores))
        drawn = self.budget.sample_unique(max(n, 0), self.rng, exclude=self.scores)
        if len(drawn) or self.chosen is not None:
            return drawn
        architectures, scores = np.array(list(self.scores)), np.array(list(self.scores.values()))
        effects = fit_effects(architectures, scores, self.budget.counts.num_choices)
        self.chosen = highest_sum(effects, self.budget, canonical=True)
        return self.chosen[None] if tuple(self.chosen.tolist()) not in self.scores else drawn

    def tell(self, architectures: np.ndarray, scores: np.ndarray) -> None:
        """Scores of what was asked, float [N]."""
        keys = map(tuple, architectures.tolist())
        self.scores.update(zip(keys, scores.tolist(), strict=True))
