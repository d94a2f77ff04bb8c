"""The architecture that costs most within one limit, or two, exactly. L layers, C choices."""

from __future__ import annotations

import numpy as np

from lookup_table.counts import BudgetCounts
from lookup_table.limits import Limit
from lookup_table.table import LookupTable

MAX_BITS = 1 << 27  # costs that a sum can be, per layer: 16 MB


def largest_sum(
    table: LookupTable, metric: str, high: int, allowed: np.ndarray
) -> np.ndarray | None:
    """The architecture [L] of the highest cost up to `high`; None where sums are too many to tell.

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
    within = (1 << (most + 1)) - 1
    reachable = [1]
    for choices in reversed(steps):
        bits = 0
        for step in set(choices.values()):
            bits |= reachable[-1] << step
        reachable.append(bits & within)
    left = reachable[-1].bit_length() - 1
    architecture = []
    for choices, after in zip(steps, reachable[-2::-1], strict=True):
        c, step = next((c, s) for c, s in choices.items() if s <= left and after >> (left - s) & 1)
        architecture.append(c)
        left -= step
    return np.array(architecture)


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
    costs = table.costs[second.metric]
    least = [-best[0] for best in counts.best(-costs.astype(np.float64))]
    start, stop = counts.bins(*first.span(table))
    room = second.high - table.fixed[second.metric]
    inside = np.flatnonzero(least[0][start:stop] <= room)
    if not len(inside):
        return None
    left = start + int(inside[-1])
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
