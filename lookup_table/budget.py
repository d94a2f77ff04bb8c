"""Exact sampling of architectures within a budget.

The counts of architectures per cost (`lookup_table/counts.py`) say what a window [low, high] holds
before anything is drawn, and walking down them draws each of it with the same probability: no
rejection, no endless loop, and an infeasible budget is an error at once. L layers, N architectures.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property

import numpy as np

from lookup_table.counts import BudgetCounts
from lookup_table.joint import JointCounts
from lookup_table.largest import largest_sum
from lookup_table.limits import Limit, unit_guess
from utils.metrics import in_millions

MAX_ROUNDS = 64  # of drawing again, where draws can be repeats or, with cells, outside the window
BATCH = 4096  # architectures drawn at a time then
MAX_LISTED = 1 << 17  # with cells: windows of no more architectures are listed


def architecture_keys(architectures: np.ndarray) -> list[tuple[int, ...]]:
    """Make a hashable key of each architecture, int [N, L]."""
    return list(map(tuple, np.asarray(architectures).tolist()))


class Budget:
    """The architectures whose cost is in [low, high].

    Args:
        counts: of the metric that is constrained; with an equivalence, of one code per network.
        low, high: in single MACs or params, or ns; None is no bound.
        among: only these, int [M, L], as an oracle knows them; None is no such restriction.

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
        self.counts = counts
        lowest, highest = counts.table.range(counts.metric)
        self._limit = Limit(counts.metric, low, high)
        self.low = lowest if low is None else int(low)
        self.high = highest if high is None else int(high)
        self.known = None if among is None else set(architecture_keys(among))
        self.listed: np.ndarray | None = None  # everything inside, where counts do not tell
        start, stop = counts.bins(self.low, self.high)
        inside = counts.total[start:stop].any() if stop > start else False
        if inside and among is not None:
            self.listed = among[self.contains(among)]
        elif inside and not counts.exact and counts.total[start:stop].sum() <= MAX_LISTED:
            self.listed = self._list()
        if not inside or (self.listed is not None and not len(self.listed)):
            raise ValueError(self._infeasible(lowest, highest))

    def _infeasible(self, lowest: int, highest: int) -> str:
        unit = self.counts.table.unit(self.counts.metric)
        what = "no architecture of this space" if self.known is None else "none of those known"
        low, high = self._limit.low, self._limit.high
        ends = [] if low is None else [f"at least {in_millions(low)} {unit}"]
        ends += [] if high is None else [f"at most {in_millions(high)} {unit}"]
        text = (
            f"{what} costs {' and '.join(ends)}: its range is {in_millions(lowest)} to "
            f"{in_millions(highest)} {unit}"
        )
        if lowest <= self.high and self.low <= highest and self.low <= self.high:
            near = [in_millions(c) for c in self.counts.nearest(self.low, self.high)]
            text += f", the nearest costs are {' and '.join(near)}"
        else:
            end = self.high if self.high < lowest else self.low
            text += unit_guess(end, self.counts.table, self.counts.metric)
        return text + "; change --target-hc or --min-hc"

    @cached_property
    def count(self) -> int:
        """Number of architectures inside; an estimate where `countable` is False."""
        if self.listed is not None:
            return len(self.listed)
        start, stop = self.counts.bins(self.low, self.high)
        window = self.counts.total[start:stop]
        if window.dtype == np.float64:
            return int(window.sum())
        return sum(window[window > 0].tolist())  # Python integers do not overflow

    @property
    def limits(self) -> tuple[Limit, ...]:
        """Every limit that holds; `LimitedBudget` has several."""
        return (self._limit,)

    @property
    def target(self) -> int | None:
        """Upper limit on the metric that `counts` is of; None is no limit."""
        return self._limit.high

    @property
    def parts(self) -> list[Budget]:
        """The budgets of each limit by itself."""
        return [self]

    @property
    def pairs(self) -> list[JointCounts]:
        """Counts of two limits at once, where there are two."""
        return []

    @property
    def countable(self) -> bool:
        """True if `count` and `enumerate` are exact."""
        return self.counts.exact or self.listed is not None

    def contains(self, architectures: np.ndarray) -> np.ndarray:
        """Tell which architectures are inside, int [N, L] -> bool [N]."""
        cost = self.counts.table.cost(architectures, self.counts.metric)
        inside = (cost >= self.low) & (cost <= self.high)
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
            ValueError: the table is counted in cells, and hardly any cell's costs are inside.
        """
        if self.listed is not None:
            return self.listed[rng.integers(len(self.listed), size=n)]
        window = self.counts.bins(self.low, self.high)
        drawn = self.counts.draw(n, *window, rng)
        if self.counts.exact:
            return drawn
        kept = [drawn[self.contains(drawn)]]
        for _ in range(MAX_ROUNDS):
            if sum(map(len, kept)) >= n:
                return np.concatenate(kept)[:n]
            drawn = self.counts.draw(max(n, BATCH), *window, rng)
            kept.append(drawn[self.contains(drawn)])
        width = in_millions(self.counts.unit * len(self.counts.steps))
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
        """The architecture [L] that costs most, always the same; see `largest_is_exact`.

        Of several that cost the same, one drawn uniformly.
        """
        return self._largest[0]

    @property
    def largest_is_exact(self) -> bool:
        """False where `largest` is the most expensive of BATCH draws."""
        return self._largest[1]

    @cached_property
    def _largest(self) -> tuple[np.ndarray, bool]:
        if self.listed is not None:
            costs = self.counts.table.cost(self.listed, self.limits[0].metric)
            return self.listed[int(costs.argmax())], True
        start, stop = self.counts.bins(self.low, self.high)
        if self.counts.exact:
            top = start + int(np.flatnonzero(self.counts.total[start:stop])[-1])
            return self.counts.draw(1, top, top + 1, np.random.default_rng(0))[0], True
        counts = self.counts
        found = largest_sum(counts.table, counts.metric, self.high, counts.allowed)
        if found is not None and self.contains(found[None])[0]:
            return self.canonical(found), True
        return self._largest_draw(), False

    def _largest_draw(self) -> np.ndarray:
        drawn = self.sample(BATCH, np.random.default_rng(0))
        return drawn[int(self.counts.table.cost(drawn, self.limits[0].metric).argmax())]

    def enumerate(self) -> np.ndarray:
        """List all architectures inside, int [count, L], in lexicographic order. For few."""
        return self._list() if self.listed is None else self.listed

    def _list(self) -> np.ndarray:
        counts = self.counts
        start, stop = counts.bins(self.low, self.high)
        partial = np.zeros((1, 0), dtype=np.int64)
        spent, state = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=bool)
        for i, (steps, binds) in enumerate(zip(counts.steps, counts.binding, strict=True)):
            after = counts.suffix[i + 1]
            reachable = np.pad(np.cumsum(after > 0, axis=1), ((0, 0), (1, 0)))
            total = spent[:, None] + steps  # [M, C]
            low = np.clip(start - total, 0, after.shape[1])
            high = np.clip(stop - total, 0, after.shape[1])
            after_state = binds.astype(np.intp) if len(after) == 2 else np.zeros_like(steps)
            goes_on = reachable[after_state, high] > reachable[after_state, low]
            goes_on &= counts.allowed[i, : len(steps)]
            if counts.continues[i]:
                goes_on &= ~state[:, None] | binds
            row, choice = np.nonzero(goes_on)
            partial = np.column_stack([partial[row], choice])
            spent, state = total[row, choice], binds[choice]
        return partial[self.contains(partial)]
