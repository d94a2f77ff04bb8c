"""The training step that benchmarks measure, in each layout and precision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from model import Subnet, Supernet
from utils.acceleration import Precision, compile_blocks
from utils.optim import build_optimizer

GRAD_CLIP = 5.0  # the default of training


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One way to train."""

    layout: str = "channels_last"
    amp: str = "off"
    compiled: bool = False

    @property
    def name(self) -> str:
        options = {self.amp: self.amp != "off", "compiled": self.compiled}
        layout = "NCHW" if self.layout == "contiguous_format" else self.layout
        return ", ".join([layout, *(name for name, given in options.items() if given)])


def blocks_of(net: Supernet | Subnet) -> dict[str, nn.Module]:
    """The blocks that `--compile` compiles, as the training scripts name them."""
    if isinstance(net, Subnet):
        return {str(i): m for i, m in enumerate([net.stem, net.first, *net.layers, net.head])}
    return net.blocks()


class Training:
    """One network, its optimiser, and a step of them: as training does it.

    Args:
        backend: of torch.compile, where `kind` compiles.
    """

    def __init__(
        self,
        net: Supernet | Subnet,
        device: torch.device,
        kind: Kind,
        optimizer: str = "sgd",
        backend: str = "inductor",
    ) -> None:
        self.layout = getattr(torch, kind.layout)
        self.net = net.to(device, memory_format=self.layout).train()
        if kind.compiled:
            compile_blocks(blocks_of(net), backend)
        self.parameters = list(net.parameters())
        self.optimizer = build_optimizer(optimizer, self.parameters, 1e-3, 0.9, 1e-4)
        self.precision = Precision(kind.amp, device)

    def step(self, images: Tensor, labels: Tensor, *path: np.ndarray) -> None:
        """One update of the weights; a supernet is also given the path."""
        images = images.contiguous(memory_format=self.layout)
        self.optimizer.zero_grad(set_to_none=True)
        with self.precision.autocast():
            loss = nn.functional.cross_entropy(self.net(images, *path), labels)
        self.precision.backward(loss)
        self.precision.unscale(self.optimizer)
        nn.utils.clip_grad_norm_(self.parameters, GRAD_CLIP)
        self.precision.step(self.optimizer)
