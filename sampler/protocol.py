"""What a supernet's training uses of a sampler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
from torch import Tensor

from config_file.arg_config.supernet_config import SupernetCommand
from lookup_table import Budget
from model import Supernet

if TYPE_CHECKING:
    from sampler.alpha import ArchitectureTraining, StatefulBatches


class Sampler(Protocol):
    """Draws what each training step runs; `state_dict` holds all its state.

    Attributes:
        distills: the first path of a step teaches the others.
    """

    distills: ClassVar[bool] = False

    def __init__(self, num_choices: np.ndarray, rng: np.random.Generator) -> None:
        """Draw from `num_choices` [L] choices with `rng`, the source of all randomness."""

    @classmethod
    def from_config(
        cls,
        config: SupernetCommand,
        supernet: Supernet,
        rng: np.random.Generator,
        budget: Budget | None,
    ) -> Sampler:
        """Make the sampler of a run; one with flags of its own replaces this."""
        return cls(supernet.space.num_choices, rng)

    def architecture_training(
        self, config: SupernetCommand, supernet: Supernet, batches: StatefulBatches, budget: Budget
    ) -> ArchitectureTraining | None:
        """What trains its architecture parameters on `batches`; None if it has no parameters."""
        return None

    def step_paths(self) -> np.ndarray | Sequence[np.ndarray | Tensor]:
        """The supernet's second arguments for one weight step, whose gradients add up before one
        update: paths, int [L], or weights, float [L, C]."""
        ...

    def state_dict(self) -> dict: ...

    def load_state_dict(self, state: dict) -> None: ...
