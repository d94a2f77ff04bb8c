"""Description of a network as one row per block, for tables and figures."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import torch
from torch import nn

from model.blocks import BlockStyle, build_block
from model.space import SearchSpace
from utils.draw import DrawnBlock, choice_color


def conv_shape(block: nn.Module, out_chs: int) -> tuple[int | None, int]:
    """Return (kernel, hidden channels) of a block, read off its convolutions.

    The kernel is 0 for an identity, and None for a block that computes without convolutions.
    """
    convs = [m for m in block.modules() if isinstance(m, nn.Conv2d)]
    if not convs:
        return (0 if isinstance(block, nn.Identity) else None), out_chs
    return max(c.kernel_size[0] for c in convs), max(c.out_channels for c in convs)


@lru_cache(maxsize=4096)
def block_shape(
    name: str, in_chs: int, out_chs: int, stride: int, style: BlockStyle
) -> tuple[int | None, int]:
    """Return `conv_shape` of the block called `name`."""
    with torch.device("meta"):  # shapes without memory or random numbers
        return conv_shape(build_block(name, in_chs, out_chs, stride, style), out_chs)


def choice_colors(space: SearchSpace) -> dict[str, str]:
    """Map choice names to colours: hue by kernel, shade by position among equal kernels."""
    kernels: dict[str, int | None] = {}  # in order of first use, so that colours are stable
    for layer in space.layers:
        for name in layer.choices:
            shape = layer.in_chs, layer.out_chs, layer.stride
            # the first layer decides: `identity` is a 1x1 conv where the shape changes
            kernels.setdefault(name, block_shape(name, *shape, space.style)[0])
    same = {name: [n for n in kernels if kernels[n] == kernels[name]] for name in kernels}
    return {n: choice_color(kernels[n], same[n].index(n) / len(same[n])) for n in kernels}


def describe(space: SearchSpace, architecture: Iterable[int]) -> list[DrawnBlock]:
    """List stem, (first,) searchable layers and head of an architecture [L]."""
    colors = choice_colors(space)

    def block(place: str, name: str, shape: tuple[int, int, int], in_size: int) -> DrawnBlock:
        kernel, hidden = block_shape(name, *shape, space.style)
        return DrawnBlock(place, name, kernel, hidden, *shape, in_size, colors.get(name))

    shape = 3, space.stem_width, space.stem_stride, space.input_size
    rows = [DrawnBlock("stem", "conv", 3, None, *shape, None)]
    if space.first_block is not None:
        first = space.stem_width, space.first_width, 1
        rows.append(block("first", space.first_block, first, space.stem_size))
    for i, (layer, choice) in enumerate(zip(space.layers, architecture, strict=True), 1):
        of_layer = layer.in_chs, layer.out_chs, layer.stride
        rows.append(block(str(i), layer.choices[int(choice)], of_layer, layer.in_size))
    shape = space.layers[-1].out_chs, space.last_width, 1, space.last_size
    return [*rows, DrawnBlock("head", "conv", 1, None, *shape, None)]
