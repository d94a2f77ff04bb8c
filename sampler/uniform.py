"""Uniform single-path sampling (SPOS, https://arxiv.org/abs/1904.00420, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from config_file.arg_config.supernet_config import SupernetCommand
from lookup_table import Budget
from model import Supernet
from sampler.protocol import Sampler
from sampler.sandwich import SandwichSampler

DrawPaths = Callable[[int, np.random.Generator], np.ndarray]  # (n, rng) -> int [n, L]
AHEAD = 64  # paths per call of `draw`, which has a fixed cost


class UniformSampler(Sampler):
    """One path per training step, uniform over each layer's allowed choices.

    Args:
        num_choices: choices of each layer, int [L].
        rng: the run's generator; its state is the sampler's state.
        draw: replaces the plain uniform draw; `Budget.sample` is uniform over the architectures
            within a budget.
    """

    def __init__(
        self, num_choices: np.ndarray, rng: np.random.Generator, draw: DrawPaths | None = None
    ) -> None:
        self.num_choices = num_choices
        self.rng = rng
        self.draw = draw
        self.ahead = np.empty((0, len(num_choices)), dtype=np.int64)

    @classmethod
    def from_config(
        cls,
        config: SupernetCommand,
        supernet: Supernet,
        rng: np.random.Generator,
        budget: Budget | None,
    ) -> Sampler:
        if config.sampling.sandwich:
            return SandwichSampler(supernet.space, rng)
        if not config.sampling.sample_in_budget:
            return cls(supernet.space.num_choices, rng)
        assert budget is not None  # --sample-in-budget makes the run build one
        return cls(supernet.space.num_choices, rng, budget.sample)

    def step_paths(self) -> np.ndarray:
        """Draw the path of one training step, int [1, L]."""
        if self.draw is None:
            return self.rng.integers(0, self.num_choices)[None]
        if not len(self.ahead):
            self.ahead = self.draw(AHEAD, self.rng)
        path, self.ahead = self.ahead[:1], self.ahead[1:]
        return path

    def state_dict(self) -> dict:
        return {"rng": self.rng.bit_generator.state, "ahead": self.ahead.tolist()}

    def load_state_dict(self, state: dict) -> None:
        self.rng.bit_generator.state = state["rng"]
        self.ahead = np.array(state["ahead"], dtype=np.int64).reshape(-1, len(self.num_choices))
