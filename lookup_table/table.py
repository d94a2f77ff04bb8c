"""The lookup table: costs of each choice of each layer, and their sum for whole architectures.

MACs are those of Conv2d and Linear, one multiply-accumulate = 1; params are all parameters of the
standalone subnet. Both add up exactly over the layers and a fixed part (stem, first block, head).
Every cost is an integer, a millionth of its metric's unit: single MACs or params, and nanoseconds
of a latency in ms, so that sums, budgets and their counts are exact for every metric.
Legend: L layers, C the most choices of any layer, N architectures.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from utils.metrics import METRICS, MILLION, Metric, metric_of

BLOCK = 1 << 16  # architectures costed at a time: what is in between stays in the cache
MAX_ENTRIES = 4096  # of the joint table of several layers: 32 kB
NO_COST = np.iinfo(np.int64).max  # where minima start: above every cost


@dataclass(frozen=True)
class LookupTable:
    """Costs of one search space at one input size and class count.

    Attributes:
        costs: metric -> int64 [L, C]; entries beyond a layer's number of choices are 0.
        fixed: metric -> cost of the parts every architecture has.
        num_choices: choices of each layer, int [L].
        units: metric -> what a million of its costs are called; else `metric_of`'s.
        sources: metric -> what is known of its numbers (device, batch, ...), for those that were
            measured or brought and so cannot be counted again.
        peaks: metrics of which the largest part counts, and not the sum (peak memory).
    """

    costs: dict[str, np.ndarray]
    fixed: dict[str, int]
    num_choices: np.ndarray
    units: dict[str, str] = field(default_factory=dict)
    sources: dict[str, dict] = field(default_factory=dict)
    peaks: frozenset[str] = frozenset()

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names: flops, params, and what was measured or brought besides."""
        return tuple(self.costs)

    def metric(self, name: str) -> Metric:
        """Return name, unit and scale of a metric, for people."""
        return metric_of(name, self.units.get(name))

    def unit(self, metric: str) -> str:
        """Return the unit behind a number of the metric: M MACs, ms."""
        return self.metric(metric).full_unit

    def with_metric(
        self,
        metric: str,
        costs: np.ndarray,
        fixed: int,
        unit: str,
        source: dict | None,
        is_peak: bool = False,
    ) -> LookupTable:
        """Return the same table with a metric more, or with other numbers for one.

        Args:
            source: see `sources`; None where the numbers can be counted again.
            is_peak: the largest part counts, and not the sum.
        """
        return replace(
            self,
            costs={**self.costs, metric: costs},
            fixed={**self.fixed, metric: fixed},
            units={**self.units, metric: unit},
            sources=self.sources if source is None else {**self.sources, metric: source},
            peaks=self.peaks | {metric} if is_peak else self.peaks - {metric},
        )

    @cached_property
    def exists(self) -> np.ndarray:
        """The choices that there are, bool [L, C]."""
        width = next(iter(self.costs.values())).shape[1]
        return np.arange(width) < self.num_choices[:, None]

    def _combine(self, metric: str) -> np.ufunc:
        """Return the function that makes the costs of two layers one cost."""
        return np.maximum if metric in self.peaks else np.add

    @cached_property
    def _joint(self) -> dict[str, list[tuple[int, int, np.ndarray]]]:
        """Map metric to (first layer, end, costs of their combinations): one gather for several."""
        joint: dict[str, list[tuple[int, int, np.ndarray]]] = {}
        for metric, table in self.costs.items():
            joint[metric] = []
            start = 0
            while start < len(table):
                stop, sums = start + 1, table[start]
                while stop < len(table) and sums.size * table.shape[1] <= MAX_ENTRIES:
                    sums = self._combine(metric).outer(sums, table[stop]).ravel()  # base-C index
                    stop += 1
                joint[metric].append((start, stop, sums))
                start = stop
        return joint

    def cost(self, architectures: np.ndarray, metric: str) -> np.ndarray:
        """Return the cost of each architecture, int [N, L] or [L] -> int64 [N] or a scalar.

        Fastest for uint8 in column-major order (`np.asfortranarray`).

        Raises:
            IndexError: a choice that no layer has.
        """
        columns = np.atleast_2d(architectures).T  # [L, N]
        num_layers, width = self.costs[metric].shape
        assert len(columns) == num_layers, f"{len(columns)} choices for {num_layers} layers"
        total = np.full(columns.shape[1], self.fixed[metric], dtype=np.int64)
        index = np.empty(min(BLOCK, len(total)), dtype=np.uint16)  # codes are below MAX_ENTRIES
        part = np.empty(len(index), dtype=np.int64)
        combine = self._combine(metric)
        for start in range(0, len(total), BLOCK):
            block = columns[:, start : start + BLOCK]
            if block.max() >= width or block.min() < 0:
                raise IndexError(f"an architecture has a choice outside 0..{width - 1}")
            here, n = total[start : start + BLOCK], block.shape[1]
            for first, stop, sums in self._joint[metric]:
                code = index[:n]
                code[:] = block[first]
                for column in block[first + 1 : stop]:
                    code *= width  # Horner: choices are the digits of a number in base C
                    np.add(code, column, out=code, casting="unsafe")
                # mode raise would buffer `out`; the bounds are checked above
                combine(here, np.take(sums, code, out=part[:n], mode="clip"), out=here)
        return total if np.ndim(architectures) == 2 else total[0]

    def facts(self, architecture: np.ndarray) -> dict[str, int | float]:
        """Return the costs of an architecture [L] for files: flops, params single; else in unit."""
        costs = {m: int(self.cost(architecture, m)) for m in self.metrics}
        return {m: c if m in METRICS else c / MILLION for m, c in costs.items()}

    def range(self, metric: str, allowed: np.ndarray | None = None) -> tuple[int, int]:
        """Return the lowest and highest cost; if given, of `allowed` choices only, bool [L, C]."""
        costs, fixed = self.costs[metric], self.fixed[metric]
        allowed = self.exists if allowed is None else allowed
        lows = costs.min(axis=1, where=allowed, initial=NO_COST)
        highs = costs.max(axis=1, where=allowed, initial=0)
        combine = self._combine(metric)
        return int(combine.reduce(lows, initial=fixed)), int(combine.reduce(highs, initial=fixed))

    def extra(self, metric: str, allowed: np.ndarray) -> np.ndarray:
        """Return what allowed choices cost above the cheapest of them, int64 [L, C]; others 0."""
        costs = self.costs[metric]
        least = costs.min(axis=1, where=allowed, initial=NO_COST, keepdims=True)
        return np.where(allowed, costs - least, 0)
