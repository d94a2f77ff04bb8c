"""Strict fairness (FairNAS, https://arxiv.org/abs/1907.01845, section 3.2 and algorithm 1)."""

from __future__ import annotations

import numpy as np

from sampler.base import Sampler


class FairSampler(Sampler):
    """m paths per step, m being the most choices of any layer; each choice is in exactly one.

    A layer with n < m choices deals out one random permutation after another, so its counts differ
    by at most one at any time and are equal after every n / gcd(m, n) steps. The gradients of a
    step's paths add up before its one update.
    """

    def __init__(self, num_choices: np.ndarray, rng: np.random.Generator) -> None:
        super().__init__(num_choices, rng)
        self.left: list[list[int]] = [[] for _ in num_choices]  # dealt, not yet in a path

    def step_paths(self) -> np.ndarray:
        """Draw the paths of one training step, int [C, L]."""
        paths = int(self.num_choices.max())
        columns = []
        for left, n in zip(self.left, self.num_choices, strict=True):
            while len(left) < paths:  # a permutation may span two steps
                left += self.rng.permutation(n).tolist()
            columns.append(left[:paths])
            del left[:paths]
        return np.array(columns).T  # columns are [L, C]

    def state_dict(self) -> dict:
        return super().state_dict() | {"left": [list(row) for row in self.left]}

    def load_state_dict(self, state: dict) -> None:
        super().load_state_dict(state)
        self.left = [list(row) for row in state["left"]]
