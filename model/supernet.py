"""The multi-path supernet: every choice of every layer, run along the path that is passed in.

`supernet(x, path)` runs one choice per layer; `supernet(x, weights)` the weighted sum of choices.
No module remembers a path. Layers and heads are built by the functions here, which the standalone
subnet and the lookup table use too, so that the three cannot disagree.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from model.blocks import (
    BlockStyle,
    Head,
    build_block,
    conv_bn,
    init_weights,
    inner_slice,
    zero_residuals,
)
from model.space import Architecture, SearchSpace

IN_CHS = 3  # colour images
SUPERNET_INITS = ("independent", "aligned")


def build_stem(space: SearchSpace, style: BlockStyle) -> nn.Module:
    return conv_bn(IN_CHS, space.stem_width, 3, space.stem_stride, style)


def build_first(space: SearchSpace, style: BlockStyle) -> nn.Module:
    """Build the fixed first block, which has no residual; an Identity where there is none."""
    if space.first_block is None:
        return nn.Identity()
    return build_block(
        space.first_block, space.stem_width, space.first_width, 1, style, residual=False
    )


def build_choice(space: SearchSpace, layer: int, choice: int, style: BlockStyle) -> nn.Module:
    spec = space.layers[layer]
    return build_block(spec.choices[choice], spec.in_chs, spec.out_chs, spec.stride, style)


def build_head(space: SearchSpace, style: BlockStyle) -> Head:
    return Head(
        space.layers[-1].out_chs,
        space.last_width,
        space.num_classes,
        style,
        space.classifier_bias,
        space.dropout,
    )


@contextlib.contextmanager
def still_statistics(module: nn.Module) -> Iterator[None]:
    """Restore the running statistics of all batch norms on exit."""
    before = [(m, dict(m._buffers)) for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    for m, buffers in before:
        m._buffers.update({name: b.clone() for name, b in buffers.items() if b is not None})
    try:
        yield
    finally:
        for m, buffers in before:
            m._buffers.update(buffers)


@contextlib.contextmanager
def frozen(weights: Sequence[nn.Parameter]) -> Iterator[None]:
    """Leave weights out of the graph that is built inside, which costs their gradients otherwise.

    autograd.grad of other tensors would not do: a custom function computes all gradients that its
    inputs can have.
    """
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)


def checkpointed(module: nn.Module, x: Tensor) -> Tensor:
    """module(x) that keeps x only; the second computation does not move BN statistics again."""
    return recompute(
        module,
        x,
        use_reentrant=False,
        preserve_rng_state=False,  # no block draws random numbers
        context_fn=lambda: (contextlib.nullcontext(), still_statistics(module)),
    )


class Supernet(nn.Module):
    """Weight-sharing supernet of a multi-path space.

    `layers[i][c]` is choice c of layer i. Images are [B, 3, H, W], logits [B, num_classes].
    """

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        style = space.supernet_style
        self.space = space
        self.stem = build_stem(space, style)
        self.first = build_first(space, style)
        self.layers = nn.ModuleList(self.build_layer(i, style) for i in range(space.num_layers))
        self.head = build_head(space, style)
        init_weights(self)

    def build_layer(self, layer: int, style: BlockStyle) -> nn.Module:
        num_choices = len(self.space.layers[layer].choices)
        return nn.ModuleList(build_choice(self.space, layer, c, style) for c in range(num_choices))

    def forward(
        self,
        x: Tensor,
        path: Architecture | Tensor,
        used: np.ndarray | None = None,
        checkpoint: bool = False,
    ) -> Tensor:
        """Logits along a path.

        Args:
            x: images [B, 3, H, W].
            path: int [L], the choice of each layer; or weights, a float tensor [L, C] that
                multiplies each choice's output (columns beyond a layer's choices are ignored).
            used: of weights, the choices that take part, bool [L, C]; None is all.
            checkpoint: compute each weighted choice again in the backward pass instead of keeping
                its activations.

        Raises:
            ValueError: the path's length is not the number of layers.
        """
        if len(path) != len(self.layers):
            raise ValueError(
                f"path has {len(path)} entries, the supernet {len(self.layers)} layers"
            )
        x = self.first(self.stem(x))
        if isinstance(path, Tensor) and path.is_floating_point():
            values = path.detach().cpu().numpy()
            if used is None:
                used = np.ones(values.shape, dtype=bool)
            weights = path.to(x.device, non_blocking=x.is_cuda)  # no wait for what it has queued
            for i in range(len(self.layers)):
                x = self.mix_layer(x, i, weights[i], values[i], used[i], checkpoint)
        else:
            for i, choice in enumerate(path):
                x = self.run_layer(x, i, int(choice))
        return self.head(x)

    def mix_layer(
        self,
        x: Tensor,
        layer: int,
        weights: Tensor,
        values: np.ndarray,
        used: np.ndarray,
        checkpoint: bool,
    ) -> Tensor:
        """The weighted sum of a layer's choices; `values` are the weights [C] on the CPU.

        A choice of weight 0 does not pass its input's or its own gradient on: it is left out, or,
        where the weight wants its gradient (output times output's gradient), run without a graph.
        """
        total = None
        for c, module in enumerate(self.choices(layer)):
            if not used[c] or (values[c] == 0 and not weights.requires_grad):
                continue
            if values[c] == 0:
                with torch.no_grad():
                    out = module(x)
            else:
                out = checkpointed(module, x) if checkpoint else module(x)
            out = weights[c] * out
            total = out if total is None else total + out
        if total is None:
            raise ValueError(f"layer {layer + 1}: the weights of all its choices are zero")
        return total

    def choices(self, layer: int) -> nn.ModuleList:
        """The modules of all choices of one layer, in order."""
        return cast(nn.ModuleList, self.layers[layer])

    def run_layer(self, x: Tensor, layer: int, choice: int) -> Tensor:
        """[B, in, H, W] -> [B, out, H / stride, W / stride] through one choice of one layer."""
        return self.choices(layer)[choice](x)

    def choice_module(self, layer: int, choice: int) -> nn.Module:
        """The module that holds the weights of one choice of one layer."""
        return self.choices(layer)[choice]

    def blocks(self) -> dict[str, nn.Module]:
        """Every module that paths are made of, by a name that can be part of an identifier."""
        layers = enumerate(self.layers)
        parts = {
            f"{i}_{c}": block
            for i, choices in layers
            for c, block in enumerate(choices if isinstance(choices, nn.ModuleList) else [choices])
        }
        return {"stem": self.stem, "first": self.first, **parts, "head": self.head}

    def path_modules(self, path: Architecture) -> Iterator[nn.Module]:
        """The modules that a path runs through, in order."""
        yield self.stem
        yield self.first
        for layer, choice in enumerate(path):
            yield self.choice_module(layer, int(choice))
        yield self.head


def path_bns(supernet: Supernet, path: Architecture) -> list[nn.BatchNorm2d]:
    """The batch norms along a path."""
    return [
        m
        for part in supernet.path_modules(path)
        for m in part.modules()
        if isinstance(m, nn.BatchNorm2d)
    ]


def slice_kernel(kernel: Tensor, shape: torch.Size) -> Tensor:
    """Return the first o x i filters' inner k x k of [O, I, K, K], at He's scale for [o, i, k, k].

    A depthwise filter has a fan-out of its own, k^2; others share o k^2.
    """
    filters, target_filters = (1, 1) if kernel.shape[1] == 1 else (kernel.shape[0], shape[0])
    fan_outs = filters * kernel.shape[-1] ** 2, target_filters * shape[-1] ** 2
    return inner_slice(kernel, shape) * math.sqrt(fan_outs[0] / fan_outs[1])


def _convs(module: nn.Module) -> dict[str, nn.Conv2d]:
    return {name: m for name, m in module.named_modules() if isinstance(m, nn.Conv2d)}


@torch.no_grad()
def align_choices(supernet: Supernet) -> None:
    """Start a supernet so that its paths agree from the first step.

    Published supernets train for some 100,000 steps before the choices of a layer compute
    compatible features. With a few hundred steps to spend, every choice of a layer starts as a
    slice of its largest (inner kernel, first channels), as in a superkernel (Single-Path NAS,
    https://arxiv.org/abs/1904.02877), and every residual branch at zero.
    """
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
    zero_residuals(supernet)
