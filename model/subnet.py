"""The standalone network of one architecture, a plain nn.Module; weights from a supernet."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from model.blocks import BlockStyle, ConvBN, MBConv, init_weights, inner_slice
from model.space import SearchSpace
from model.supernet import Path, Supernet, build_choice, build_first, build_head, build_stem


class Subnet(nn.Module):
    """One architecture: stem, first, layers, head. Images [B, 3, H, W] -> [B, num_classes].

    Args:
        style: modules that the blocks are made of; by default plain ones, which other tools know.
    """

    def __init__(
        self, space: SearchSpace, architecture: Path, style: BlockStyle | None = None
    ) -> None:
        super().__init__()
        style = style or space.style
        self.stem = build_stem(space, style)
        self.first = build_first(space, style)
        self.layers = nn.Sequential(
            *(build_choice(space, i, int(c), style) for i, c in enumerate(architecture))
        )
        self.head = build_head(space, style)
        init_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(self.first(self.stem(x))))


def add_drop_path(subnet: Subnet, rate: float) -> int:
    """Let residual branches be dropped in training, in place; the state dict stays as it is.

    Stochastic depth (https://arxiv.org/abs/1603.09382) per image, at a rate that rises linearly
    with depth to `rate` at the last layer. Returns how many branches have it: a space without
    residuals has none.
    """
    from torchvision.ops import StochasticDepth  # training alone needs torchvision

    residual = [
        (i, block)
        for i, block in enumerate(subnet.layers, 1)
        if isinstance(block, MBConv) and block.residual
    ]
    for i, block in residual:
        block.project.add_module("drop_path", StochasticDepth(rate * i / len(subnet.layers), "row"))
    return len(residual)


def zero_residuals(subnet: Subnet) -> None:
    """Let residual branches start at zero (https://arxiv.org/abs/1706.02677, section 5.1)."""
    for block in subnet.layers:
        if isinstance(block, MBConv) and block.residual:
            nn.init.zeros_(block.project.bn.weight)


def set_dropout(subnet: Subnet, rate: float) -> None:
    """Dropout before the classifier, in place of the space's."""
    subnet.head.dropout.p = rate


@torch.no_grad()
def fold_batch_norms(subnet: nn.Module) -> nn.Module:
    """A copy in eval mode whose convs have taken in their BN: the same function, faster."""
    folded = copy.deepcopy(subnet).eval()
    for part in folded.modules():
        if isinstance(part, ConvBN):
            part.conv = fuse_conv_bn_eval(part.conv, part.bn)
            part.register_module("bn", nn.Identity())
    return folded


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
