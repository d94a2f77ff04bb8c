"""Architectures that are one and the same standalone network: a canonical code for each.

In a run of layers of one shape (stride 1, in = out, the same size, channels and choices) a skip
adds nothing wherever it stands: (skip, k3_e3) and (k3_e3, skip) build the same network, and only
the sequence of the other choices matters. NAS-Bench-Macro's 6,561 codes are 3,969 networks
(https://arxiv.org/abs/2103.11922, section 3). In a supernet the codes of a network differ all the
same, as they use the weights of different layers; the one that represents it has its skips last
in each run, as a shorter stage of a hand-made network has, or, if asked for, first.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from model.space import SearchSpace

SKIPS_LAST, SKIPS_FIRST = "last", "first"


class Equivalence:
    """The codes of a space that are the same network.

    Args:
        space: the space.
        skips: where the skips of a run stand in the code that represents it: "last" or "first".

    Attributes:
        skip: index of each layer's skip, int [L]; -1 where it has none, or a run of one layer.
        continues: True if a layer belongs to the run of the layer before, bool [L].
    """

    def __init__(self, space: SearchSpace, skips: str = SKIPS_LAST) -> None:
        from model.blocks import SKIPS  # lazily: it loads torch, which --help does not wait for

        assert skips in (SKIPS_LAST, SKIPS_FIRST)
        self.skips = skips
        layers = space.layers
        self.skip = np.full(len(layers), -1)
        for i, layer in enumerate(layers):
            names = [n for n in layer.choices if n in SKIPS]
            if names and layer.stride == 1 and layer.in_chs == layer.out_chs:
                self.skip[i] = layer.choices.index(names[0])
        self.continues = np.array(
            [
                i > 0 and self.skip[i] >= 0 and self.skip[i - 1] >= 0 and layers[i] == layers[i - 1]
                for i in range(len(layers))
            ]
        )
        self.size = self._count([len(layer.choices) for layer in layers])

    @property
    def runs(self) -> list[range]:
        """The layers of each run of at least two."""
        starts = [*np.flatnonzero(~self.continues).tolist(), len(self.continues)]
        pairs = itertools.pairwise(starts)
        return [range(start, stop) for start, stop in pairs if stop - start > 1]

    def _count(self, num_choices: list[int]) -> int:
        """Networks of the space: a run of r layers and k other choices has 1 + k + ... + k^r."""
        size = 1
        in_runs = {i for run in self.runs for i in run}
        for i, n in enumerate(num_choices):
            size *= 1 if i in in_runs else n
        for run in self.runs:
            size *= sum((num_choices[run.start] - 1) ** j for j in range(len(run) + 1))
        return size

    def canonical(self, architectures: np.ndarray) -> np.ndarray:
        """int [N, L] or [L] -> the codes that represent the same networks, in a new array."""
        result = np.array(architectures, copy=True)
        for run in self.runs:
            part = result[..., run.start : run.stop]
            is_skip = part == self.skip[run.start]
            if self.skips == SKIPS_FIRST:
                is_skip = ~is_skip
            order = np.argsort(is_skip, axis=-1, kind="stable")  # the rest keeps its order
            result[..., run.start : run.stop] = np.take_along_axis(part, order, axis=-1)
        return result
