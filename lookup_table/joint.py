"""Counts of architectures per pair of costs, in cells of two metrics at once.

Two metrics with many different sums each have too many pairs of sums to count one by one, so each
axis is cut into cells, from the cheapest network to the limit, and each layer's costs are rounded
down to cells. Cell (a, b) is bin a * stride + b of a `BudgetCounts`, with columns of zeros between
two rows, so that a step to the left of a row's first column finds no completions. A draw from the
cells that can hold networks within both limits, checked against its true costs, is uniform over
those within (Dyer, 2003, https://doi.org/10.1145/780542.780643, on the knapsack).
Legend: L layers, C choices, B bins, S states, M partial architectures.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from lookup_table.counts import BudgetCounts
from lookup_table.equivalence import Equivalence
from lookup_table.limits import Limit
from lookup_table.table import LookupTable

CELLS = 1 << 17
Whole = TypeVar("Whole", int, np.ndarray)
MAX_PARTIAL = 1 << 20  # partial architectures that listing holds at a time


class Axis:
    """One metric's cells."""

    def __init__(self, table: LookupTable, limit: Limit, allowed: np.ndarray) -> None:
        self.extra = table.extra(limit.metric, allowed)
        base, highest = table.range(limit.metric, allowed)
        low, high = limit.span(table)
        # the limit, above the cheapest network of allowed choices
        self.low, self.high = max(0, low - base), min(highest, high) - base
        self.feasible = self.high >= 0 and self.low <= highest - base
        self.finest = int(np.gcd.reduce(self.extra, axis=None)) or 1

    def cut(self, cells: int) -> None:
        """Set the width of a cell, so that there are about `cells` of them."""
        self.unit = max(self.finest, -(-(self.high + 1) // cells))
        self.steps, rest = np.divmod(self.extra, self.unit)  # [L, C]
        self.last = self.high // self.unit  # cell that can hold a network within the limit
        # what rounding down can take off layers i.. together, [L + 1]
        self.rounded = [*np.cumsum(rest.max(axis=1)[::-1])[::-1].tolist(), 0]

    def window(self, spent: Whole, layer: int) -> tuple[Whole, Whole]:
        """Return first (maybe below 0) and last cell where layers `layer`.. can end within limits.

        Args:
            spent: by the layers before, above their cheapest choices, int or int [M].
        """
        low = -((spent + self.rounded[layer] - self.low) // self.unit)  # rounded up
        return low, (self.high - spent) // self.unit


class JointCounts(BudgetCounts):
    """Counts of completions per cell of two metrics whose costs add up; see `BudgetCounts`.

    Attributes:
        window: architectures per bin, [B], of the cells that can hold some within both limits.
    """

    def __init__(
        self,
        table: LookupTable,
        limits: tuple[Limit, Limit],
        equivalence: Equivalence | None,
        allowed: np.ndarray,
    ) -> None:
        self.exact = False
        self.window = np.zeros(0, dtype=np.int64)
        self.axes = tuple(Axis(table, limit, allowed) for limit in limits)
        if not all(axis.feasible for axis in self.axes):
            return  # nothing can fit: the window stays empty
        first, second = self.axes
        sides = [axis.high // axis.finest + 1 for axis in self.axes]  # cells of the finest width
        side = int(CELLS**0.5)
        first.cut(max(side, CELLS // sides[1]))  # more rows where few columns are enough
        second.cut(max(side, CELLS // (first.last + 1)))
        for axis in self.axes:
            allowed = allowed & (axis.extra <= axis.high)  # others alone are above the limit
        self.columns = second.last + 1
        # zeros behind each row are as wide as the widest step, so that none reaches another row
        self.stride = self.columns + max(1, int(second.steps.max(initial=0, where=allowed)))
        self.length = first.last * self.stride + self.columns
        steps = first.steps * self.stride + second.steps
        self._count(table, limits[0].metric, steps, equivalence, allowed)
        row, column = np.divmod(np.arange(len(self.total)), self.stride)
        inside = np.ones(len(self.total), dtype=bool)
        for axis, cell in zip(self.axes, (row, column), strict=True):
            start, end = axis.window(0, 0)  # of whole networks
            inside &= (cell >= start) & (cell <= end)
        window = np.where(inside, self.total, 0)
        self.window = window[: int(np.flatnonzero(window).max(initial=-1)) + 1]

    def outside(self, length: int) -> np.ndarray:
        return np.arange(length) % self.stride >= self.columns

    @property
    def size(self) -> float:
        """Architectures in the cells: at least as many as are within both limits."""
        return float(self.window.sum(dtype=np.float64))

    def draw_inside(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw n architectures [n, L], uniform over the cells; some are outside the limits."""
        return self.draw(n, self.window, 0, rng)

    def rows(self, bins: np.ndarray, missing: float = 0) -> np.ndarray:
        """Arrange bins [S, B] as cells [S, rows, columns], `missing` where bins end."""
        states, length = bins.shape
        rows = -(-length // self.stride)
        padded = np.full((states, rows * self.stride), missing, dtype=bins.dtype)
        padded[:, :length] = bins
        return padded.reshape(states, rows, self.stride)[:, :, : self.columns]

    def list_inside(self) -> np.ndarray | None:
        """List every architecture within both limits, int [M, L]; None where they are too many."""
        if not len(self.window):
            return np.empty((0, len(self.axes[0].extra)), dtype=np.int64)
        return self._list([axis.extra for axis in self.axes], self._reachable, MAX_PARTIAL)

    def _reachable(self, layer: int, spent: list[np.ndarray], state: np.ndarray) -> np.ndarray:
        """Tell by true costs of prefixes and cells of the layers to come which can be ended."""
        exists = self.rows((self.suffix[layer] > 0).astype(np.int32))  # [S, rows, columns]
        many = np.pad(exists.cumsum(axis=1).cumsum(axis=2), ((0, 0), (1, 0), (1, 0)))
        at = np.minimum(state, len(many) - 1)
        windows = [a.window(s, layer) for a, s in zip(self.axes, spent, strict=True)]
        (top, bottom), (left, right) = (
            (np.clip(low, 0, most), np.clip(high + 1, 0, most))
            for (low, high), most in zip(windows, np.array(many.shape[1:]) - 1, strict=True)
        )
        number = many[at, bottom, right] - many[at, top, right]  # by corners of 2-D prefix sums
        number += many[at, top, left] - many[at, bottom, left]
        return (number > 0) & (bottom > top) & (right > left)
