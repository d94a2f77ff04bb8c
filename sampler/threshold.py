"""Norm thresholds of a superkernel (Single-Path NAS, https://arxiv.org/abs/1904.02877, 3.1-3.2)."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor

from config_file.arg_config.supernet_config import SupernetCommand
from lookup_table import Budget
from model import SuperkernelSupernet, Supernet
from sampler.architecture import ArchitectureDraw, ArchitectureSampler


class ThresholdSampler(ArchitectureSampler):
    """One path, decided by group norms of the superkernels and trained thresholds.

    The parameters `alpha` are the thresholds [L, G] of `SuperkernelSupernet.gate_margins`; they
    start at 0, where all gates are open.

    Args:
        dropout: probability that a gate is closed in a weight step of a warm-up epoch, so that
            smaller slices are trained too (indicator dropout). Nothing else is random.

    Raises:
        ValueError: a layer lacks a combination of its kernels and expansions.
    """

    constrains_weights = True

    def __init__(
        self,
        supernet: SuperkernelSupernet,
        num_choices: np.ndarray,
        rng: np.random.Generator,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(num_choices, rng)
        supernet.check_thresholds()
        self.supernet = supernet
        self.dropout = dropout
        self.alpha = torch.zeros(len(num_choices), supernet.num_gates, requires_grad=True)  # [L, G]

    @classmethod
    def from_config(
        cls,
        config: SupernetCommand,
        supernet: Supernet,
        rng: np.random.Generator,
        budget: Budget | None,
    ) -> ThresholdSampler:
        superkernel = cast(SuperkernelSupernet, supernet)  # sampling_problems refuses others
        return cls(superkernel, supernet.space.num_choices, rng, config.alpha.indicator_dropout)

    def probabilities(self) -> Tensor:
        """Return the softmax of the choices' scores, [L, C]; its maxima are the decisions."""
        return self.supernet.choice_scores(self.alpha).cpu().softmax(1)

    def cost_probabilities(self) -> Tensor:
        """Return the decisions, one-hot [L, C]: the paper's runtime is of the decided network.

        Their gradients to thresholds and weights are the sigmoids'.
        """
        return self.supernet.choice_gates(self.alpha).cpu()  # the costs are on the CPU

    def step_paths(self) -> list[Tensor]:
        thresholds = self.alpha.detach()
        if not (self.warming_up and self.dropout):
            return [thresholds]
        # an infinite threshold closes its gate
        closed = torch.from_numpy(self.rng.random(tuple(thresholds.shape)) < self.dropout)
        return [thresholds.masked_fill(closed, torch.inf)]

    def draw(self) -> ArchitectureDraw:
        return ArchitectureDraw(self.alpha, self.cost_probabilities())
