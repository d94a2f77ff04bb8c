"""Uniform single-path sampling (SPOS, https://arxiv.org/abs/1904.00420, section 3.2)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np

from config_file.arg_config.supernet_config import SupernetCommand
from lookup_table import Budget
from model import Supernet
from sampler.base import Sampler
from sampler.sandwich import SandwichSampler

DrawPaths = Callable[[int, np.random.Generator], np.ndarray]  # (n, rng) -> int [n, L]
AHEAD = 64  # paths per call of `draw`, which has a fixed cost


def draw_from_bins(budget: Budget, num_bins: int) -> DrawPaths:
    """Divide a budget's window into bins: one is drawn uniformly, then an architecture in it.

    SPOS's code does so (src/Supernet/train.py), there by drawing again up to 500 times.

    Args:
        budget: of one limit. Bins are of equal width with both ends; those without an
            architecture are never drawn.
    """
    if num_bins == 1:
        return budget.sample
    edges = np.linspace(budget.low, budget.high, num_bins + 1)
    bins = []
    for low, high in zip(np.ceil(edges[:-1]), np.floor(edges[1:]), strict=True):  # whole costs
        with contextlib.suppress(ValueError):  # an empty one
            bins.append(Budget(budget.counts, int(low), int(high)))

    def draw(n: int, rng: np.random.Generator) -> np.ndarray:
        drawn = rng.integers(len(bins), size=n)
        paths = np.empty((n, len(budget.counts.steps)), dtype=np.int64)
        for i in np.unique(drawn):  # one call of `sample` per bin
            paths[drawn == i] = bins[i].sample(int((drawn == i).sum()), rng)
        return paths

    return draw


class UniformSampler(Sampler):
    """One path per training step, uniform over each layer's allowed choices.

    Args:
        draw: replaces the plain uniform draw; `Budget.sample` is uniform over the architectures
            within a budget.
    """

    def __init__(
        self, num_choices: np.ndarray, rng: np.random.Generator, draw: DrawPaths | None = None
    ) -> None:
        super().__init__(num_choices, rng)
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
        flags, draw = config.sampling, None
        if flags.sandwich:
            return SandwichSampler(supernet.space, rng)
        if flags.sample_in_budget:
            assert budget is not None  # the flag makes the run build one
            draw = draw_from_bins(budget, flags.sample_bins)
        return cls(supernet.space.num_choices, rng, draw)

    def step_paths(self) -> np.ndarray:
        """Draw the path of one training step, int [1, L]."""
        if self.draw is None:
            return self.rng.integers(0, self.num_choices)[None]
        if not len(self.ahead):
            self.ahead = self.draw(AHEAD, self.rng)
        path, self.ahead = self.ahead[:1], self.ahead[1:]
        return path

    def state_dict(self) -> dict:
        return super().state_dict() | {"ahead": self.ahead.tolist()}  # the rng is past these paths

    def load_state_dict(self, state: dict) -> None:
        super().load_state_dict(state)
        self.ahead = np.array(state["ahead"], dtype=np.int64).reshape(-1, len(self.num_choices))
