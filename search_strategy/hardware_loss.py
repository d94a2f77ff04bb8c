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

# (cross-entropy, r = E[cost] / target, log E[cost] / log target, weight) -> total loss
HC_LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor, float], Tensor]] = {
    "abs": lambda ce, ratio, log_ratio, weight: ce + weight * (ratio - 1).abs(),
    "hinge": lambda ce, ratio, log_ratio, weight: ce + weight * (ratio - 1).relu(),
    "log_ratio": lambda ce, ratio, log_ratio, weight: ce * log_ratio**weight,
    "multiplicative": lambda ce, ratio, log_ratio, weight: ce * ratio**weight,
}


class HardwareLoss:
    """Adds the hardware constraint to a cross-entropy.

    abs: CE + w |E/T - 1|; hinge: CE + w max(0, E/T - 1); log_ratio: CE (log E / log T)^w, which is
    FBNet's CE alpha log(E)^beta (equation 2) with beta = w and alpha such that the factor is 1 at
    the target; multiplicative: CE (E/T)^w (ProxylessNAS and MnasNet's factor with beta = w).

    Args:
        table, metric: what is limited.
        target: T, in the table's own integer units (single MACs or params, ns).
        kind: one of HC_LOSSES.
        weight: w; 0 is no constraint.

    Raises:
        ValueError: a target too small to take logarithms.
    """

    def __init__(
        self, table: LookupTable, metric: str, target: int | None, kind: str, weight: float
    ) -> None:
        if kind == "log_ratio" and target is not None and target <= 1:
            raise ValueError("--hc-loss log_ratio needs a --target-hc above 0.000001")
        self.costs = torch.from_numpy(np.asarray(table.costs[metric], dtype=np.float64))  # [L, C]
        self.fixed = float(table.fixed[metric])
        self.target = target
        self.kind = kind
        self.weight = weight

    def expected_cost(self, probabilities: Tensor) -> Tensor:
        """[L, C] -> scalar float64, in the table's units."""
        return self.fixed + (probabilities.double() * self.costs).sum()

    def __call__(self, ce: Tensor, probabilities: Tensor) -> Tensor:
        """The total loss; just the cross-entropy where there is no target."""
        if self.target is None or self.weight == 0:
            return ce
        cost = self.expected_cost(probabilities)
        ratio = cost / self.target
        log_ratio = cost.clamp(min=1.0).log() / np.log(max(self.target, 2))
        ratio, log_ratio = (p.to(ce.device, ce.dtype) for p in (ratio, log_ratio))
        return HC_LOSSES[self.kind](ce, ratio, log_ratio, self.weight)
