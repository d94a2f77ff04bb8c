"""Exact sampling of architectures within a budget.

The counts of architectures per cost (`lookup_table/counts.py`) say what a window [low, high] holds
before anything is drawn, and walking down them draws each of it with the same probability: no
rejection, no endless loop, and an infeasible budget is an error at once.
Legend: L layers, C choices, N architectures, K limits.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property

import numpy as np

from lookup_table.counts import BudgetCounts
from lookup_table.joint import JointCounts
from lookup_table.knapsack import largest_sum
from lookup_table.limits import Limit, unit_guess
from utils.metrics import in_millions

MAX_ROUNDS = 64  # of drawing again, where draws can be repeats or, with cells, outside the window
BATCH = 4096  # architectures drawn at a time then
MAX_LISTED = 1 << 17  # with cells: windows of no more architectures are listed
REPAIRS_PER_LAYER = 3


def architecture_keys(architectures: np.ndarray) -> list[tuple[int, ...]]:
    """Make a hashable key of each architecture, int [N, L]."""
    return list(map(tuple, np.asarray(architectures).tolist()))


class Budget:
    """The architectures whose cost is in [low, high].

    Args:
        counts: of the metric that is constrained; with an equivalence, of one code per network.
        low, high: in single MACs or params, or ns; None is no bound.
        among: only these, int [M, L], as an oracle knows them; None is no such restriction.

    Attributes:
        limits: every limit that holds; `LimitedBudget` has several.
        target: upper limit on the metric that `counts` is of; None is no limit.
        listed: everything inside, where counts do not tell it.

    Raises:
        ValueError: no architecture is inside; the message states what is feasible.
    """

    def __init__(
        self,
        counts: BudgetCounts,
        low: int | None,
        high: int | None,
        among: np.ndarray | None = None,
    ) -> None:
        limit = Limit(counts.metric, low, high)
        self.counts, self.target = counts, high
        self.limits: tuple[Limit, ...] = (limit,)
        self.low, self.high = limit.span(counts.table)
        self.known = None if among is None else set(architecture_keys(among))
        self.listed: np.ndarray | None = None
        self.start, self.stop = counts.bins(self.low, self.high)
        self.window = counts.total[self.start : self.stop]  # architectures per bin
        if self.window.any():
            if among is not None:
                self.listed = among[self.contains(among)]
            elif not counts.exact and self.window.sum() <= MAX_LISTED:
                self.listed = self.enumerate()  # without what cells hold outside the window
            if self.listed is None or len(self.listed):
                return
        raise ValueError(self._infeasible())

    def _infeasible(self) -> str:
        table, metric, (limit,) = self.counts.table, self.counts.metric, self.limits
        lowest, highest = table.range(metric)
        what = "no architecture of this space" if self.known is None else "none of those known"
        ends = zip(("at least", "at most"), (limit.low, limit.high), strict=True)
        wanted = [f"{w} {in_millions(e)} {table.unit(metric)}" for w, e in ends if e is not None]
        text = (
            f"{what} costs {' and '.join(wanted)}: its range is {in_millions(lowest)} to "
            f"{in_millions(highest)} {table.unit(metric)}"
        )
        if lowest <= self.high and self.low <= highest and self.low <= self.high:
            near = [in_millions(c) for c in self.counts.nearest(self.low, self.high)]
            text += f", the nearest costs are {' and '.join(near)}"
        else:
            text += unit_guess(self.high if self.high < lowest else self.low, table, metric)
        return text + "; change --target-hc or --min-hc"

    @property
    def parts(self) -> Sequence[Budget]:
        """The budgets of each limit on a sum by itself."""
        return [self]

    @property
    def pairs(self) -> Sequence[JointCounts]:
        """Counts of two limits at once, where there are two."""
        return []

    @cached_property
    def count(self) -> int:
        """Number of architectures inside; an estimate where `countable` is False."""
        if self.listed is not None:
            return len(self.listed)
        return int(sum(self.window[self.window > 0].tolist()))  # Python integers do not overflow

    @property
    def countable(self) -> bool:
        """True if `count` and `enumerate` are exact."""
        return self.counts.exact or self.listed is not None

    def contains(self, architectures: np.ndarray) -> np.ndarray:
        """Tell which architectures are inside, int [N, L] -> bool [N]."""
        inside = np.ones(len(architectures), dtype=bool)
        for limit in self.limits:
            cost = self.counts.table.cost(architectures, limit.metric)
            if limit.low is not None:
                inside &= cost >= limit.low
            if limit.high is not None:
                inside &= cost <= limit.high
        if self.known is not None:
            inside &= [key in self.known for key in architecture_keys(architectures)]
        return inside

    def canonical(self, architectures: np.ndarray) -> np.ndarray:
        """Replace codes [N, L] by those that stand for the same networks."""
        equivalence = self.counts.equivalence
        return architectures if equivalence is None else equivalence.canonical(architectures)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw n independent architectures [n, L], uniform over those inside.

        Raises:
            ValueError: hardly any draw from a superset is inside.
        """
        if self.listed is not None:
            return self.listed[rng.integers(len(self.listed), size=n)]
        return self._draw(n, rng)

    def _draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        drawn = self.counts.draw(n, self.window, self.start, rng)
        if self.counts.exact:
            return drawn
        kept = [drawn[self.contains(drawn)]]
        for _ in range(MAX_ROUNDS):
            if sum(map(len, kept)) >= n:
                return np.concatenate(kept)[:n]
            drawn = self.counts.draw(max(n, BATCH), self.window, self.start, rng)
            kept.append(drawn[self.contains(drawn)])
        width = in_millions(self.counts.unit * len(self.counts.steps))  # most that rounding loses
        raise ValueError(
            f"the window {in_millions(self.low)} to {in_millions(self.high)} is too narrow to "
            f"sample; widen --min-hc to --target-hc by {width}"
        )

    def sample_unique(
        self, n: int, rng: np.random.Generator, exclude: Collection[tuple[int, ...]] = ()
    ) -> np.ndarray:
        """Draw up to n different architectures [m, L], none of `exclude`, uniformly.

        m < n only where fewer are left.
        """
        seen = set(exclude)
        # Where repeats are rare, drawing again ends soon; where few are inside, list them all.
        if self.countable and self.count <= 4 * (len(seen) + n):
            everything = self.enumerate()
            left = [i for i, key in enumerate(architecture_keys(everything)) if key not in seen]
            return everything[rng.permutation(left)[:n]] if left else everything[:0]
        found: list[np.ndarray] = []
        for _ in range(MAX_ROUNDS):
            drawn = self.sample(n, rng)
            for architecture, key in zip(drawn, architecture_keys(drawn), strict=True):
                if key not in seen and len(found) < n:
                    seen.add(key)
                    found.append(architecture)
            if len(found) == n:
                break
        return np.array(found, dtype=np.int64).reshape(len(found), len(self.counts.steps))

    def largest(self) -> np.ndarray:
        """Return the architecture [L] that costs most (of equals always the same one)."""
        return self._largest[0]

    @property
    def largest_is_exact(self) -> bool:
        """False where `largest` is the most expensive of BATCH draws."""
        return self._largest[1]

    @cached_property
    def _largest(self) -> tuple[np.ndarray, bool]:
        some = self.listed
        if some is None:
            found = self._find_largest()
            if found is not None and self.contains(found[None])[0]:
                return self.canonical(found), True
            some = self.sample(BATCH, np.random.default_rng(0))
        most = self.counts.table.cost(some, self.limits[0].metric).argmax()
        return some[int(most)], self.listed is not None

    def _find_largest(self) -> np.ndarray | None:
        """Return the architecture [L] that costs most, if it can be told; it may be outside."""
        counts = self.counts
        if not counts.exact:
            return largest_sum(counts.table, counts.metric, self.high, counts.allowed)
        top = int(np.flatnonzero(self.window)[-1])  # a bin is one cost: any network in it will do
        rng = np.random.default_rng(0)
        return counts.draw(1, self.window[top : top + 1], self.start + top, rng)[0]

    def enumerate(self) -> np.ndarray:
        """List all architectures inside, int [count, L], in lexicographic order. For few."""
        if self.listed is not None:
            return self.listed
        found = self.counts.list_bins(self.start, self.stop)
        return found[self.contains(found)]


def repair(architectures: np.ndarray, budget: Budget, rng: np.random.Generator) -> np.ndarray:
    """Bring architectures [N, L] into the budget by a few random changes each.

    While one costs too much, a random layer gets a random cheaper choice of its own; while too
    little, a more expensive one; of several limits, by the metric that is furthest outside. What is
    inside already stays as it is. In a narrow window a change can go too far, so after some rounds
    what is still outside is returned as it is then.
    """
    table, limits = budget.counts.table, budget.limits
    low, high = np.array([limit.span(table) for limit in limits]).T  # [K]
    ranges = np.array([table.range(limit.metric) for limit in limits])  # [K, 2]
    spans = np.maximum(ranges[:, 1] - ranges[:, 0], 1)  # [K], so that metrics compare in shares
    costs = np.stack([table.costs[limit.metric] for limit in limits])  # [K, L, C]
    is_peak = np.array([limit.metric in table.peaks for limit in limits])
    result = np.array(architectures)
    for _ in range(REPAIRS_PER_LAYER * result.shape[1]):
        cost = np.stack([table.cost(result, limit.metric) for limit in limits])  # [K, N]
        excess = np.maximum(cost - high[:, None], low[:, None] - cost) / spans[:, None]  # [K, N]
        outside = np.flatnonzero(excess.max(axis=0) > 0)
        if not len(outside):
            break
        worst = excess[:, outside].argmax(axis=0)  # [M]
        now = result[outside]  # [M, L]
        there = costs[worst]  # [M, L, C]
        here = np.take_along_axis(there, now[:, :, None], axis=2)  # [M, L, 1]
        over_budget = (cost[worst, outside] > high[worst])[:, None, None]
        helps = np.where(over_budget, there < here, there > here) & budget.counts.allowed
        most = high[worst][:, None, None]  # of a maximum, only choices above it are the matter
        helps &= ~(is_peak[worst][:, None, None] & over_budget) | ((here > most) & (there <= most))
        layer = np.where(helps.any(2), rng.random(now.shape), -1).argmax(1)  # a uniform draw
        candidates = helps[np.arange(len(now)), layer]  # [M, C]
        choice = np.where(candidates, rng.random(candidates.shape), -1).argmax(1)  # a uniform draw
        movable = candidates.any(1)  # the others have no choice left that helps
        result[outside[movable], layer[movable]] = choice[movable]
    return result
