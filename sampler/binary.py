"""Binary gates (ProxylessNAS, https://arxiv.org/abs/1812.00332, sections 3.2.1 and 3.3)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from config_file.arg_config.supernet_config import SupernetCommand
from sampler.architecture import ArchitectureDraw, ArchitectureSampler


class BinaryGateSampler(ArchitectureSampler):
    """Weight steps run one path drawn from softmax(alpha); architecture steps, two choices a layer.

    The two are drawn without replacement, and all others are masked as if they did not exist. A
    gate opens one of the two; the gradient through the gates (equation 4) changes the two alphas.

    Args:
        all_gates: an architecture step draws one path too and takes the gradients of all gates, as
            the authors' code does by default (its `full_v2`, github.com/mit-han-lab/proxylessnas).
    """

    def __init__(
        self, num_choices: np.ndarray, rng: np.random.Generator, all_gates: bool = False
    ) -> None:
        super().__init__(num_choices, rng)
        self.all_gates = all_gates

    @classmethod
    def options(cls, config: SupernetCommand) -> dict[str, Any]:
        return {"all_gates": config.alpha.binary_gates == "all"}

    def step_paths(self) -> list[np.ndarray]:
        return [self.random_path()]

    def draw(self) -> ArchitectureDraw:
        used = self.mask  # [L, C]
        if not self.all_gates:
            # Gumbel top-k: the two largest of alpha + noise are two draws without replacement
            order = (self.logits.detach() + self.gumbel_noise()).argsort(1, descending=True)[:, :2]
            used = torch.zeros_like(self.mask).scatter(1, order, True) & self.mask
        pair = self.alpha.masked_fill(~used, -torch.inf).softmax(1)  # p of the two, reset
        opened = (pair.detach().log() + self.gumbel_noise()).argmax(1)  # [L], drawn from the pair
        # d weights_j / d alpha_i = p_j (delta_ij - p_i): equation 4, the gates in place of weights
        gates = F.one_hot(opened, pair.shape[1]) + (pair - pair.detach())
        # the value of E[cost] is over all choices; its gradient is that of the pair's own softmax,
        # not scaled by the probability of the pair, as in the authors' code
        probabilities = self.probabilities().detach() + (pair - pair.detach())
        return ArchitectureDraw(gates, probabilities, used.numpy())

    @torch.no_grad()
    def after_update(self, drawn: ArchitectureDraw, before: Tensor) -> None:
        """Rescale the two so that the probabilities of all others stay the same (section 3.3).

        exp(alpha) of the two is multiplied by one ratio per layer. The others are set back to
        `before`, since momentum and weight decay of the optimiser would move them. Where all gates
        learn, nothing is to be kept.
        """
        if self.all_gates:
            return
        used = torch.from_numpy(drawn.used)
        # undo what momentum and decay did to the others
        changed = torch.where(used, self.alpha, before)
        # log of the pair's sum of exp(alpha), [L], before and after
        masses = [a.masked_fill(~used, -torch.inf).logsumexp(1) for a in (before, changed)]
        ratio = (masses[0] - masses[1])[:, None]  # its logarithm, [L, 1]
        self.alpha.copy_(torch.where(used, changed + ratio, before))
