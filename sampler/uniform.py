"""Uniform single-path sampling (SPOS, https://arxiv.org/abs/1904.00420, section 3.2)."""

from __future__ import annotations

import numpy as np


class UniformSampler:
    """One path per training step, uniform over each layer's allowed choices.

    Args:
        num_choices: choices of each layer, int [L].
        rng: the run's generator; its state is the sampler's state.
    """

    def __init__(self, num_choices: np.ndarray, rng: np.random.Generator) -> None:
        self.num_choices = num_choices
        self.rng = rng

    def step_paths(self) -> np.ndarray:
        """The paths of one training step, int [1, L]."""
        return self.rng.integers(0, self.num_choices)[None]

    def state_dict(self) -> dict:
        return {"rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: dict) -> None:
        self.rng.bit_generator.state = state["rng"]
