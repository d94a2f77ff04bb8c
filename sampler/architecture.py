"""Base of the differentiable samplers: architecture parameters and the draws of their steps.

Legend: L layers, C the most choices of any layer. The parameters alpha [L, C] belong to the
sampler, not the supernet, and are on the CPU; entries beyond a layer's choices have probability 0
and gradient 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer

from config_file.arg_config.supernet_config import SupernetCommand
from data import Loader
from lookup_table import Budget
from model import Supernet
from sampler.alpha import ArchitectureTraining
from sampler.base import Sampler
from sampler.hardware_loss import HardwareLoss


@dataclass(frozen=True)
class ArchitectureDraw:
    """One draw for an architecture step; both tensors are differentiable in the parameters.

    Attributes:
        weights: second argument of the supernet, float [L, C] (thresholds of a superkernel).
        probabilities: of the choices, float [L, C], for the expected cost.
        used: choices that take part, bool [L, C]; None means all.
    """

    weights: Tensor
    probabilities: Tensor
    used: np.ndarray | None = None


class ArchitectureSampler(Sampler):
    """Base of the samplers with alpha [L, C]; all choices start with the same probability.

    A subclass has `step_paths`, the draw of a weight step, without gradients to alpha, and `draw`,
    that of an architecture step.
    """

    uses_temperature = False
    weight_paths = "never"  # or "warm-up", "always": when `trains_paths` is True
    constrains_weights = False  # the hardware loss reaches the supernet's weights too

    def __init__(self, num_choices: np.ndarray, rng: np.random.Generator) -> None:
        super().__init__(num_choices, rng)
        # the entries that are choices, bool [L, C]
        self.mask = torch.from_numpy(np.arange(num_choices.max()) < num_choices[:, None])
        self.alpha = torch.zeros(self.mask.shape, requires_grad=True)  # [L, C]
        self.temperature = 1.0
        self.warming_up = False  # set in epochs that train only the weights

    def architecture_training(
        self,
        config: SupernetCommand,
        supernet: Supernet,
        batches: Loader | None,
        budget: Budget | None,
    ) -> ArchitectureTraining:
        """Make the architecture steps of a run; the budget's upper end is the target."""
        assert batches is not None and budget is not None  # a differentiable run has both
        flags, gumbel, costs = config.alpha, config.gumbel, budget.counts
        self.weight_paths = flags.weight_paths
        alpha, decay = [self.alpha], flags.a_weight_decay
        optimizer: Optimizer
        if flags.a_optimizer == "adam":
            optimizer = Adam(alpha, flags.a_lr, flags.a_betas, weight_decay=decay)
        else:
            optimizer = SGD(alpha, flags.a_lr, flags.a_momentum, weight_decay=decay)
        return ArchitectureTraining(
            self,
            supernet,
            batches,
            optimizer,
            HardwareLoss(costs.table, costs.metric, budget.target, flags.hc_loss, flags.hc_weight),
            flags,
            lambda epoch: gumbel.temperature_init * gumbel.temperature_decay**epoch,
            config.sampling.checkpoint_activations,
        )

    @property
    def trains_paths(self) -> bool:
        """True if a weight step trains one random path instead of the sum of all choices."""
        return self.weight_paths == "always" or (self.warming_up and self.weight_paths == "warm-up")

    @property
    def logits(self) -> Tensor:
        """alpha, float [L, C], with -inf beyond a layer's choices."""
        return self.alpha.masked_fill(~self.mask, -torch.inf)

    def probabilities(self) -> Tensor:
        """Return softmax(alpha), [L, C]."""
        return self.logits.softmax(1)

    def cost_probabilities(self) -> Tensor:
        """Return the probabilities that weigh the costs in the expected cost, [L, C]."""
        return self.probabilities()

    def gumbel_noise(self) -> Tensor:
        """Draw Gumbel noise [L, C] from the run's generator, the same on every device and rank."""
        noise = torch.from_numpy(self.rng.gumbel(size=tuple(self.mask.shape)))
        return noise.to(self.alpha.dtype)  # numpy draws float64

    def random_path(self) -> np.ndarray:
        """Draw a path, int [L], from the probabilities by the Gumbel-max trick."""
        return (self.logits.detach() + self.gumbel_noise()).argmax(1).numpy()

    def draw(self) -> ArchitectureDraw:
        """Draw one architecture step."""
        raise NotImplementedError

    def after_update(self, drawn: ArchitectureDraw, before: Tensor) -> None:
        """Correct alpha after the optimiser has changed it from `before`; nothing by default."""

    def state_dict(self) -> dict:
        return super().state_dict() | {
            "alpha": self.alpha.detach().clone(),
            "probabilities": self.probabilities().detach().clone(),  # a search reads these alone
            "temperature": self.temperature,
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict) -> None:
        super().load_state_dict(state)
        self.alpha.copy_(state["alpha"])  # in place: the optimiser holds this tensor
        self.temperature = state["temperature"]
