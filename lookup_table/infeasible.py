"""Explains why no architecture is within several limits: the tightest pair and its range."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from lookup_table.budget import Budget
from lookup_table.counts import BudgetCounts
from lookup_table.knapsack import highest_sum
from lookup_table.limits import Limit
from lookup_table.table import LookupTable


def range_within(
    table: LookupTable, metric: str, limit: Limit, allowed: np.ndarray
) -> tuple[int, int]:
    """The lowest and the highest cost of the architectures within a limit on another metric.

    Args:
        metric, limit: both of metrics whose costs add up.
        allowed: the choices that there are, bool [L, C].

    Raises:
        ValueError: nothing is within the limit.
    """
    budget = Budget(BudgetCounts(table, limit.metric, None, allowed), limit.low, limit.high)
    values = table.costs[metric].astype(np.float64)
    ends = [highest_sum(sign * values, budget) for sign in (-1, 1)]
    low, high = (int(table.cost(end, metric)) for end in ends)
    return low, high


def why_infeasible(table: LookupTable, limits: Sequence[Limit], allowed: np.ndarray) -> str:
    """Name the pair of limits that leaves least room, and what one leaves of the other.

    Args:
        limits: that together hold nothing that was found, though each alone holds something.
        allowed: the choices that limits on maxima leave, bool [L, C].
    """
    peaks = [limit for limit in limits if limit.metric in table.peaks]
    sums = [limit for limit in limits if limit.metric not in table.peaks]
    if len(layer := np.flatnonzero(~allowed.any(axis=1))):
        names = " and ".join(limit.text(table) for limit in peaks)
        return f"no choice of layer {layer[0] + 1} is within {names}; relax that limit"
    rooms: list[tuple[float, Limit, Limit, tuple[int, int]]] = []
    for limit in sums if peaks else ():
        costs = np.where(allowed, table.costs[limit.metric], -1)
        least = np.where(allowed, costs, costs.max()).min(axis=1).sum()
        fixed = table.fixed[limit.metric]
        span = (fixed + int(least), fixed + int(costs.max(axis=1).sum()))
        rooms.append((_room(table, limit, span), peaks[0], limit, span))
    if all(room > 0 for room, *_ in rooms):
        for first, second in itertools.permutations(sums, 2):
            span = range_within(table, second.metric, first, allowed)
            rooms.append((_room(table, second, span), first, second, span))
    _, first, second, span = min(rooms, key=lambda room: room[0])
    found = Limit(second.metric, *span).text(table)
    return (
        f"no architecture was found within all limits; the tightest pair is {first.text(table)} "
        f"and {second.text(table)}: within the former there are {found}; relax one of them"
    )


def _room(table: LookupTable, limit: Limit, span: tuple[int, int]) -> float:
    """Share of the space's range that a limit and a range of costs have in common."""
    lowest, highest = table.range(limit.metric)
    low = span[0] if limit.low is None else max(limit.low, span[0])
    high = span[1] if limit.high is None else min(limit.high, span[1])
    return (high - low + 1) / max(1, highest - lowest)
