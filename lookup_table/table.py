"""The lookup table: what each choice of each layer costs, and the sum for whole architectures.

MACs are those of Conv2d and Linear, one multiply-accumulate = 1; params are all parameters of the
standalone subnet. Both add up exactly over the layers and a fixed part (stem, first block, head).
Legend: L layers, C the most choices of any layer, N architectures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

METRICS = ("flops", "params")
UNIT = {"flops": "M MACs", "params": "M params"}
MILLION = 1e6


@dataclass(frozen=True)
class LookupTable:
    """Costs of one search space at one input size and class count.

    Attributes:
        costs: metric -> int64 [L, C]; entries beyond a layer's number of choices are 0.
        fixed: metric -> cost of the parts every architecture has.
        num_choices: choices of each layer, int [L].
    """

    costs: dict[str, np.ndarray]
    fixed: dict[str, int]
    num_choices: np.ndarray

    def cost(self, architectures: np.ndarray, metric: str) -> np.ndarray:
        """int [N, L] or [L] -> int64 [N] or a scalar: the cost of each architecture."""
        table = self.costs[metric]
        columns = np.asarray(architectures).T  # [L, N]
        total = np.full(columns.shape[1:], self.fixed[metric], dtype=table.dtype)
        for layer, choice in zip(table, columns, strict=True):
            total += layer[choice]
        return total

    def range(self, metric: str) -> tuple[int, int]:
        """The lowest and the highest cost of any architecture."""
        rows = [row[:n] for row, n in zip(self.costs[metric], self.num_choices, strict=True)]
        fixed = self.fixed[metric]
        low, high = sum(r.min() for r in rows), sum(r.max() for r in rows)
        return int(fixed + low), int(fixed + high)


def in_millions(cost: float) -> str:
    """A cost for people: as many digits as tell two networks apart."""
    return f"{cost / MILLION:,.3f}"
