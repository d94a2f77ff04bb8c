"""Exact sampling of architectures within a budget, by dynamic programming over the lookup table.

With a layer's cheapest choice as 0 and the greatest common divisor of all differences as the unit,
costs are small integers, and the number of ways in which the last layers add up to exactly b units
is a sum of shifted vectors (the counting half of a knapsack). Walking down those counts draws every
architecture of the window [low, high] with the same probability: no rejection, no endless loop, and
an empty window is known before anything is drawn. Legend: L layers, C choices, N architectures.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property

import numpy as np

from lookup_table.table import UNIT, LookupTable, in_millions

MAX_BINS = 1 << 21  # 2 M counts per layer; beyond it costs are counted in coarser cells
MAX_ROUNDS = 64  # of drawing again, where draws can be repeats or, with cells, outside the window
BATCH = 4096  # architectures drawn at a time


def architecture_keys(architectures: np.ndarray) -> list[tuple[int, ...]]:
    """int [N, L] -> one hashable key per architecture."""
    return list(map(tuple, np.asarray(architectures).tolist()))


class BudgetCounts:
    """Counts of completions per cost for one metric of one table.

    `suffix[i][b]` is the number of ways in which layers i.. cost exactly b units more than their
    cheapest choices. int64 where the space's size fits, else float64 (relative error below 1e-14).
    """

    def __init__(self, table: LookupTable, metric: str) -> None:
        self.table = table
        self.metric = metric
        self.num_choices = table.num_choices
        rows = [r[:n] for r, n in zip(table.costs[metric], self.num_choices, strict=True)]
        extra = [row - row.min() for row in rows]
        self.base = table.range(metric)[0]
        self.unit = int(np.gcd.reduce(np.concatenate(extra))) or 1
        span = sum(int(e.max()) for e in extra)
        self.exact = span // self.unit < MAX_BINS
        if not self.exact:  # odd widths: cells, and every draw is checked against the true cost
            self.unit = -(-span // MAX_BINS)
        self.steps = [e // self.unit for e in extra]
        self.suffix = self._count()

    def _count(self) -> list[np.ndarray]:
        size = float(np.prod(self.num_choices.astype(np.float64)))
        dtype = np.int64 if size < 2**62 else np.float64
        suffix = [np.ones(1, dtype=dtype)]
        for steps in reversed(self.steps):
            after = suffix[-1]
            counts = np.zeros(len(after) + int(steps.max()), dtype=dtype)
            for step in steps.tolist():
                counts[step : step + len(after)] += after
            suffix.append(counts)
        return suffix[::-1]

    def bins(self, low: int, high: int) -> tuple[int, int]:
        """The half-open range of suffix[0] whose costs can lie in [low, high]."""
        slack = 0 if self.exact else len(self.steps)  # each layer was rounded down
        start = -(-(low - self.base) // self.unit) - slack
        stop = (high - self.base) // self.unit + 1
        last = len(self.suffix[0])
        return min(max(start, 0), last), min(max(stop, 0), last)

    @cached_property
    def median(self) -> int:
        """The median cost over all architectures (to a unit)."""
        cumulative = np.cumsum(self.suffix[0].astype(np.float64))
        return self.base + self.unit * int(np.searchsorted(cumulative, cumulative[-1] / 2))

    def nearest(self, low: int, high: int) -> list[int]:
        """The costs that exist next below and next above an empty window."""
        start, stop = self.bins(low, high)
        exists = np.flatnonzero(self.suffix[0])
        below, above = exists[exists < start][-1:], exists[exists >= stop][:1]
        return [int(self.base + self.unit * b) for b in (*below, *above)]


class Budget:
    """The architectures whose cost is in [low, high].

    Args:
        counts: of the metric that is constrained.
        low, high: in single MACs or params; None is no bound.

    Raises:
        ValueError: no architecture is inside; the message states what is feasible.
    """

    def __init__(self, counts: BudgetCounts, low: int | None, high: int | None) -> None:
        self.counts = counts
        lowest, highest = counts.table.range(counts.metric)
        self.low = lowest if low is None else int(low)
        self.high = highest if high is None else int(high)
        start, stop = counts.bins(self.low, self.high)
        if stop <= start or not counts.suffix[0][start:stop].any():
            raise ValueError(self._infeasible(lowest, highest))

    def _infeasible(self, lowest: int, highest: int) -> str:
        unit = UNIT[self.counts.metric]
        text = (
            f"no architecture of this space costs between {in_millions(self.low)} and "
            f"{in_millions(self.high)} {unit}: its range is {in_millions(lowest)} to "
            f"{in_millions(highest)} {unit}"
        )
        if lowest <= self.high and self.low <= highest and self.low <= self.high:
            near = [in_millions(c) for c in self.counts.nearest(self.low, self.high)]
            text += f", the nearest costs are {' and '.join(near)}"
        return text + "; mend --target-hc or --min-hc"

    @cached_property
    def count(self) -> int:
        """How many architectures are inside (with cells: at least so many are near it)."""
        start, stop = self.counts.bins(self.low, self.high)
        window = self.counts.suffix[0][start:stop]
        if window.dtype == np.float64:
            return int(window.sum())
        return sum(window[window > 0].tolist())  # Python integers do not overflow

    def contains(self, architectures: np.ndarray) -> np.ndarray:
        """int [N, L] -> bool [N]."""
        cost = self.counts.table.cost(architectures, self.counts.metric)
        return (cost >= self.low) & (cost <= self.high)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n independent architectures [n, L], uniform over those inside.

        Raises:
            ValueError: the table is counted in cells, and hardly any cell's costs are inside.
        """
        drawn = self._draw(n, rng)
        if self.counts.exact:
            return drawn
        kept = drawn[self.contains(drawn)]
        for _ in range(MAX_ROUNDS):
            if len(kept) >= n:
                return kept[:n]
            drawn = self._draw(max(n, BATCH), rng)
            kept = np.concatenate([kept, drawn[self.contains(drawn)]])
        if len(kept) >= n:
            return kept[:n]
        raise ValueError(
            f"the window {in_millions(self.low)} to {in_millions(self.high)} is too narrow to "
            f"sample; widen it by {in_millions(self.counts.unit * len(self.counts.steps))}"
        )

    def _draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw a total for each sample, then choices down the layers that add up to it."""
        start, stop = self.counts.bins(self.low, self.high)
        cumulative = np.cumsum(self.counts.suffix[0][start:stop], dtype=np.float64)
        left = start + _pick(cumulative, rng.random(n))
        architectures = np.empty((n, len(self.counts.steps)), dtype=np.int64)
        for i, steps in enumerate(self.counts.steps):
            after = self.counts.suffix[i + 1]
            rest = left[:, None] - steps  # [n, C] units for the layers that follow
            possible = (rest >= 0) & (rest < len(after))
            weights = np.where(possible, after[np.where(possible, rest, 0)], 0).astype(np.float64)
            cumulative = np.cumsum(weights, axis=1)
            target = rng.random(n) * cumulative[:, -1]
            choice = np.minimum((cumulative <= target[:, None]).sum(axis=1), len(steps) - 1)
            architectures[:, i] = choice
            left = left - steps[choice]
        return architectures

    def sample_unique(
        self, n: int, rng: np.random.Generator, exclude: Collection[tuple[int, ...]] = ()
    ) -> np.ndarray:
        """Up to n different architectures [m, L], none of `exclude`, uniform over those inside.

        m < n only where fewer are left.
        """
        seen = set(exclude)
        # Where repeats are rare, drawing again ends soon; where few are inside, list them all.
        if self.counts.exact and self.count <= 4 * (len(seen) + n):
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

    def enumerate(self) -> np.ndarray:
        """All architectures inside, int [count, L], in lexicographic order. For small windows."""
        start, stop = self.counts.bins(self.low, self.high)
        partial = np.zeros((1, 0), dtype=np.int64)
        spent = np.zeros(1, dtype=np.int64)
        for i, steps in enumerate(self.counts.steps):
            reachable = np.concatenate([[0], np.cumsum(self.counts.suffix[i + 1] > 0)])
            total = spent[:, None] + steps  # [M, C]
            low = np.clip(start - total, 0, len(reachable) - 1)
            high = np.clip(stop - total, 0, len(reachable) - 1)
            row, choice = np.nonzero(reachable[high] > reachable[low])
            partial = np.column_stack([partial[row], choice])
            spent = total[row, choice]
        return partial[self.contains(partial)]


def _pick(cumulative: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Indices drawn in proportion to the increments of `cumulative`; never one of weight 0."""
    return np.searchsorted(cumulative, uniform * cumulative[-1], side="right")
