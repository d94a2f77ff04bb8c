"""The best architecture within a budget: a multiple-choice knapsack, solved exactly.

With one choice per layer, sum of costs in [low, high] and sum of the choices' values to be largest,
dynamic programming over the bins of `BudgetCounts` gives the best completion from every layer and
every cost. Where a bin is one cost, that is the answer; where it is a cell of costs, it bounds the
answer from above, and a best-first search on that bound with the true costs finds it (A*). The most
probable architecture is the one of the highest sum of log-probabilities. The most expensive one
within one limit, or two, is found from the sums that exist.
Legend: L layers, C choices, S states (of a run of layers in which skips commute, see `counts`).
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import numpy as np

from lookup_table.counts import BudgetCounts
from lookup_table.joint import JointCounts
from lookup_table.limits import Limit
from lookup_table.table import LookupTable

if TYPE_CHECKING:
    from lookup_table.budget import Budget

Spent = tuple[int, ...]
MAX_BITS = 1 << 27  # costs that a sum can be, per layer: 16 MB
TIE = 9  # decimals: sums that differ by rounding count as equal, else all of them are unfolded


class _CompletionBound:
    """The highest sum of a prefix's completions that one limit leaves; a prefix spends bins."""

    def __init__(self, values: np.ndarray, budget: Budget, canonical: bool) -> None:
        self.costs = [budget.counts.steps]
        self.best = budget.counts.best(values, canonical)
        self.start, self.stop = budget.start, budget.stop

    def __call__(self, layer: int, state: bool, spent: Spent) -> float:
        rows = self.best[layer]
        window = rows[min(int(state), len(rows) - 1)]  # one row where the layer has one state
        window = window[max(0, self.start - spent[0]) : max(0, self.stop - spent[0])]
        return float(window.max(initial=-np.inf))


class _JointBound:
    """The highest sum of a prefix's completions that two limits leave, in cells of both.

    What a prefix spends is known exactly, so only the completions are rounded.
    """

    def __init__(self, values: np.ndarray, joint: JointCounts, canonical: bool) -> None:
        self.axes = joint.axes
        self.costs = [axis.extra for axis in joint.axes]
        self.bounded_below = any(axis.low > 0 for axis in self.axes)
        self.best = [joint.rows(bins, -np.inf) for bins in joint.best(values, canonical)]
        if not self.bounded_below:  # the best of a cell and all cheaper ones, to be looked up
            for rows in self.best:
                for axis in (1, 2):
                    np.maximum.accumulate(rows, axis=axis, out=rows)

    def __call__(self, layer: int, state: bool, spent: Spent) -> float:
        rows = self.best[layer][min(int(state), len(self.best[layer]) - 1)]
        (top, bottom), (left, right) = (
            axis.window(s, layer) for axis, s in zip(self.axes, spent, strict=True)
        )
        if bottom < 0 or right < 0:
            return -np.inf
        bottom, right = min(bottom, rows.shape[0] - 1), min(right, rows.shape[1] - 1)
        if not self.bounded_below:
            return float(rows[bottom, right])
        return float(rows[max(top, 0) : bottom + 1, max(left, 0) : right + 1].max(initial=-np.inf))


def highest_sum(values: np.ndarray, budget: Budget, canonical: bool = False) -> np.ndarray:
    """Find the architecture int [L] of the highest sum of values among those within the budget.

    Args:
        values: of each layer's choices, float [L, C]; entries beyond them are ignored.
        canonical: only codes that represent a network.
    """
    counts = budget.counts
    bounds: list[_CompletionBound | _JointBound]
    bounds = [_CompletionBound(values, part, canonical) for part in budget.parts]
    bounds += [_JointBound(values, joint, canonical) for joint in budget.pairs]
    choices = [np.flatnonzero(allowed).tolist() for allowed in counts.allowed]
    # (minus what can be reached, prefix, its state, spent by each bound, sum so far)
    heap: list[tuple[float, tuple[int, ...], bool, list[Spent], float]]
    heap = [(0.0, (), False, [(0,) * len(bound.costs) for bound in bounds], 0.0)]
    while heap:
        _, prefix, state, spent, value = heapq.heappop(heap)  # the best comes first
        i = len(prefix)
        if i == len(counts.steps):
            architecture = np.array(prefix, dtype=np.int64)
            if budget.contains(architecture[None])[0]:  # bounds ignore `among`, round to cells
                return architecture
            continue
        for choice in choices[i]:
            binds = bool(counts.binding[i, choice])
            if canonical and counts.continues[i] and state > binds:
                continue  # a run that has had a skip goes on with skips
            reached = value + float(values[i, choice])
            total = [
                tuple(s + int(cost[i, choice]) for s, cost in zip(now, bound.costs, strict=True))
                for now, bound in zip(spent, bounds, strict=True)
            ]
            rest = min(b(i + 1, binds, s) for s, b in zip(total, bounds, strict=True))
            if reached + rest > -np.inf:  # else no completion is within the limits
                order = round(-(reached + rest), TIE)
                heapq.heappush(heap, (order, (*prefix, choice), binds, total, reached))
    raise AssertionError("a budget always holds an architecture")


def most_probable(probabilities: np.ndarray, budget: Budget) -> np.ndarray:
    """Find the architecture int [L] of the highest probability among those within the budget.

    Args:
        probabilities: of each layer's choices, float [L, C]; entries beyond them are ignored.
            Choices of probability 0 are taken only where nothing else fits.
    """
    return highest_sum(np.log(np.maximum(probabilities, 1e-300)), budget)


def largest_sum(
    table: LookupTable, metric: str, high: int, allowed: np.ndarray
) -> np.ndarray | None:
    """Find the architecture [L] of the highest cost up to `high`; None where sums are too many.

    A subset sum: bit b of a layer's integer says that the layers from it on can cost b units more
    than their cheapest choices.
    """
    extra = table.extra(metric, allowed)
    lowest, highest = table.range(metric, allowed)
    unit = int(np.gcd.reduce(extra, axis=None)) or 1
    most = (min(high, highest) - lowest) // unit
    if not 0 <= most < MAX_BITS:
        return None
    steps = [
        {c: int(extra[i, c]) // unit for c in np.flatnonzero(choices).tolist()}
        for i, choices in enumerate(allowed)
    ]
    within = (1 << (most + 1)) - 1  # bits 0 to `most`
    reachable = [1]  # behind the last layer: 0 units
    for choices in reversed(steps):
        bits = 0
        for step in set(choices.values()):
            bits |= reachable[-1] << step
        reachable.append(bits & within)
    left = reachable[-1].bit_length() - 1  # the highest sum
    architecture = []
    for choices, after in zip(steps, reachable[-2::-1], strict=True):
        c, step = next((c, s) for c, s in choices.items() if s <= left and after >> (left - s) & 1)
        architecture.append(c)
        left -= step
    return np.array(architecture)


def largest_of_two(counts: BudgetCounts, first: Limit, second: Limit) -> np.ndarray | None:
    """Find the architecture [L] that costs most by the first limit's metric and is within both.

    The least cost by the second metric is known for every cost by the first, so this is exact
    where the second limit has an upper end only.

    Args:
        counts: of the first limit's metric, a bin per cost.

    Returns:
        None where that cannot be told.
    """
    table = counts.table
    if not counts.exact or second.high is None or second.low is not None:
        return None
    costs = table.costs[second.metric]
    least = [-best[0] for best in counts.best(-costs.astype(np.float64))]  # [i][b]
    start, stop = counts.bins(*first.span(table))
    room = second.high - table.fixed[second.metric]
    inside = np.flatnonzero(least[0][start:stop] <= room)
    if not len(inside):
        return None
    left = start + int(inside[-1])  # the highest cost by the first metric
    architecture = []
    for i, after in enumerate(least[1:]):
        for c in np.flatnonzero(counts.allowed[i]).tolist():
            rest = left - int(counts.steps[i, c])
            if 0 <= rest < len(after) and costs[i, c] + after[rest] <= room:
                architecture.append(c)
                left, room = rest, room - int(costs[i, c])
                break
        else:
            raise AssertionError("the best completion exists")
    return np.array(architecture)
