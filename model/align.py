"""The aligned start: all choices of a layer begin as one function, as far as their form allows.

Published supernets train for about 100,000 steps until the choices of a layer compute compatible
features. Of independent weights, the features along two random paths are uncorrelated: what one
path's step teaches the next layers is noise to the others, and a few hundred steps teach nothing.
Here every choice contains the layer's smallest one and adds nothing to it at first, as in Net2Net's
function-preserving growth (https://arxiv.org/abs/1511.05641): further taps are zero, and further
hidden channels have no outgoing weights. With residual branches that start at zero
(`blocks.zero_residuals`), skip is the same function too.

Exact: kernel sizes, expansions above 1, groups. Near: an expansion where the smallest block has
none, and SPOS's xception, whose further ReLUs cannot be undone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model.blocks import MBConv, ShuffleBlock, inner_slice
from model.supernet import Supernet


@torch.no_grad()
def align_choices(supernet: Supernet) -> None:
    """Start all choices of each layer as the function of its smallest one."""
    for layer in range(len(supernet.layers)):
        blocks = sorted(supernet.layer_blocks(layer), key=_size)
        _prepare_for_xception(blocks)
        for i, block in enumerate(blocks):
            # the first way that works, exact ones before others
            any(start(block, other) for start in (_contain, _imitate) for other in blocks[:i])


def _size(block: nn.Module) -> tuple[int, int]:
    """Order blocks by their convolutions, those of equally many by their weights."""
    kernels = _weights(block)
    return len(kernels), sum(kernel.numel() for kernel in kernels)


def _convs(block: nn.Module) -> dict[str, nn.Conv2d]:
    """Map the names of a block's convolutions to them; equal names play equal parts."""
    return {name: m for name, m in block.named_modules() if isinstance(m, nn.Conv2d)}


def _weights(module: nn.Module) -> list[Tensor]:
    """List the kernels of a block or a part of it, in order."""
    return [conv.weight for conv in _convs(module).values()]


def _fits(small: Tensor, kernel: Tensor) -> bool:
    """True if a kernel [o, i, k, k] can be the inner part of [O, I, K, K]."""
    taps, larger_taps = small.shape[2:], kernel.shape[2:]
    square = len({*taps}) == len({*larger_taps}) == 1
    in_reach = all(a <= b for a, b in zip(small.shape, kernel.shape, strict=True))
    return in_reach and (square or taps == larger_taps)


def _embed(kernel: Tensor, small: Tensor) -> None:
    """Make the first o filters of [O, I, K, K] those of [o, i, k, k], zero where that has none.

    Further input channels count for nothing in any filter.
    """
    if small.shape[1] < kernel.shape[1]:
        kernel.zero_()
    kernel[: len(small)] = 0
    inner_slice(kernel, small.shape).copy_(small)


def _pass_on(kernel: Tensor) -> None:
    """Make a convolution leave its first channels as they are."""
    middle = kernel.shape[-1] // 2
    rows = torch.arange(len(kernel) if kernel.shape[1] == 1 else min(kernel.shape[:2]))
    kernel[rows] = 0
    kernel[rows, rows if kernel.shape[1] > 1 else 0, middle, middle] = 1


def _contain(block: nn.Module, smaller: nn.Module) -> bool:
    """Start a block as a smaller one of the same form; False if its form differs."""
    mine, theirs = _convs(block), _convs(smaller)
    if not mine or mine.keys() != theirs.keys():
        return False
    pairs = [(conv, theirs[name]) for name, conv in mine.items()]
    if not all(
        (conv.groups > 1) == (small.groups > 1) and _fits(small.weight, conv.weight)
        for conv, small in pairs  # groups change what axis 1 means
    ):
        return False
    for conv, small in pairs:
        _embed(conv.weight, small.weight)
    return True


def _imitate(block: nn.Module, smaller: nn.Module) -> bool:
    """Start a block as nearly a smaller one of another form; False if there is no way."""
    if isinstance(block, MBConv) and isinstance(smaller, MBConv):
        possible = block.groups == 1 and isinstance(smaller.expand, nn.Identity)
        if not possible or not _fits(smaller.depthwise.conv.weight, block.depthwise.conv.weight):
            return False
        _imitate_expansion_1(block, smaller)
        return True
    if _is_xception_of(block, smaller):
        _imitate_shuffle(_weights(block), _weights(smaller), _stride(smaller))
        return True
    return False


def _imitate_expansion_1(block: MBConv, smaller: MBConv) -> None:
    """Start an MBConv without groups as one without expansion conv, with or without groups.

    Groups: exact, its channels are unshuffled. An expansion conv passes its channels on first,
    exact but for its own ReLU.
    """
    taps, project = smaller.depthwise.conv.weight, smaller.project.conv.weight
    chs, n = len(taps), smaller.groups
    order = torch.arange(chs).view(n, -1).t().flatten()  # shuffled channel i was order[i]
    unshuffled, dense = torch.empty_like(taps), project.new_zeros(len(project), chs, 1, 1)
    unshuffled[order] = taps
    groups = zip(dense.chunk(n), order.chunk(n), project.chunk(n), strict=True)
    for rows, columns, kernel in groups:
        rows[:, columns] = kernel
    _embed(block.depthwise.conv.weight, unshuffled)
    _embed(block.project.conv.weight, dense)
    for kernel in _weights(block.expand):  # one or none
        _pass_on(kernel)


def _is_xception_of(block: nn.Module, smaller: nn.Module) -> bool:
    """True for an xception beside a shuffle block whose kernel is not larger."""
    if not (isinstance(block, ShuffleBlock) and isinstance(smaller, ShuffleBlock)):
        return False
    mine, theirs = _weights(block.branch), _weights(smaller.branch)
    return len(mine) > len(theirs) and theirs[1].shape[-1] <= mine[2].shape[-1]


def _stride(block: nn.Module) -> int:
    return max(conv.stride[0] for conv in _convs(block).values())


def _prepare_for_xception(blocks: Sequence[nn.Module]) -> None:
    """Start a layer's smallest shuffle block as a function that its xception can imitate.

    It uses half of its middle channels. It strides after a 1x1 conv, xception before: a mean over
    the kernel nearly commutes with that.
    """
    if _is_xception_of(blocks[-1], blocks[0]):
        _, depthwise, last, *_ = _weights(blocks[0])
        last[:, last.shape[1] // 2 :] = 0
        if _stride(blocks[0]) > 1:
            depthwise.fill_(1 / depthwise.shape[-1])  # of He's order; the scale is the BN's


def _imitate_shuffle(kernels: list[Tensor], smaller: list[Tensor], stride: int) -> None:
    """Start the kernels of an xception block as those of a shuffle block.

    The second 1x1 conv is followed by a ReLU that the shuffle block has not: it makes two of each
    channel that is used, of either sign, and the third subtracts one from the other.
    """
    first, depthwise, last, *projection = smaller
    half = last.shape[1] // 2
    for i in (0, 2, 3, 4):
        _pass_on(kernels[i])
    if stride > 1:
        kernels[0].fill_(1 / kernels[0].shape[-1])
    else:
        _embed(kernels[2], depthwise)
    _embed(kernels[1], first)
    kernels[3][half : 2 * half] = -kernels[3][:half]
    _embed(kernels[5], last)
    kernels[5][:, half : 2 * half] = -last[:, :half]
    for kernel, small in zip(kernels[6:], projection, strict=True):
        _embed(kernel, small)
