"""The standalone network of one architecture, a plain nn.Module; weights from a supernet."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.blocks import init_weights, inner_slice
from model.space import SearchSpace
from model.supernet import Path, Supernet, build_choice, build_first, build_head, build_stem


class Subnet(nn.Module):
    """One architecture: stem, first, layers, head. Images [B, 3, H, W] -> [B, num_classes]."""

    def __init__(self, space: SearchSpace, architecture: Path) -> None:
        super().__init__()
        style = space.style
        self.stem = build_stem(space, style)
        self.first = build_first(space, style)
        self.layers = nn.Sequential(
            *(build_choice(space, i, int(c), style) for i, c in enumerate(architecture))
        )
        self.head = build_head(space, style)
        init_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(self.first(self.stem(x))))


def count_params(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@torch.no_grad()
def inherit_weights(subnet: Subnet, supernet: Supernet, architecture: Path) -> None:
    """Copy a path's weights and BN statistics into its standalone network.

    Of a superkernel it is the path's slices that are copied.

    Where the supernet's BN has no scale and shift, the subnet keeps 1 and 0.
    """
    own = [subnet.stem, subnet.first, *subnet.layers, subnet.head]
    for target, source in zip(own, supernet.path_modules(architecture), strict=True):
        state = source.state_dict()
        for name, tensor in target.state_dict().items():
            if name in state:
                tensor.copy_(inner_slice(state[name], tensor.shape))
