"""Starting a supernet so that its paths agree from the first step.

Published supernets train for some 100,000 steps; until the choices of a layer have learnt to speak
of the same features, a random path says nothing. With a few hundred steps to spend, start where
they agree: every choice of a layer is a slice of its largest (inner kernel, first channels), as
in a superkernel (Single-Path NAS, https://arxiv.org/abs/1904.02877), and every residual branch
starts at zero (Goyal et al., https://arxiv.org/abs/1706.02677, section 5.1).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from model.blocks import MBConv, inner_slice
from model.supernet import Supernet


def slice_kernel(kernel: Tensor, shape: torch.Size) -> Tensor:
    """[O, I, K, K] -> the first o x i filters' inner k x k, at He's scale for their fan-out."""
    o, _, k, _ = shape
    part = inner_slice(kernel, shape)
    fan_outs = kernel.shape[0] * kernel.shape[-1] ** 2, o * k**2
    if kernel.shape[1] == 1:  # depthwise: each filter has a fan-out of its own
        fan_outs = kernel.shape[-1] ** 2, k**2
    return part * math.sqrt(fan_outs[0] / fan_outs[1])


def _convs(module: nn.Module) -> dict[str, nn.Conv2d]:
    return {name: m for name, m in module.named_modules() if isinstance(m, nn.Conv2d)}


@torch.no_grad()
def align_choices(supernet: Supernet) -> None:
    """Make the choices of each layer slices of its largest, and residual branches zero."""
    for choices in supernet.layers:
        modules = list(choices) if isinstance(choices, nn.ModuleList) else [choices]
        largest = max(modules, key=lambda m: sum(p.numel() for p in m.parameters()))
        source = _convs(largest)
        for module in modules:
            for name, conv in _convs(module).items():
                big = source.get(name)
                if big is None or module is largest:
                    continue
                shapes = zip(conv.weight.shape, big.weight.shape, strict=True)
                same_kind = (big.groups == 1) == (conv.groups == 1)
                if same_kind and all(a <= b for a, b in shapes):
                    conv.weight.copy_(slice_kernel(big.weight, conv.weight.shape))
            if isinstance(module, MBConv) and module.residual:
                nn.init.zeros_(module.project.bn.weight)
