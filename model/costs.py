"""MACs and params of a standalone network, for the check of stored costs.

The lookup table counts with thop, block by block; this counts a whole network in milliseconds.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from model.blocks import BlockStyle
from model.space import Architecture, SearchSpace
from model.subnet import count_params
from model.supernet import IN_CHS, build_choice, build_first, build_head, build_stem


class _ShapeConv2d(nn.Conv2d):
    """Convolution with "same" padding whose output has only a shape.

    `nn.Conv2d` on the meta device would do, but imports sympy and torch._dynamo, 1.4 s.
    """

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        stride = self.stride[0]
        return x.new_empty(batch, self.out_channels, -(-height // stride), -(-width // stride))


class _ShapeBatchNorm2d(nn.BatchNorm2d):
    """Batch norm that passes its input on, for the same reason."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class _ShapeStyle(BlockStyle):
    """Style of networks that only shapes run through."""

    def conv(self, in_chs: int, out_chs: int, kernel: int, stride: int, groups: int) -> nn.Conv2d:
        return _ShapeConv2d(in_chs, out_chs, kernel, stride, groups=groups, bias=False)

    def bn(self, chs: int) -> nn.BatchNorm2d:
        return _ShapeBatchNorm2d(chs, affine=self.bn_affine)


@torch.no_grad()
def count_costs(space: SearchSpace, architecture: Architecture) -> dict[str, int]:
    """Count MACs (`flops`) and params of an architecture [L], without computing anything.

    MACs are of Conv2d and Linear only, one multiply-accumulate being 1.
    """
    macs = 0

    def count(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        nonlocal macs  # each element of the output takes one filter's weights
        macs += output.numel() * module.get_parameter("weight")[0].numel()

    style = _ShapeStyle(**dataclasses.asdict(space.style))
    with torch.device("meta"):  # no memory, no random numbers
        net = nn.Sequential(
            build_stem(space, style),
            build_first(space, style),
            *(build_choice(space, i, int(c), style) for i, c in enumerate(architecture)),
            build_head(space, style),
        ).eval()
        for module in net.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.register_forward_hook(count)
        net(torch.empty(1, IN_CHS, space.input_size, space.input_size))
    return {"flops": macs, "params": count_params(net)}
