"""The most probable architecture within a budget: a multiple-choice knapsack, solved exactly.

With one choice per layer, sum of costs in [low, high] and sum of log-probabilities to be largest,
dynamic programming over the bins of `BudgetCounts` gives the best completion from every layer and
every cost. Where a bin is one cost, that is the answer; where it is a cell of costs, it bounds the
answer from above, and a best-first search on that bound with the true costs finds it (A*).
Legend: L layers, C choices.
"""

from __future__ import annotations

import heapq

import numpy as np

from lookup_table.budget import Budget, BudgetCounts


def best_completions(log_probabilities: np.ndarray, counts: BudgetCounts) -> list[np.ndarray]:
    """[i][b]: the highest log-probability of layers i.. at b bins above their cheapest choices."""
    best = [np.zeros(1)]
    for row, steps in zip(log_probabilities[::-1], counts.steps[::-1], strict=True):
        after = best[-1]
        here = np.full(len(after) + int(steps.max()), -np.inf)
        for value, step in zip(row[: len(steps)], steps.tolist(), strict=True):
            part = here[step : step + len(after)]
            np.maximum(part, after + value, out=part)
        best.append(here)
    return best[::-1]


def most_probable(probabilities: np.ndarray, budget: Budget) -> np.ndarray:
    """The architecture int [L] of the highest probability among those within the budget.

    Args:
        probabilities: of each layer's choices, float [L, C]; entries beyond them are ignored.
            Choices of probability 0 are taken only where nothing else fits.
    """
    counts = budget.counts
    log_probabilities = np.log(np.maximum(probabilities, 1e-300))
    best = best_completions(log_probabilities, counts)
    start, stop = counts.bins(budget.low, budget.high)

    def bound(layer: int, spent: int) -> float:
        window = best[layer][max(0, start - spent) : max(0, stop - spent)]
        return float(window.max()) if len(window) else -np.inf

    # (minus what can be reached, prefix, bins spent, log-probability so far); the best comes first
    heap: list[tuple[float, tuple[int, ...], int, float]] = [(-bound(0, 0), (), 0, 0.0)]
    while heap:
        _, prefix, spent, value = heapq.heappop(heap)
        i = len(prefix)
        if i == len(counts.steps):
            architecture = np.array(prefix, dtype=np.int64)
            if budget.contains(architecture[None])[0]:
                return architecture
            continue
        for choice, step in enumerate(counts.steps[i].tolist()):
            reached = value + float(log_probabilities[i, choice])
            reachable = reached + bound(i + 1, spent + step)
            if reachable > -np.inf:
                heapq.heappush(heap, (-reachable, (*prefix, choice), spent + step, reached))
    raise AssertionError("a budget always holds an architecture")
