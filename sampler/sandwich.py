"""The sandwich rule with in-place distillation for superkernels (US-Nets,
https://arxiv.org/abs/1903.05134, sections 3.2 and 3.3)."""

from __future__ import annotations

import numpy as np

from model import SearchSpace
from model.blocks import parse_mbconv
from sampler.base import Sampler

RANDOM_PATHS = 2  # between the largest and the smallest, as in the paper's n = 4


def size_order(names: tuple[str, ...]) -> list[int]:
    """Sort a layer's choices from the smallest slice to the largest; skip is the smallest."""
    slices = [parse_mbconv(name) or (0, 0, 0) for name in names]
    # expansion first: it scales the costs of all three convolutions, the kernel only of one
    return sorted(range(len(names)), key=lambda c: (slices[c][1], slices[c][0]))


class SandwichSampler(Sampler):
    """The largest path, two uniform ones and the smallest; their gradients add up.

    The largest learns the labels and comes first; the others learn its outputs (`distills`).
    """

    distills = True

    def __init__(self, space: SearchSpace, rng: np.random.Generator) -> None:
        super().__init__(space.num_choices, rng)
        orders = [size_order(layer.choices) for layer in space.layers]  # per layer, choices by size
        self.smallest = np.array([order[0] for order in orders])
        self.largest = np.array([order[-1] for order in orders])

    def step_paths(self) -> np.ndarray:
        """Draw the paths of one training step, int [4, L], the largest first."""
        size = RANDOM_PATHS, len(self.num_choices)
        between = self.rng.integers(0, self.num_choices, size=size)  # uniform per layer
        return np.stack([self.largest, *between, self.smallest])
