"""Hardware constraint as a loss that is differentiable in the architecture parameters.

The expected cost of independent layers is exact: E[cost] = fixed + sum over layers and choices of
probability times cost (FBNet, https://arxiv.org/abs/1812.03443, equation 5; ProxylessNAS,
https://arxiv.org/abs/1812.00332, equation 6), with the costs of the lookup table.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lookup_table import LookupTable
from lookup_table.table import MILLION

LOWEST_LOG = 1e-3  # lower bound of log E: costs below a million have no positive logarithm

# (cross-entropy, E[cost] in millions or ms, target in the same unit, weight) -> total loss
HC_LOSSES: dict[str, Callable[[Tensor, Tensor, float, float], Tensor]] = {
    "l2": lambda ce, cost, target, w: ce + w * (cost - target) ** 2,
    "abs": lambda ce, cost, target, w: ce + w * (cost / target - 1).abs(),
    "hinge": lambda ce, cost, target, w: ce + w * (cost / target - 1).relu(),
    # signed, as in ProxylessNAS's code (there "add#linear")
    "linear": lambda ce, cost, target, w: ce + w * (cost / target - 1),
    # Single-Path NAS (https://arxiv.org/abs/1904.02877), which has no target
    "log": lambda ce, cost, target, w: ce + w * cost.log(),
    # FBNet's CE alpha log(E)^beta (equation 2) with beta = w and alpha such that the factor is 1 at
    # the target; ProxylessNAS's "mul#log"
    "log_ratio": lambda ce, cost, target, w: (
        ce * (cost.log().clamp(min=LOWEST_LOG) / np.log(target)) ** w
    ),
    # after MnasNet's reward (https://arxiv.org/abs/1807.11626)
    "multiplicative": lambda ce, cost, target, w: ce * (cost / target) ** w,
}


class HardwareLoss:
    """Adds the hardware constraint to a cross-entropy.

    Args:
        target: in the table's own integer units (single MACs or params, ns).
        kind: one of HC_LOSSES.
        weight: 0 means no constraint.
    """

    def __init__(
        self, table: LookupTable, metric: str, target: int | None, kind: str, weight: float
    ) -> None:
        self.costs = torch.from_numpy(np.asarray(table.costs[metric], dtype=np.float64))  # [L, C]
        self.fixed = float(table.fixed[metric])
        self.target = target
        self.kind = kind
        self.weight = weight

    def expected_cost(self, probabilities: Tensor) -> Tensor:
        """Compute the expected cost of probabilities [L, C], a float64 scalar in table units."""
        return self.fixed + (probabilities.double() * self.costs).sum()  # float32 has 24 bits

    def __call__(self, ce: Tensor, probabilities: Tensor) -> Tensor:
        """Return the total loss; the plain cross-entropy if it needs a target and has none."""
        if self.weight == 0 or (self.target is None and self.kind != "log"):
            return ce
        cost = self.expected_cost(probabilities) / MILLION
        target = (self.target or 0) / MILLION  # log looks at none
        return HC_LOSSES[self.kind](ce, cost.to(ce.device, ce.dtype), target, self.weight)
