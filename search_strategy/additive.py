"""Additive search: what each choice of each layer is worth, and the best sum within the budget.

A supernet's scores are noisy, and biased where choices meet, so the best of many scores is partly
the luckiest. Accuracies are nearly sums of what each layer's choice contributes (on NAS-Bench-Macro
a sum fitted to all true accuracies ranks them at a Kendall τ of 0.87), and a sum of ten to hundreds
of effects, fitted to hundreds of scores, averages the noise away. Its best network within the
budget is a knapsack, solved exactly. Legend: N architectures, L layers, C choices.
"""

from __future__ import annotations

import numpy as np

from lookup_table.knapsack import highest_sum
from search_strategy.random_search import RandomSearch


def fit_effects(
    architectures: np.ndarray, scores: np.ndarray, num_choices: np.ndarray
) -> np.ndarray:
    """Fit effects of all choices, float [L, C], whose sums are nearest to the scores (L2).

    They are in the scores' unit, around the mean. Of equal fits the one of the smallest effects is
    taken: a choice that no architecture has is as good as the mean.

    Args:
        architectures: int [N, L].
        scores: float [N].
        num_choices: of each layer, int [L].
    """
    effects = np.zeros((len(num_choices), int(num_choices.max())))
    exists = np.arange(effects.shape[1]) < num_choices[:, None]  # [L, C]
    one_hot = architectures[:, :, None] == np.arange(effects.shape[1])  # [N, L, C]
    columns = one_hot[:, exists].astype(float)  # [N, sum of num_choices]
    # rank-deficient (each layer's columns sum to 1): lstsq takes the least norm
    effects[exists] = np.linalg.lstsq(columns, scores - scores.mean(), rcond=None)[0]
    return effects


def smoothed(architectures: np.ndarray, scores: np.ndarray, num_choices: np.ndarray) -> np.ndarray:
    """Return scores halfway to the sums of effects fitted to all of them, float [N].

    What no sum explains of a score is partly true (choices meet) and partly noise. Half of it is
    kept, as if the two were of one size. Arguments as of `fit_effects`.
    """
    effects = fit_effects(architectures, scores, num_choices)
    sums = scores.mean() + effects[np.arange(len(num_choices)), architectures].sum(axis=1)  # [N]
    return (scores + sums) / 2


class AdditiveSearch(RandomSearch):
    """Ask-tell: uniform candidates within the budget, then the one of the highest fitted sum.

    The effects are fitted to `random_iteration` candidates, or all where the budget holds fewer.
    """

    aliases = ()
    is_random = False
    about = "the best sum of what choices are worth in random candidates"
    by_score = False
    chosen_by = "highest sum of its choices' effects, fitted to all scores"

    @property
    def iterations(self) -> int:
        return min(self.config.random_iteration, self.budget.count)

    @property
    def total(self) -> int:
        return min(self.iterations + 1, self.budget.count)

    def ask(self) -> np.ndarray:
        """Draw the next candidates, int [N, L], the best sum last; none when the search is over."""
        drawn = super().ask()
        if len(drawn) or self.chosen is not None:
            return drawn
        architectures, scores = np.array(list(self.seen)), np.array(list(self.seen.values()))
        effects = fit_effects(architectures, scores, self.num_choices)
        self.chosen = highest_sum(effects, self.budget, canonical=True)
        return self.chosen[None] if tuple(self.chosen.tolist()) not in self.seen else drawn
