"""Gumbel-softmax (FBNet, https://arxiv.org/abs/1812.03443, equations 6 and 7), soft and hard."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from config_file.arg_config.supernet_config import SupernetCommand
from sampler.architecture import ArchitectureDraw, ArchitectureSampler


class GumbelSampler(ArchitectureSampler):
    """Weights softmax((alpha + Gumbel noise) / temperature), new noise in every step.

    Args:
        hard: forward, one choice per layer (the largest weight); backward, the soft weights
            (straight-through, https://arxiv.org/abs/1611.01144, section 2.2). A weight step runs
            that path alone.
        sampled_gradient: with `hard`, compute only the sampled choices and count the output of the
            others as 0, as in GDAS (https://arxiv.org/abs/1910.04465, section 3.2). Cheaper, but
            biased; False gives the exact straight-through gradient.
    """

    uses_temperature = True

    def __init__(
        self,
        num_choices: np.ndarray,
        rng: np.random.Generator,
        hard: bool = False,
        sampled_gradient: bool = False,
    ) -> None:
        super().__init__(num_choices, rng)
        self.hard = hard
        self.sampled_gradient = sampled_gradient

    @classmethod
    def options(cls, config: SupernetCommand) -> dict[str, Any]:
        flags = config.gumbel
        return {"hard": flags.gumbel_hard, "sampled_gradient": flags.gumbel_sampled_gradient}

    def soft_weights(self) -> Tensor:
        """Draw softmax((alpha + noise) / temperature), [L, C]."""
        return ((self.logits + self.gumbel_noise()) / self.temperature).softmax(1)

    def step_paths(self) -> list[np.ndarray | Tensor]:
        if self.trains_paths:
            return [self.random_path()]
        soft = self.soft_weights().detach()
        return [soft.argmax(1).numpy() if self.hard else soft]

    def draw(self) -> ArchitectureDraw:
        soft = self.soft_weights()
        if not self.hard:
            return ArchitectureDraw(soft, self.probabilities())  # costs without the noise
        one_hot = F.one_hot(soft.argmax(1), soft.shape[1])
        weights = one_hot + (soft - soft.detach())  # exactly 0 and 1 forward
        used = one_hot.numpy().astype(bool) if self.sampled_gradient else self.mask.numpy()
        return ArchitectureDraw(weights, self.probabilities(), used)
