"""The base of samplers, as a supernet's training uses them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from config_file.arg_config.supernet_config import SupernetCommand
from data import Loader
from lookup_table import Budget
from model import Supernet
from sampler.alpha import ArchitectureTraining


class Sampler:
    """Draws the paths of each training step; `state_dict` holds all its state.

    Args:
        num_choices: choices of each layer, int [L].
        rng: the run's generator, the only source of randomness.

    Attributes:
        distills: True if a step's later paths learn from the outputs of the first.
    """

    distills: ClassVar[bool] = False

    def __init__(self, num_choices: np.ndarray, rng: np.random.Generator) -> None:
        self.num_choices = num_choices
        self.rng = rng

    @classmethod
    def from_config(
        cls,
        config: SupernetCommand,
        supernet: Supernet,
        rng: np.random.Generator,
        budget: Budget | None,
    ) -> Sampler:
        """Make the sampler of a run; one that needs supernet or budget overrides this.

        Args:
            budget: of the run; None if its training looks at no costs.
        """
        return cls(supernet.space.num_choices, rng, **cls.options(config))

    @classmethod
    def options(cls, config: SupernetCommand) -> dict[str, Any]:
        """Return further arguments of the constructor; one with flags of its own overrides this."""
        return {}

    def architecture_training(
        self,
        config: SupernetCommand,
        supernet: Supernet,
        batches: Loader | None,
        budget: Budget | None,
    ) -> ArchitectureTraining | None:
        """Make the trainer of the architecture parameters; None for samplers without any.

        Args:
            batches: images of the part that does not train the weights.
        """
        return None

    def step_paths(self) -> np.ndarray | Sequence[np.ndarray | Tensor]:
        """Draw the supernet's second arguments for one weight step.

        Returns:
            Paths, int [L], or weights, float [L, C], whose gradients add up before one update.
        """
        raise NotImplementedError

    def state_dict(self) -> dict:
        return {"rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: dict) -> None:
        self.rng.bit_generator.state = state["rng"]
