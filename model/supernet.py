"""The multi-path supernet, and the builders of all parts of a network.

`supernet(x, path)` runs one choice per layer, `supernet(x, weights)` the weighted sum of choices.
The path is an argument; no module stores it. The standalone subnet and the lookup table use the
same builders, so the three cannot disagree.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from model.blocks import BlockStyle, Head, build_block, conv_bn, init_weights
from model.space import Architecture, SearchSpace

IN_CHS = 3  # colour images


def build_stem(space: SearchSpace, style: BlockStyle) -> nn.Module:
    """Build the first convolution, 3x3."""
    return conv_bn(IN_CHS, space.stem_width, 3, space.stem_stride, style)


def build_first(space: SearchSpace, style: BlockStyle) -> nn.Module:
    """Build the fixed first block, which has no residual; an Identity where there is none."""
    if space.first_block is None:
        return nn.Identity()
    return build_block(
        space.first_block, space.stem_width, space.first_width, 1, style, residual=False
    )


def build_choice(space: SearchSpace, layer: int, choice: int, style: BlockStyle) -> nn.Module:
    """Build one choice of a searchable layer."""
    spec = space.layers[layer]
    return build_block(spec.choices[choice], spec.in_chs, spec.out_chs, spec.stride, style)


def build_head(space: SearchSpace, style: BlockStyle) -> Head:
    """Build the last convolution, pooling and classifier."""
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
    for m, buffers in before:  # work on copies; the originals, untouched, are put back
        m._buffers.update({name: b.clone() for name, b in buffers.items() if b is not None})
    try:
        yield
    finally:
        for m, buffers in before:
            m._buffers.update(buffers)


@contextlib.contextmanager
def frozen(weights: Sequence[nn.Parameter]) -> Iterator[None]:
    """Leave weights out of the graph built inside, which saves computing their gradients.

    Asking `autograd.grad` for other tensors alone does not save it: a custom autograd function
    computes the gradients of all inputs that require one.
    """
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)


def checkpointed(module: nn.Module, x: Tensor) -> Tensor:
    """Return module(x), keeping only x for the backward pass (activation checkpointing).

    The recomputation does not update BN statistics a second time.
    """
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
        """Return logits [B, num_classes] along a path.

        Args:
            x: images [B, 3, H, W].
            path: int [L], the choice of each layer; or weights, a float tensor [L, C] that
                multiplies each choice's output (columns beyond a layer's choices are ignored).
            used: with weights, the choices that take part, bool [L, C]; None means all.
            checkpoint: with weights, recompute each choice in the backward pass instead of keeping
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
            values = path.detach().cpu().numpy()  # to skip zeros without a GPU synchronisation
            if used is None:
                used = np.ones(values.shape, dtype=bool)
            weights = path.to(x.device, non_blocking=x.is_cuda)  # do not wait for queued kernels
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
        """Return the weighted sum of a layer's choices; `values` are the weights [C] on the CPU.

        A choice of weight 0 has no gradient to its input or its own weights. It is left out or, if
        the weight requires a gradient (output times gradient of the output), run without a graph.
        """
        total = None
        for c, module in enumerate(self.layer_blocks(layer)):
            if not used[c] or (values[c] == 0 and not weights.requires_grad):
                continue
            if values[c] == 0:
                with torch.no_grad():
                    out = module(x)
            else:
                out = checkpointed(module, x) if checkpoint else module(x)
            out = weights[c] * out  # the weight's gradient needs the output, not its graph
            total = out if total is None else total + out
        if total is None:
            raise ValueError(f"layer {layer + 1}: the weights of all its choices are zero")
        return total

    def layer_blocks(self, layer: int) -> list[nn.Module]:
        """List the modules that hold the weights of one layer's choices, in order."""
        return list(cast(nn.ModuleList, self.layers[layer]))

    def run_layer(self, x: Tensor, layer: int, choice: int) -> Tensor:
        """Run one choice of one layer: [B, in, H, W] -> [B, out, H / stride, W / stride]."""
        return self.choice_module(layer, choice)(x)

    def choice_module(self, layer: int, choice: int) -> nn.Module:
        """Return the module that holds the weights of one choice of one layer."""
        return cast(nn.ModuleList, self.layers[layer])[choice]

    def blocks(self) -> dict[str, nn.Module]:
        """Map names to all modules that paths consist of; a name can be part of an identifier."""
        parts = {
            f"{i}_{c}": block
            for i in range(len(self.layers))
            for c, block in enumerate(self.layer_blocks(i))
        }
        return {"stem": self.stem, "first": self.first, **parts, "head": self.head}

    def path_modules(self, path: Architecture) -> Iterator[nn.Module]:
        """Yield the modules along a path, in order."""
        yield self.stem
        yield self.first
        for layer, choice in enumerate(path):
            yield self.choice_module(layer, int(choice))
        yield self.head
