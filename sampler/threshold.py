"""Norm thresholds of a superkernel (Single-Path NAS, https://arxiv.org/abs/1904.02877, 3.1-3.2)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from model import SuperkernelSupernet
from sampler.architecture import ArchitectureDraw, ArchitectureSampler


class ThresholdSampler(ArchitectureSampler):
    """One path, which the superkernels' group norms and trained thresholds decide.

    Its parameters `alpha` are the thresholds [L, G] of `SuperkernelSupernet.gate_margins`; they
    start at 0, where every gate is open. Nothing is random.

    Raises:
        ValueError: a layer lacks a combination of its kernels and expansions.
    """

    def __init__(
        self, supernet: SuperkernelSupernet, num_choices: np.ndarray, rng: np.random.Generator
    ) -> None:
        super().__init__(num_choices, rng)
        supernet.check_thresholds()
        self.supernet = supernet
        self.alpha = torch.zeros(len(num_choices), supernet.num_gates, requires_grad=True)

    def probabilities(self) -> Tensor:
        """[L, C]: softmax of the choices' scores; its largest entries are the decisions."""
        return self.supernet.choice_scores(self.alpha).cpu().softmax(1)

    def decisions(self) -> Tensor:
        """One-hot [L, C], with the sigmoids' gradients to thresholds and supernet weights."""
        return self.supernet.choice_gates(self.alpha).cpu()

    def step_paths(self) -> list[Tensor]:
        return [self.alpha.detach()]

    def draw(self) -> ArchitectureDraw:
        return ArchitectureDraw(self.alpha, self.decisions())
