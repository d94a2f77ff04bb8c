"""Counts of architectures per cost, by dynamic programming over the lookup table.

With a layer's cheapest choice as 0 and the greatest common divisor of all differences as the unit,
costs are small integers, and the number of ways in which the last layers add up to exactly b units
is a sum of shifted vectors (the counting half of a knapsack). Given an equivalence only the codes
that represent a network are counted: a layer that continues a run then has two states, whether or
not the run has had a skip (or, skips first, a block), after which it must go on so.
Legend: L layers, C choices, N architectures, B bins of cost, S states.
"""

from __future__ import annotations

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


class BudgetCounts:
    """Counts of completions per cost for one metric of one table.

    Args:
        metric: whose costs add up.
        equivalence: count one code per network; None counts every code.
        allowed: the choices that are counted, bool [L, C]; None is all of them.

    Attributes:
        suffix: `suffix[i][s, b]` is the number of ways in which layers i.. cost exactly b units
            more than their cheapest choices, from state s on. int64 where the space's size fits,
            else float64 (relative error below 1e-14).
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
        self.table = table
        self.metric = metric
        self.num_choices = table.num_choices
        rows = [r[:n] for r, n in zip(table.costs[metric], self.num_choices, strict=True)]
        extra = [row - row.min() for row in rows]
        self.base = table.range(metric)[0]
        self.unit = int(np.gcd.reduce(np.concatenate(extra))) or 1
        span = sum(int(e.max()) for e in extra)
        self.exact = span // self.unit < MAX_BINS
        if not self.exact:  # odd numbers: cells, and every draw is checked against the true cost
            self.unit = -(-span // CELLS)
        self._count_steps([e // self.unit for e in extra], equivalence, allowed)

    def _count_steps(
        self,
        steps: list[np.ndarray],
        equivalence: Equivalence | None,
        allowed: np.ndarray | None,
    ) -> None:
        """Count completions, where each layer's choices take so many bins."""
        self.steps = steps
        self.equivalence = equivalence
        num_layers = len(steps)
        everything = np.arange(int(self.num_choices.max())) < self.num_choices[:, None]
        self.allowed = everything if allowed is None else everything & allowed  # [L, C]
        no_runs = np.zeros(num_layers, dtype=bool)
        self.continues = no_runs if equivalence is None else equivalence.continues
        # [L][C]: a choice after which the run must go on with such choices only
        self.binding = [np.zeros(len(s), dtype=bool) for s in self.steps]
        if equivalence is not None:
            for i in range(num_layers):
                is_skip = np.arange(len(self.steps[i])) == equivalence.skip[i]
                self.binding[i] = is_skip if equivalence.skips == SKIPS_LAST else ~is_skip
        # A layer's completions are looked up at `left - step`: zeros around spare the bounds checks
        self.margins = [0, *(max(1, self.longest(i)) for i in range(num_layers))]
        self.padded = self._count()
        self.suffix = [
            p[:, m : p.shape[1] - m] for p, m in zip(self.padded, self.margins, strict=True)
        ]

    def longest(self, i: int) -> int:
        """The most bins that a choice of layer i takes."""
        steps = self.steps[i]
        return int(steps.max(initial=0, where=self.allowed[i, : len(steps)]))

    def outside(self, length: int) -> np.ndarray | None:
        """Bins among the first `length` that are not counted, bool [length]; None is none."""
        return None

    def _count(self) -> list[np.ndarray]:
        size = float(np.prod(self.num_choices.astype(np.float64)))
        dtype = np.int64 if size < 2**62 else np.float64
        after = np.ones((1, 1), dtype=dtype)
        padded = [np.pad(after, ((0, 0), (self.margins[-1],) * 2))]
        for i in reversed(range(len(self.steps))):
            width, margin = after.shape[1], self.margins[i]
            states = 2 if self.continues[i] else 1
            length = min(width + self.longest(i), self.length)
            here = np.zeros((states, length + 2 * margin), dtype=dtype)
            counts = here[:, margin : margin + length]
            for c in np.flatnonzero(self.allowed[i]).tolist():
                step, binds = int(self.steps[i][c]), bool(self.binding[i][c])
                end = min(step + width, length)
                ways: np.ndarray = after[int(binds) if len(after) == 2 else 0, : end - step]
                counts[0, step:end] += ways
                if states == 2 and binds:
                    counts[1, step:end] += ways
            if (outside := self.outside(length)) is not None:
                counts[:, outside] = 0
            after = counts
            padded.append(here)
        return padded[::-1]

    @property
    def total(self) -> np.ndarray:
        """Architectures per bin, [B]."""
        return self.suffix[0][0]

    def bins(self, low: int, high: int) -> tuple[int, int]:
        """The half-open range of bins whose costs can lie in [low, high]."""
        slack = 0 if self.exact else len(self.steps)  # each layer was rounded down
        start = -(-(low - self.base) // self.unit) - slack
        stop = (high - self.base) // self.unit + 1
        last = len(self.total)
        return min(max(start, 0), last), min(max(stop, 0), last)

    @cached_property
    def median(self) -> int:
        """The median cost over all architectures (to a unit)."""
        cumulative = np.cumsum(self.total.astype(np.float64))
        return self.base + self.unit * int(np.searchsorted(cumulative, cumulative[-1] / 2))

    def nearest(self, low: int, high: int) -> list[int]:
        """The costs that exist next below and next above an empty window."""
        start, stop = self.bins(low, high)
        exists = np.flatnonzero(self.total)
        below, above = exists[exists < start][-1:], exists[exists >= stop][:1]
        return [int(self.base + self.unit * b) for b in (*below, *above)]

    def draw(self, n: int, start: int, stop: int, rng: np.random.Generator) -> np.ndarray:
        """Draw n architectures [n, L], uniform over those of bins [start, stop), which hold some.

        An integer below the number of completions picks each choice and what is left of it the
        next ones. Counts in float64 are too coarse for that, so each layer draws a fresh number.
        """
        return self._draw(n, self.total[start:stop], start, rng)

    def _draw(self, n: int, window: np.ndarray, start: int, rng: np.random.Generator) -> np.ndarray:
        """Draw n architectures [n, L], as many of each bin from `start` on as `window` [B] says."""
        cumulative = np.cumsum(window)
        whole = cumulative.dtype == np.int64
        rank = rng.integers(cumulative[-1], size=n) if whole else rng.random(n) * cumulative[-1]
        rank.sort()  # neighbours in memory are looked up one after another
        bins = np.minimum(np.searchsorted(cumulative, rank, side="right"), len(window) - 1)
        rank -= (cumulative - window)[bins]
        result = np.empty((n, len(self.steps)), dtype=np.int64)
        order = rng.permutation(n)
        for first in range(0, n, DRAWN):
            part = slice(first, first + DRAWN)
            numbers = rank[part] if whole else None
            result[order[part]] = self._descend(start + bins[part], numbers, rng).T
        return result

    def _descend(
        self, left: np.ndarray, numbers: np.ndarray | None, rng: np.random.Generator
    ) -> np.ndarray:
        """Choices [L, n] down the layers that add up to `left` units [n]; uint8.

        Args:
            numbers: below the numbers of completions [n]; None: fresh ones for each layer.
        """
        n = len(left)
        codes = np.zeros((len(self.steps), n), dtype=np.uint8)
        weight, summed, below = (np.empty(n, dtype=self.total.dtype) for _ in range(3))
        passed, state = np.empty(n, dtype=bool), np.zeros(n, dtype=bool)
        ways = self.total[left]
        for i, (steps, binds) in enumerate(zip(self.steps, self.binding, strict=True)):
            after, margin = self.padded[i + 1], self.margins[i + 1]
            rank = rng.random(n) * (ways * BELOW_ONE) if numbers is None else numbers
            free = np.where(state, NOWHERE, left) if self.continues[i] else left
            summed[:] = 0  # completions of the choices so far
            below[:] = 0  # and of those before the one that is picked
            for c, step in enumerate(steps[:-1].tolist()):  # what passes all these is the last's
                if self.allowed[i, c]:
                    row = after[int(binds[c]) if len(after) == 2 else 0]
                    left_of = left if binds[c] else free
                    np.take(row[margin - step :], left_of, out=weight, mode="clip")
                    summed += weight
                np.greater_equal(rank, summed, out=passed)
                codes[i] += passed.view(np.uint8)
                if numbers is not None:
                    np.copyto(below, summed, where=passed)
            left = left - steps[codes[i]]
            state = binds[codes[i]]
            if numbers is not None:
                numbers = numbers - below
                continue
            at = left + margin
            if len(after) == 2:
                at += state * after.shape[1]
            ways = np.take(after, at, mode="clip")
        return codes


def median_cost(table: LookupTable, metric: str) -> int:
    """The median cost over all architectures, of a sum or of a maximum."""
    if metric not in table.peaks:
        return BudgetCounts(table, metric).median
    rows = [row[:n] for row, n in zip(table.costs[metric], table.num_choices, strict=True)]
    fixed = table.fixed[metric]
    costs = np.unique(np.maximum(np.concatenate(rows), fixed))
    below = np.prod([(row[:, None] <= costs).mean(axis=0) for row in rows], axis=0)  # shares
    return int(costs[int((below >= 0.5 - 1e-12).argmax())])
