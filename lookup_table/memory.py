"""Memory of a network at batch 1: the most that activations take, and the weights.

`peak_memory` is counted as MCUNet does (https://arxiv.org/abs/2007.10319, section 3.1): at each
convolution or linear layer, its input, its output, and what the block keeps for later (the input of
a residual block, the other half of a shuffle block); the largest of these is what the device needs
for activations. BN, activations, additions and concatenations work in place. `weights` is what the
network takes in storage with every BN folded into its convolution: one value per weight, and one
per channel for the bias. Both are in MB of 10^6 bytes; in int8 an activation or weight takes 1 byte
and a bias 4 (int32), in float32 everything takes 4.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lookup_table.blocks import costs_of, distinct_blocks
from lookup_table.table import LookupTable
from model.blocks import ConvBN, MBConv, ShuffleBlock
from model.space import SearchSpace

BYTES = {"int8": 1, "float32": 4}  # of an activation or a weight
BIAS_BYTES = 4
MEMORY_METRICS = ("peak_memory", "weights")


def peak_elements(block: nn.Module, in_chs: int, size: int) -> int:
    """The most elements that are live at any convolution or linear layer of a block.

    Args:
        block: on the meta device, where only shapes are computed; it is not used again.
        in_chs, size: of its input [1, in_chs, size, size].
    """
    sizes: dict[nn.Module, tuple[int, int]] = {}  # of each layer's input and output, in order

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        sizes[module] = (inputs[0].numel(), output.numel())

    for m in block.modules():
        if isinstance(m, (nn.Conv2d, nn.Linear)):
            m.register_forward_hook(record)
    x = torch.zeros(1, in_chs, size, size, device="meta")
    with torch.no_grad():
        block.eval()(x)
    live = [into + out + _held(block, m, x.numel(), sizes) for m, (into, out) in sizes.items()]
    return max(live, default=0)  # a skip computes nothing


def _held(
    block: nn.Module, layer: nn.Module, given: int, sizes: dict[nn.Module, tuple[int, int]]
) -> int:
    """Elements that a block keeps for later while a layer runs, besides the layer's input.

    Args:
        given: elements of the block's input.
    """
    if isinstance(block, MBConv) and block.residual:
        reads_input = layer is next(iter(sizes)) and block.groups == 1  # else a shuffled copy
        return 0 if reads_input else given
    if isinstance(block, ShuffleBlock):
        if block.projection is None:
            return given // 2  # the half that passes
        own = [m for m in block.projection.modules() if m in sizes]
        if layer in own:
            return 0 if layer is own[0] else given  # own[0] reads x; then x waits for the branch
        return sizes[own[-1]][1]  # the projection's output waits for the branch's
    return 0


def weight_bytes(block: nn.Module, per_weight: int) -> int:
    """Bytes of a block's weights, each BN folded into its convolution as a bias."""
    total = 0
    for m in block.modules():
        if isinstance(m, ConvBN):
            total += m.conv.weight.numel() * per_weight + m.conv.out_channels * BIAS_BYTES
        elif isinstance(m, nn.Linear):
            total += m.weight.numel() * per_weight
            total += m.out_features * BIAS_BYTES if m.bias is not None else 0
    return total


def add_memory(space: SearchSpace, table: LookupTable, dtype: str = "float32") -> LookupTable:
    """Return `table` with the metrics peak_memory and weights; `dtype`: int8 or float32."""
    per_element = BYTES[dtype]
    with torch.device("meta"):
        blocks = distinct_blocks(space)
        live = [peak_elements(b.module, *b.shape[:2]) * per_element for b in blocks]
    peaks, fixed = costs_of(space, blocks, live)
    table = table.with_metric("peak_memory", peaks, max(fixed), "MB", None, is_peak=True)
    sizes = [weight_bytes(b.module, per_element) for b in blocks]
    weights, fixed = costs_of(space, blocks, sizes)
    return table.with_metric("weights", weights, sum(fixed), "MB", None)
