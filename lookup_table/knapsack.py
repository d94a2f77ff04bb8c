"""The best architecture within a budget: a multiple-choice knapsack, solved exactly.

With one choice per layer, sum of costs in [low, high] and sum of the choices' values to be largest,
dynamic programming over the bins of `BudgetCounts` gives the best completion from every layer and
every cost. Where a bin is one cost, that is the answer; where it is a cell of costs, it bounds the
answer from above, and a best-first search on that bound with the true costs finds it (A*). The most
probable architecture is the one of the highest sum of log-probabilities.
Legend: L layers, C choices, S states (of a run of layers in which skips commute, see `counts`).
"""

from __future__ import annotations

import heapq

import numpy as np

from lookup_table.budget import Budget, BudgetCounts

TIE = 9  # decimals: sums that differ by rounding count as equal, else all of them are unfolded


def best_completions(
    values: np.ndarray, counts: BudgetCounts, canonical: bool = False
) -> list[np.ndarray]:
    """[i][s, b]: the highest sum of layers i.., from state s, b bins above their cheapest choices.

    Args:
        values: of each layer's choices, float [L, C].
        canonical: only codes that represent a network; else any, and there is one state.
    """
    best = [np.zeros((1, 1))]
    for i in reversed(range(len(counts.steps))):
        after, steps, binding = best[-1], counts.steps[i], counts.binding[i]
        width, states = after.shape[1], 2 if canonical and counts.continues[i] else 1
        here = np.full((states, width + int(steps.max())), -np.inf)
        for value, step, binds in zip(values[i], steps.tolist(), binding.tolist(), strict=False):
            rest = after[int(binds) if len(after) == 2 else 0] + value
            for part in here[:, step : step + width] if binds else here[:1, step : step + width]:
                np.maximum(part, rest, out=part)
        best.append(here)
    return best[::-1]


def highest_sum(values: np.ndarray, budget: Budget, canonical: bool = False) -> np.ndarray:
    """The architecture int [L] of the highest sum of values among those within the budget.

    Args:
        values: of each layer's choices, float [L, C]; entries beyond them are ignored.
        canonical: only codes that represent a network.
    """
    counts = budget.counts
    best = best_completions(values, counts, canonical)
    start, stop = counts.bins(budget.low, budget.high)

    def bound(layer: int, state: bool, spent: int) -> float:
        rows = best[layer]
        window = rows[int(state) if len(rows) == 2 else 0]
        window = window[max(0, start - spent) : max(0, stop - spent)]
        return float(window.max()) if len(window) else -np.inf

    # (minus what can be reached, prefix, its state, bins spent, sum so far); the best comes first
    heap: list[tuple[float, tuple[int, ...], bool, int, float]]
    heap = [(0.0, (), False, 0, 0.0)]
    while heap:
        _, prefix, state, spent, value = heapq.heappop(heap)
        i = len(prefix)
        if i == len(counts.steps):
            architecture = np.array(prefix, dtype=np.int64)
            if budget.contains(architecture[None])[0]:
                return architecture
            continue
        bound_to_skip = canonical and counts.continues[i] and state
        for choice, step in enumerate(counts.steps[i].tolist()):
            binds = bool(counts.binding[i][choice])
            if bound_to_skip and not binds:
                continue
            reached = value + float(values[i, choice])
            reachable = reached + bound(i + 1, binds, spent + step)
            if reachable > -np.inf:
                order = round(-reachable, TIE)
                entry = (order, (*prefix, choice), binds, spent + step, reached)
                heapq.heappush(heap, entry)
    raise AssertionError("a budget always holds an architecture")


def most_probable(probabilities: np.ndarray, budget: Budget) -> np.ndarray:
    """The architecture int [L] of the highest probability among those within the budget.

    Args:
        probabilities: of each layer's choices, float [L, C]; entries beyond them are ignored.
            Choices of probability 0 are taken only where nothing else fits.
    """
    return highest_sum(np.log(np.maximum(probabilities, 1e-300)), budget)
