"""Additive search: fit the effect of each layer's choices, find the best sum within the budget.

A supernet's scores are noisy, and biased where choices interact, so the best of many scores is
partly the luckiest. Accuracies are nearly sums of one effect per layer: on NAS-Bench-Macro, a sum
fitted to all true accuracies ranks them at a Kendall τ of 0.87. Ten to hundreds of effects, fitted
to hundreds of scores, average the noise away. The best sum within the budget is a knapsack, solved
exactly. Legend: N architectures, L layers, C choices.
"""

from __future__ import annotations

import numpy as np

from lookup_table.knapsack import highest_sum
from search_strategy.random_search import RandomSearch


def fit_effects(
    architectures: np.ndarray, scores: np.ndarray, num_choices: np.ndarray
) -> np.ndarray:
    """Fit effects of all choices, float [L, C], whose sums are nearest to the scores (L2).

    Effects are in the scores' unit, around the mean. Among equal fits, the one with the smallest
    effects is taken: a choice that no architecture has counts as the mean.

    Args:
        architectures: int [N, L].
        scores: float [N].
        num_choices: of each layer, int [L].
    """
    effects = np.zeros((len(num_choices), int(num_choices.max())))
    exists = np.arange(effects.shape[1]) < num_choices[:, None]  # [L, C]
    one_hot = architectures[:, :, None] == np.arange(effects.shape[1])  # [N, L, C]
    columns = one_hot[:, exists].astype(float)  # [N, P], P: choices of all layers
    # a layer's columns sum to one, so their rank is below P; lstsq then takes the least norm
    effects[exists] = np.linalg.lstsq(columns, scores - scores.mean(), rcond=None)[0]
    return effects


def smoothed(architectures: np.ndarray, scores: np.ndarray, num_choices: np.ndarray) -> np.ndarray:
    """Return scores halfway to the sums of effects fitted to all of them, float [N].

    The part of a score that no sum explains is partly true (choices interact) and partly noise.
    Half of it is kept, as if the two were equally large. Arguments are those of `fit_effects`.
    """
    effects = fit_effects(architectures, scores, num_choices)
    sums = scores.mean() + effects[np.arange(len(num_choices)), architectures].sum(axis=1)  # [N]
    return (scores + sums) / 2


class AdditiveSearch(RandomSearch):
    """Ask-tell: uniform candidates within the budget, then the one of the highest fitted sum.

    The effects are fitted to `random_iteration` candidates, or all where the budget holds fewer.
    """

    aliases = ()
    is_random = False  # its answer is fitted, so it has a random control
    about = "the best sum of what choices are worth in random candidates"
    by_score = False
    chosen_by = "highest sum of its choices' effects, fitted to all scores"

    @property
    def iterations(self) -> int:
        return min(self.config.random_iteration, self.budget.count)

    @property
    def total(self) -> int:
        return min(self.iterations + 1, self.budget.count)  # one more: the best sum

    def ask(self) -> np.ndarray:
        """Draw the next candidates, int [N, L], the best sum last; none when the search is over."""
        drawn = super().ask()
        if len(drawn) or self.chosen is not None:
            return drawn
        architectures, scores = np.array(list(self.seen)), np.array(list(self.seen.values()))
        effects = fit_effects(architectures, scores, self.num_choices)
        self.chosen = highest_sum(effects, self.budget, canonical=True)  # a code as drawn
        return self.chosen[None] if tuple(self.chosen.tolist()) not in self.seen else drawn
