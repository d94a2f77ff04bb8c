"""Bringing architectures into a budget by a few random changes. L layers, C choices, N of them."""

from __future__ import annotations

import numpy as np

from lookup_table.budget import Budget

REPAIRS_PER_LAYER = 3


def repair(architectures: np.ndarray, budget: Budget, rng: np.random.Generator) -> np.ndarray:
    """Architectures [N, L] brought into the budget by a few random changes each.

    While one costs too much, a random layer gets a random cheaper choice of its own; while too
    little, a more expensive one; of several limits, by the metric that is furthest outside. What is
    inside already stays as it is. In a narrow window a change can go too far, so after some rounds
    what is still outside is returned as it is then.
    """
    table, limits = budget.counts.table, budget.limits
    ranges = np.array([table.range(limit.metric) for limit in limits])  # [K, 2]
    low = np.array([r[0] if m.low is None else m.low for m, r in zip(limits, ranges, strict=True)])
    high = np.array(
        [r[1] if m.high is None else m.high for m, r in zip(limits, ranges, strict=True)]
    )
    spans = np.maximum(ranges[:, 1] - ranges[:, 0], 1)
    costs = np.stack([table.costs[limit.metric] for limit in limits])  # [K, L, C]
    is_peak = np.array([limit.metric in table.peaks for limit in limits])
    result = np.array(architectures)
    for _ in range(REPAIRS_PER_LAYER * result.shape[1]):
        cost = np.stack([table.cost(result, limit.metric) for limit in limits])  # [K, N]
        excess = np.maximum(cost - high[:, None], low[:, None] - cost) / spans[:, None]
        outside = np.flatnonzero(excess.max(axis=0) > 0)
        if not len(outside):
            break
        worst = excess[:, outside].argmax(axis=0)  # [M]
        now = result[outside]  # [M, L]
        there = costs[worst]  # [M, L, C]
        here = np.take_along_axis(there, now[:, :, None], axis=2)
        over_budget = (cost[worst, outside] > high[worst])[:, None, None]
        helps = np.where(over_budget, there < here, there > here) & budget.counts.allowed
        most = high[worst][:, None, None]  # of a maximum, only choices above it are the matter
        helps &= ~(is_peak[worst][:, None, None] & over_budget) | ((here > most) & (there <= most))
        layer = np.where(helps.any(2), rng.random(now.shape), -1).argmax(1)
        candidates = helps[np.arange(len(now)), layer]  # [M, C]
        choice = np.where(candidates, rng.random(candidates.shape), -1).argmax(1)
        movable = candidates.any(1)
        result[outside[movable], layer[movable]] = choice[movable]
    return result
