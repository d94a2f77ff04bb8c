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
    """One metric's cells.

    Attributes:
        unit: width of a cell.
        steps: cells that a choice takes, rounded down, int [L, C].
        extra: cost of a choice above the layer's cheapest, int [L, C].
        low, high: of the limit, above the cheapest network of allowed choices.
        last: the last cell that can hold a network within the limit.
        rounded: what rounding down can take off layers i.. together, [L + 1].
    """

    def __init__(self, table: LookupTable, limit: Limit, allowed: np.ndarray) -> None:
        costs = table.costs[limit.metric]
        least = np.where(allowed, costs, np.iinfo(np.int64).max).min(axis=1)
        self.extra = np.where(allowed, costs - least[:, None], 0)  # [L, C]
        base = table.fixed[limit.metric] + int(least.sum())
        self.span = int(self.extra.max(axis=1).sum())
        lowest, highest = table.range(limit.metric)
        self.low = max(0, (lowest if limit.low is None else limit.low) - base)
        self.high = min(self.span, (highest if limit.high is None else limit.high) - base)
        self.finest = int(np.gcd.reduce(self.extra.ravel())) or 1

    @property
    def feasible(self) -> bool:
        """False where the cheapest or the most expensive choices alone break the limit."""
        return self.high >= 0 and self.low <= self.span

    def cut(self, cells: int) -> None:
        """Set the width of a cell, so that there are about `cells` of them."""
        self.unit = max(self.finest, -(-(self.high + 1) // cells))
        self.steps = self.extra // self.unit
        self.last = self.high // self.unit
        rest = (self.extra - self.steps * self.unit).max(axis=1)  # [L]
        self.rounded = [*np.cumsum(rest[::-1])[::-1].tolist(), 0]

    def window(self, spent: Whole, layer: int) -> tuple[Whole, Whole]:
        """First and last cell in which layers from `layer` on can end within the limit.

        The first can be below 0.

        Args:
            spent: of the layers before, above their cheapest choices, int or int [M].
        """
        low = -((spent + self.rounded[layer] - self.low) // self.unit)  # rounded up
        return low, (self.high - spent) // self.unit


class JointCounts(BudgetCounts):
    """Counts of completions per cell of two metrics.

    Args:
        limits: of two metrics whose costs add up.
        equivalence, allowed: as of `BudgetCounts`.
    """

    def __init__(
        self,
        table: LookupTable,
        limits: tuple[Limit, Limit],
        equivalence: Equivalence | None,
        allowed: np.ndarray,
    ) -> None:
        self.table = table
        self.metric = limits[0].metric
        self.limits = limits
        self.num_choices = table.num_choices
        self.exact = False
        exists = np.arange(allowed.shape[1]) < self.num_choices[:, None]
        allowed = allowed & exists
        self.axes = tuple(Axis(table, limit, allowed) for limit in limits)
        self.feasible = all(axis.feasible for axis in self.axes)
        if not self.feasible:
            return
        first, second = self.axes
        sides = [axis.high // axis.finest + 1 for axis in self.axes]
        side = int(CELLS**0.5)
        first.cut(max(side, CELLS // sides[1]))
        second.cut(max(side, CELLS // (first.last + 1)))
        for axis in self.axes:
            allowed = allowed & (axis.extra <= axis.high)
        self.columns = second.last + 1
        widest = int(second.steps.max(initial=0, where=allowed))
        self.stride = self.columns + max(1, widest)
        self.length = first.last * self.stride + self.columns
        flat = first.steps * self.stride + second.steps
        steps = [row[:n] for row, n in zip(flat, self.num_choices, strict=True)]
        self._count_steps(steps, equivalence, allowed)
        self.window = self._window()

    def outside(self, length: int) -> np.ndarray:
        return np.arange(length) % self.stride >= self.columns

    def _window(self) -> np.ndarray:
        """Architectures per bin, [B], of the cells that can hold some within both limits."""
        row, column = np.divmod(np.arange(len(self.total)), self.stride)
        inside = np.ones(len(self.total), dtype=bool)
        for axis, cell in zip(self.axes, (row, column), strict=True):
            start, end = axis.window(0, 0)
            inside &= (cell >= start) & (cell <= end)
        window = np.where(inside, self.total, 0)
        return window[: int(np.flatnonzero(window)[-1]) + 1] if window.any() else window[:0]

    @property
    def size(self) -> float:
        """Architectures in the cells: at least as many as are within both limits."""
        return float(self.window.sum(dtype=np.float64))

    def draw_inside(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw n architectures [n, L], uniform over the cells; some are outside the limits."""
        return self._draw(n, self.window, 0, rng)

    def rows(self, bins: np.ndarray, missing: float = 0) -> np.ndarray:
        """[S, B] -> [S, rows, columns] of the cells, `missing` where bins end."""
        states, length = bins.shape
        rows = -(-length // self.stride)
        padded = np.full((states, rows * self.stride), missing, dtype=bins.dtype)
        padded[:, :length] = bins
        return padded.reshape(states, rows, self.stride)[:, :, : self.columns]

    def list_inside(self) -> np.ndarray | None:
        """List every architecture within both limits, int [M, L]; None where they are too many.

        Breadth first, without what no completion brings within the limits: cells of the layers to
        come, true costs of those before.
        """
        partial = np.zeros((1, 0), dtype=np.uint8)
        spent = [np.zeros(1, dtype=np.int64) for _ in self.axes]
        state = np.zeros(1, dtype=bool)
        for i, binds in enumerate(self.binding):
            allowed = np.flatnonzero(self.allowed[i])
            if len(partial) * len(allowed) > 4 * MAX_PARTIAL:
                return None
            total = [
                (now[:, None] + axis.extra[i, allowed]).ravel()
                for now, axis in zip(spent, self.axes, strict=True)
            ]
            now_binds = np.tile(binds[allowed], len(partial))
            goes_on = self._reachable(i + 1, total, now_binds)
            if self.continues[i]:
                goes_on &= ~np.repeat(state, len(allowed)) | now_binds
            kept = np.flatnonzero(goes_on)
            if len(kept) > MAX_PARTIAL:
                return None
            choice = allowed[kept % len(allowed)].astype(np.uint8)
            partial = np.column_stack([partial[kept // len(allowed)], choice])
            spent, state = [t[kept] for t in total], now_binds[kept]
        return partial.astype(np.int64)

    def _reachable(self, layer: int, spent: list[np.ndarray], state: np.ndarray) -> np.ndarray:
        """Tell which prefixes have completions within both limits, bool [M]."""
        exists = self.rows((self.suffix[layer] > 0).astype(np.int32))
        many = np.pad(exists.cumsum(axis=1).cumsum(axis=2), ((0, 0), (1, 0), (1, 0)))
        at = state.astype(np.intp) if len(many) == 2 else np.zeros(len(state), dtype=np.intp)
        windows = [a.window(s, layer) for a, s in zip(self.axes, spent, strict=True)]
        (top, bottom), (left, right) = (
            (np.clip(low, 0, most), np.clip(high + 1, 0, most))
            for (low, high), most in zip(windows, np.array(many.shape[1:]) - 1, strict=True)
        )
        number = many[at, bottom, right] - many[at, top, right]
        number += many[at, top, left] - many[at, bottom, left]
        return (number > 0) & (bottom > top) & (right > left)
