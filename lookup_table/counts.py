"""Counts of architectures per cost, by dynamic programming over the lookup table.

With a layer's cheapest choice as 0 and the greatest common divisor of all differences as the unit,
costs are small integers, and the number of ways in which the last layers add up to exactly b units
is a sum of shifted vectors (the counting half of a knapsack). Given an equivalence only the codes
that represent a network are counted: a layer that continues a run then has two states, whether or
not the run has had a skip (or, skips first, a block), after which it must go on so.
Legend: L layers, C choices, N architectures, B bins of cost, S states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import numpy as np

from lookup_table.equivalence import SKIPS_LAST, Equivalence
from lookup_table.table import LookupTable

MAX_BINS = 1 << 21  # counts per layer; a space with more is counted in cells of cost instead
CELLS = 1 << 18
# Architectures drawn at a time. All of them look up one layer before the next: where the layers'
# counts together do not fit the cache, those of one layer do, and many draws share them.
DRAWN = 1 << 16
NOWHERE = 1 << 40  # units left that no choice can come to: takes of it are 0
BELOW_ONE = 1 - 1e-15  # of a fresh number: rounding never takes it up to all completions

Reachable = Callable[[int, list[np.ndarray], np.ndarray], np.ndarray]


class BudgetCounts:
    """Counts of completions per cost for one metric of a table, whose costs add up.

    Args:
        equivalence: count one code per network; None counts every code.
        allowed: the choices that are counted, bool [L, C]; None is all of them.

    Attributes:
        steps: bins that each choice takes, int [L, C].
        binding: choices after which the run must go on with such choices only, bool [L, C].
        suffix: [i][s, b] is the number of ways in which layers i.. take b bins from state s on.
            int64 where the space's size fits, else float64 (relative error below 1e-14).
        exact: True if a bin is one cost; else it is a cell of costs, each layer's rounded down.
    """

    length = NOWHERE  # most bins that are counted

    def __init__(
        self,
        table: LookupTable,
        metric: str,
        equivalence: Equivalence | None = None,
        allowed: np.ndarray | None = None,
    ) -> None:
        extra = table.extra(metric, table.exists)
        self.base = table.range(metric)[0]
        self.unit = int(np.gcd.reduce(extra, axis=None)) or 1  # 0 if no choice costs extra
        span = int(extra.max(axis=1).sum())
        self.exact = span // self.unit < MAX_BINS
        if not self.exact:  # odd numbers: cells, and every draw is checked against the true cost
            self.unit = -(-span // CELLS)  # rounded up: at most CELLS + 1 bins
        allowed = table.exists if allowed is None else table.exists & allowed
        self._count(table, metric, extra // self.unit, equivalence, allowed)

    def _count(
        self,
        table: LookupTable,
        metric: str,
        steps: np.ndarray,
        equivalence: Equivalence | None,
        allowed: np.ndarray,
    ) -> None:
        """Count completions where choices take `steps` bins, int [L, C]."""
        self.table, self.metric, self.num_choices = table, metric, table.num_choices
        self.steps, self.equivalence, self.allowed = steps, equivalence, allowed
        self.longest = steps.max(axis=1, where=allowed, initial=0).tolist()  # [L]
        self.continues = np.zeros(len(steps), dtype=bool)
        self.binding = np.zeros(steps.shape, dtype=bool)
        if equivalence is not None:
            self.continues = equivalence.continues
            is_skip = np.arange(steps.shape[1]) == equivalence.skip[:, None]
            self.binding = is_skip if equivalence.skips == SKIPS_LAST else ~is_skip
        size = float(np.prod(self.num_choices.astype(np.float64)))
        one = np.ones((1, 1), dtype=np.int64 if size < 2**62 else np.float64)  # no overflow
        # A layer's completions are looked up at `left - step`: zeros around spare the bounds checks
        self.margins = [0, *(max(1, longest) for longest in self.longest)]  # [i + 1]: of layer i
        ways = zip(self.completions(one, np.add), reversed(self.margins), strict=True)
        self.padded = [np.pad(counts, ((0, 0), (margin, margin))) for counts, margin in ways][::-1]
        self.suffix = [
            p[:, m : p.shape[1] - m] for p, m in zip(self.padded, self.margins, strict=True)
        ]

    def completions(
        self,
        end: np.ndarray,
        join: np.ufunc,
        values: np.ndarray | None = None,
        canonical: bool = True,
    ) -> Iterator[np.ndarray]:
        """Yield a number per state and bin, [S, B], from behind the last layer to the first.

        It joins those of all ways to take so many bins: counts by np.add, the best by np.maximum.

        Args:
            end: the number after the last layer, [1, 1].
            values: what choices add to a number, float [L, C].
            canonical: only codes that represent a network; else any, and there is one state.
        """
        after, zero = end, 0 if join is np.add else -np.inf
        yield after
        for i in reversed(range(len(self.steps))):
            states = 2 if canonical and self.continues[i] else 1
            length = min(after.shape[1] + self.longest[i], self.length)
            here = np.full((states, length), zero, dtype=end.dtype)
            for c in np.flatnonzero(self.allowed[i]).tolist():
                step, binds = int(self.steps[i, c]), int(self.binding[i, c])
                stop = min(step + after.shape[1], length)
                rest = after[min(binds, len(after) - 1), : stop - step]  # [0] if it has one state
                if values is not None:
                    rest = rest + values[i, c]
                for row in here[: 1 + binds, step:stop]:  # both states may go on with what binds
                    join(row, rest, out=row)
            if (outside := self.outside(length)) is not None:
                here[:, outside] = zero
            after = here
            yield after

    def best(self, values: np.ndarray, canonical: bool = False) -> list[np.ndarray]:
        """Return as [i][s, b] the highest sum of values [L, C]; for i, s, b see `suffix`."""
        return [*self.completions(np.zeros((1, 1)), np.maximum, values, canonical)][::-1]

    def outside(self, length: int) -> np.ndarray | None:
        """Bins among the first `length` that are not counted, bool [length]; None is none."""
        return None

    @property
    def total(self) -> np.ndarray:
        """Architectures per bin, [B]."""
        return self.suffix[0][0]

    def bins(self, low: int, high: int) -> tuple[int, int]:
        """Return the half-open range of bins whose costs can lie in [low, high]."""
        slack = 0 if self.exact else len(self.steps)  # each layer was rounded down
        start = -(-(low - self.base) // self.unit) - slack  # rounded up
        stop = (high - self.base) // self.unit + 1
        last = len(self.total)
        return min(max(start, 0), last), min(max(stop, 0), last)

    @cached_property
    def median(self) -> int:
        """The median cost over all architectures (to a unit)."""
        cumulative = np.cumsum(self.total.astype(np.float64))
        return self.base + self.unit * int(np.searchsorted(cumulative, cumulative[-1] / 2))

    def nearest(self, low: int, high: int) -> list[int]:
        """Return the costs that exist next below and next above an empty window."""
        start, stop = self.bins(low, high)
        exists = np.flatnonzero(self.total)
        below, above = exists[exists < start][-1:], exists[exists >= stop][:1]
        return [int(self.base + self.unit * b) for b in (*below, *above)]

    def list_bins(self, start: int, stop: int) -> np.ndarray:
        """List the architectures of bins [start, stop), int [M, L], in lexicographic order."""

        def reachable(layer: int, spent: list[np.ndarray], state: np.ndarray) -> np.ndarray:
            after = self.suffix[layer]
            exists = np.pad(np.cumsum(after > 0, axis=1), ((0, 0), (1, 0)))  # [s, b]: bins < b
            low, high = (np.clip(end - spent[0], 0, after.shape[1]) for end in (start, stop))
            state = np.minimum(state, len(after) - 1)
            return exists[state, high] > exists[state, low]  # any in [low, high)

        found = self._list([self.steps], reachable)
        assert found is not None
        return found

    def _list(
        self, costs: Sequence[np.ndarray], reachable: Reachable, most: int | None = None
    ) -> np.ndarray | None:
        """List architectures, int [M, L], layer by layer, without prefixes that cannot be ended.

        Args:
            costs: what choices spend, of one kind or several, int [L, C] each.
            reachable: (layers, spent, states) of prefixes -> which of them can be ended, bool [M].
            most: prefixes that are held at a time; None is returned where there are more.
        """
        prefixes = np.zeros((1, 0), dtype=np.uint8)  # a layer has at most MAX_CHOICES = 64
        spent = [np.zeros(1, dtype=np.int64) for _ in costs]
        state = np.zeros(1, dtype=np.intp)
        for i, binding in enumerate(self.binding.astype(np.intp)):
            choices = np.flatnonzero(self.allowed[i])
            if most and len(prefixes) * len(choices) > 4 * most:
                return None
            added = [cost[i, choices] for cost in costs]
            total = [np.add.outer(s, a).ravel() for s, a in zip(spent, added, strict=True)]
            binds = np.tile(binding[choices], len(prefixes))
            goes_on = reachable(i + 1, total, binds)
            if self.continues[i]:
                goes_on &= binds >= np.repeat(state, len(choices))  # then binding ones only
            kept = np.flatnonzero(goes_on)  # prefix * len(choices) + position in choices
            if most and len(kept) > most:
                return None
            choice = choices[kept % len(choices)].astype(np.uint8)
            prefixes = np.column_stack([prefixes[kept // len(choices)], choice])
            spent, state = [t[kept] for t in total], binds[kept]
        return prefixes.astype(np.int64)

    def draw(self, n: int, window: np.ndarray, start: int, rng: np.random.Generator) -> np.ndarray:
        """Draw n architectures [n, L] uniformly.

        An integer below the number of completions picks each choice and what is left of it the
        next ones. Counts in float64 are too coarse for that, so each layer draws a fresh number.

        Args:
            window: how many there are to draw from in each bin from `start` on, not all 0.
        """
        cumulative = np.cumsum(window)
        whole = cumulative.dtype == np.int64
        rank = rng.integers(cumulative[-1], size=n) if whole else rng.random(n) * cumulative[-1]
        rank.sort()  # neighbours in memory are looked up one after another
        bins = np.minimum(np.searchsorted(cumulative, rank, side="right"), len(window) - 1)
        rank -= (cumulative - window)[bins]  # rank within the bin
        result = np.empty((n, len(self.steps)), dtype=np.int64)
        order = rng.permutation(n)  # else the draws would come in order of cost
        for first in range(0, n, DRAWN):
            part = slice(first, first + DRAWN)
            numbers = rank[part] if whole else None
            result[order[part]] = self._descend(start + bins[part], numbers, rng).T
        return result

    def _descend(
        self, left: np.ndarray, numbers: np.ndarray | None, rng: np.random.Generator
    ) -> np.ndarray:
        """Pick choices, uint8 [L, n], layer by layer, that add up to `left` units [n].

        `numbers` [n] are ranks among the completions; None draws fresh ones for each layer.
        """
        n = len(left)
        codes = np.zeros((len(self.steps), n), dtype=np.uint8)
        weight, summed, below = (np.empty(n, dtype=self.total.dtype) for _ in range(3))
        passed, state = np.empty(n, dtype=bool), np.zeros(n, dtype=bool)
        ways = self.total[left]  # completions of each draw, [n]
        for i, (steps, binds) in enumerate(zip(self.steps, self.binding, strict=True)):
            after, margin = self.padded[i + 1], self.margins[i + 1]
            rank = rng.random(n) * (ways * BELOW_ONE) if numbers is None else numbers
            free = np.where(state, NOWHERE, left) if self.continues[i] else left
            summed[:] = 0  # completions of the choices so far
            below[:] = 0  # and of those before the one that is picked
            for c in range(self.num_choices[i] - 1):  # what passes all these is the last's
                if self.allowed[i, c]:
                    step, row = int(steps[c]), after[min(int(binds[c]), len(after) - 1)]
                    units = left if binds[c] else free
                    np.take(row[margin - step :], units, out=weight, mode="clip")  # [left - step]
                    summed += weight
                np.greater_equal(rank, summed, out=passed)
                codes[i] += passed.view(np.uint8)  # choice = number of sums that are passed
                if numbers is not None:
                    np.copyto(below, summed, where=passed)
            left = left - steps[codes[i]]
            state = binds[codes[i]]
            if numbers is not None:
                numbers = numbers - below  # rank among the completions of the choice
            else:
                ways = after[np.minimum(state, len(after) - 1), left + margin]
        return codes


def median_cost(table: LookupTable, metric: str) -> int:
    """Return the median cost over all architectures, of a sum or of a maximum."""
    if metric not in table.peaks:
        return BudgetCounts(table, metric).median
    rows = [row[:n] for row, n in zip(table.costs[metric], table.num_choices, strict=True)]
    costs = np.unique(np.maximum(np.concatenate(rows), table.fixed[metric]))
    below = np.prod([(row[:, None] <= costs).mean(axis=0) for row in rows], axis=0)  # shares
    return int(costs[int((below >= 0.5 - 1e-12).argmax())])
