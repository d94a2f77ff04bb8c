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
import math
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
        skip: index of the skip that does nothing, int [L]; -1 where a layer has none.
        continues: True if a layer belongs to the run of the layer before, bool [L].
        runs: the layers of each run of at least two.
        size: number of networks.
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
        pairs = itertools.pairwise(range(len(layers)))
        self.continues = np.array(
            [False, *(self.skip[i] >= 0 and layers[i] == layers[j] for i, j in pairs)]
        )
        edges = [*np.flatnonzero(~self.continues).tolist(), len(layers)]
        groups = [range(start, stop) for start, stop in itertools.pairwise(edges)]
        self.runs = [group for group in groups if len(group) > 1]  # a layer alone has one order
        # r layers of one shape and k choices beside the skip: 1 + k + ... + k^r networks
        others = [len(layers[group.start].choices) - 1 for group in groups]
        self.size = math.prod(
            sum(k**j for j in range(len(group) + 1))
            for k, group in zip(others, groups, strict=True)
        )

    def canonical(self, architectures: np.ndarray) -> np.ndarray:
        """Map codes, int [N, L] or [L], to those that represent the same networks; a new array."""
        result = np.array(architectures, copy=True)
        for run in self.runs:
            part = result[..., run.start : run.stop]
            is_skip = part == self.skip[run.start]  # a run has one list of choices, so one index
            if self.skips == SKIPS_FIRST:
                is_skip = ~is_skip
            order = np.argsort(is_skip, axis=-1, kind="stable")  # the rest keeps its order
            result[..., run.start : run.stop] = np.take_along_axis(part, order, axis=-1)
        return result
