"""Softmax expectation (DARTS, https://arxiv.org/abs/1806.09055, equation 2)."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from sampler.architecture import ArchitectureDraw, ArchitectureSampler


class SoftmaxSampler(ArchitectureSampler):
    """Each layer is the sum of all its choices, weighted by softmax(alpha)."""

    def step_paths(self) -> list[np.ndarray | Tensor]:
        if self.trains_paths:
            return [self.random_path()]
        return [self.probabilities().detach()]

    def draw(self) -> ArchitectureDraw:
        probabilities = self.probabilities()
        return ArchitectureDraw(probabilities, probabilities)  # weights of outputs, and of costs
