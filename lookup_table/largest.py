"""The architecture that costs most within one limit, or two, exactly. L layers, C choices."""

from __future__ import annotations

import numpy as np

from lookup_table.counts import BudgetCounts
from lookup_table.limits import Limit
from lookup_table.table import LookupTable

MAX_BITS = 1 << 27  # costs that a sum can be, per layer: 16 MB


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
        length = min(width + counts.longest(i), counts.length)
        here = np.full((states, length), -np.inf)
        for c in np.flatnonzero(counts.allowed[i]).tolist():
            step, binds = int(steps[c]), bool(binding[c])
            end = min(step + width, length)
            rest = after[int(binds) if len(after) == 2 else 0, : end - step] + values[i, c]
            for part in here[:, step:end] if binds else here[:1, step:end]:
                np.maximum(part, rest, out=part)
        if (outside := counts.outside(length)) is not None:
            here[:, outside] = -np.inf
        best.append(here)
    return best[::-1]


def largest_sum(
    table: LookupTable, metric: str, high: int, allowed: np.ndarray
) -> np.ndarray | None:
    """The architecture [L] of the highest cost up to `high`; None where sums are too many to tell.

    A subset sum: bit b of a layer's integer says that the layers from it on can cost b units more
    than their cheapest choices.
    """
    costs = table.costs[metric]
    least = np.where(allowed, costs, np.iinfo(np.int64).max).min(axis=1)  # [L]
    extra = np.where(allowed, costs - least[:, None], 0)
    unit = int(np.gcd.reduce(extra.ravel())) or 1
    most = min(high - table.fixed[metric] - int(least.sum()), int(extra.max(axis=1).sum())) // unit
    if not 0 <= most < MAX_BITS:
        return None
    steps = [
        {c: int(extra[i, c]) // unit for c in np.flatnonzero(allowed[i]).tolist()}
        for i in range(len(costs))
    ]
    within = (1 << (most + 1)) - 1
    reachable = [1]
    for choices in reversed(steps):
        bits = 0
        for step in set(choices.values()):
            bits |= reachable[-1] << step
        reachable.append(bits & within)
    left = reachable[-1].bit_length() - 1
    architecture = np.empty(len(costs), dtype=np.int64)
    for i, (choices, after) in enumerate(zip(steps, reachable[-2::-1], strict=True)):
        fits = (c for c, s in choices.items() if s <= left and after >> (left - s) & 1)
        architecture[i] = next(fits)
        left -= choices[int(architecture[i])]
    return architecture


def largest_of_two(counts: BudgetCounts, first: Limit, second: Limit) -> np.ndarray | None:
    """The architecture [L] that costs most by the first limit's metric and is within both.

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
    least = best_completions(-table.costs[second.metric].astype(np.float64), counts)
    lowest, highest = table.range(first.metric)
    start, stop = counts.bins(
        lowest if first.low is None else first.low, highest if first.high is None else first.high
    )
    room = second.high - table.fixed[second.metric]
    inside = np.flatnonzero(-least[0][0][start:stop] <= room)
    if not len(inside):
        return None
    left, spent = start + int(inside[-1]), 0
    architecture = np.empty(len(counts.steps), dtype=np.int64)
    for i, steps in enumerate(counts.steps):
        after, costs = least[i + 1][0], table.costs[second.metric][i]
        for c in np.flatnonzero(counts.allowed[i]).tolist():
            rest = left - int(steps[c])
            if 0 <= rest < len(after) and spent + int(costs[c]) - after[rest] <= room:
                architecture[i], left, spent = c, rest, spent + int(costs[c])
                break
        else:
            raise AssertionError("the best completion exists")
    return architecture
