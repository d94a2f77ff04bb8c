"""The candidate blocks of all search spaces, built by name.

Shapes: x is [B, C, H, W]; a stride-s block returns [B, out, ceil(H / s), ceil(W / s)]. No conv has
a bias, because a BN follows each. Names:

k5_e6                 MBConv, 5x5 depthwise, expansion 6 (MobileNetV2, arXiv 1801.04381)
k3_e1_g2              FBNet's block with group convolutions (arXiv 1812.03443, table 2)
shuffle_k3, xception  the blocks of SPOS (arXiv 1904.00420)
skip                  identity; exists only where stride is 1 and in = out
identity              NAS-Bench-Macro's; a strided 1x1 conv where the shape changes
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from model.small_maps import InPlaceReLU6, SmallMapConv2d, UncountedBatchNorm2d

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hswish": nn.Hardswish,
    "swish": nn.SiLU,
}

TRAINING_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    **ACTIVATIONS,
    # not of the others: they need their input for the gradient, so in place would copy it
    "relu": partial(nn.ReLU, inplace=True),
    "relu6": InPlaceReLU6,
}


@dataclass(frozen=True, kw_only=True)
class BlockStyle:
    """Style shared by all blocks of a network."""

    conv_class: ClassVar[type[nn.Conv2d]] = nn.Conv2d  # not a field: a class sets it
    bn_class: ClassVar[type[nn.BatchNorm2d]] = nn.BatchNorm2d
    act_classes: ClassVar[Mapping[str, Callable[[], nn.Module]]] = ACTIVATIONS

    activation: str = "relu"
    bn_eps: float = 1e-5
    bn_affine: bool = True
    expand_e1: bool = False  # expansion 1 has an expansion conv, as in timm's FBNet-C

    def act(self) -> nn.Module:
        """Return the activation."""
        return self.act_classes[self.activation]()


class TrainingStyle(BlockStyle):
    """Style of networks that only this toolkit runs: the same functions, faster modules.

    Exported networks use `BlockStyle`: converters and profilers know `nn.Conv2d` and
    `nn.BatchNorm2d` by class.
    """

    conv_class = SmallMapConv2d
    bn_class = UncountedBatchNorm2d
    act_classes = TRAINING_ACTIVATIONS


class ConvBN(nn.Sequential):
    """Conv, BN and, unless it is a linear projection, activation."""

    conv: nn.Conv2d  # attributes of nn.Sequential by name, for type checkers
    bn: nn.BatchNorm2d


def conv_bn(
    in_chs: int,
    out_chs: int,
    kernel: int,
    stride: int,
    style: BlockStyle,
    *,
    groups: int = 1,
    act: bool = True,
) -> ConvBN:
    """Build a `ConvBN` with "same" padding."""
    conv = style.conv_class(in_chs, out_chs, kernel, stride, kernel // 2, groups=groups, bias=False)
    bn = style.bn_class(out_chs, eps=style.bn_eps, affine=style.bn_affine)
    parts: OrderedDict[str, nn.Module] = OrderedDict(conv=conv, bn=bn)
    if act:
        parts["act"] = style.act()
    return ConvBN(parts)


def shuffle_channels(x: Tensor, groups: int) -> Tensor:
    """Shuffle channels as ShuffleNet does: view [B, g * n, H, W] as g x n and transpose."""
    b, c, h, w = x.shape
    return x.view(b, groups, c // groups, h, w).transpose(1, 2).reshape(b, c, h, w)


class MBConv(nn.Module):
    """Expand 1x1, depthwise kxk, project 1x1; residual where stride is 1 and in = out.

    Expansion 1 has no expansion conv unless `style.expand_e1`. With `groups` > 1 (FBNet, table 2)
    the 1x1 convs are grouped and the input's channels are shuffled first.
    """

    def __init__(
        self,
        in_chs: int,
        out_chs: int,
        stride: int,
        kernel: int,
        expansion: int,
        style: BlockStyle,
        *,
        groups: int = 1,
        residual: bool = True,
    ) -> None:
        super().__init__()
        hidden = in_chs * expansion
        self.groups = groups  # of the 1x1 convs; the depthwise conv has `hidden`
        self.residual = residual and stride == 1 and in_chs == out_chs
        self.expand: nn.Module = nn.Identity()
        if expansion != 1 or style.expand_e1:
            self.expand = conv_bn(in_chs, hidden, 1, 1, style, groups=groups)
        self.depthwise = conv_bn(hidden, hidden, kernel, stride, style, groups=hidden)
        self.project = conv_bn(hidden, out_chs, 1, 1, style, groups=groups, act=False)

    def forward(self, x: Tensor) -> Tensor:
        y = shuffle_channels(x, self.groups) if self.groups > 1 else x
        y = self.project(self.depthwise(self.expand(y)))  # [B, out, H / stride, W / stride]
        return x + y if self.residual else y


class ShuffleBlock(nn.Module):
    """SPOS's ShuffleNetV2 block (https://arxiv.org/abs/1904.00420, section 4 and its release).

    If the shape stays, even channels pass and odd channels go through the branch; the output is
    (pass, branch), so the shuffle is at the input. If it changes, a projection branch keeps `in`
    channels and the main branch makes `out - in`. The middle width is out / 2.
    """

    def __init__(
        self,
        in_chs: int,
        out_chs: int,
        stride: int,
        kernel: int,
        style: BlockStyle,
        *,
        xception: bool = False,
    ) -> None:
        super().__init__()
        self.keeps_shape = stride == 1 and in_chs == out_chs
        mid = out_chs // 2
        branch_in = in_chs // 2 if self.keeps_shape else in_chs
        branch_out = out_chs - branch_in  # the rest passes, or comes from the projection

        def depthwise(chs: int, k: int, s: int) -> ConvBN:
            return conv_bn(chs, chs, k, s, style, groups=chs, act=False)  # as in ShuffleNetV2

        def pointwise(i: int, o: int) -> ConvBN:
            return conv_bn(i, o, 1, 1, style)

        if xception:
            # three separable convs; the first has the stride
            parts = [depthwise(branch_in, 3, stride), pointwise(branch_in, mid)]
            parts += [depthwise(mid, 3, 1), pointwise(mid, mid)]
            parts += [depthwise(mid, 3, 1), pointwise(mid, branch_out)]
        else:
            parts = [pointwise(branch_in, mid), depthwise(mid, kernel, stride)]
            parts += [pointwise(mid, branch_out)]
        self.branch = nn.Sequential(*parts)
        self.projection = None
        if not self.keeps_shape:
            parts = [depthwise(in_chs, kernel, stride), pointwise(in_chs, in_chs)]
            self.projection = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        if self.projection is None:  # slicing even and odd channels is the shuffle of 2 groups
            return torch.cat((x[:, 0::2], self.branch(x[:, 1::2])), dim=1)
        return torch.cat((self.projection(x), self.branch(x)), dim=1)  # in + (out - in) channels


class Head(nn.Module):
    """Last 1x1 conv, global average pooling, dropout, linear classifier."""

    def __init__(
        self, in_chs: int, chs: int, num_classes: int, style: BlockStyle, bias: bool, dropout: float
    ) -> None:
        super().__init__()
        self.conv = conv_bn(in_chs, chs, 1, 1, style)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(chs, num_classes, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.dropout(self.conv(x).mean(dim=(2, 3))))  # [B, num_classes]


KERNEL = r"k(?P<kernel>[1-9]?[13579])"  # an even kernel has no "same" padding
MBCONV_NAME = re.compile(KERNEL + r"_e(?P<expansion>[1-9]\d?)(_g(?P<groups>[2-9]))?")
SHUFFLE_NAME = re.compile(f"shuffle_{KERNEL}")
SKIPS = ("skip", "identity")


def parse_mbconv(name: str) -> tuple[int, int, int] | None:
    """Return (kernel, expansion, groups) of an MBConv's name; None for other blocks."""
    match = MBCONV_NAME.fullmatch(name)
    if match is None:
        return None
    return int(match["kernel"]), int(match["expansion"]), int(match["groups"] or 1)


BlockMaker = Callable[[int, int, int, BlockStyle], nn.Module]  # (in_chs, out_chs, stride, style)
BLOCKS: dict[str, BlockMaker] = {}  # further blocks by name, such as a user's own


def is_block_name(name: str) -> bool:
    """Return True if `build_block` knows the name, at some shape."""
    known = name in (*SKIPS, "xception", *BLOCKS)
    return known or bool(MBCONV_NAME.fullmatch(name) or SHUFFLE_NAME.fullmatch(name))


def build_block(
    name: str, in_chs: int, out_chs: int, stride: int, style: BlockStyle, *, residual: bool = True
) -> nn.Module:
    """Build the block called `name`.

    Raises:
        ValueError: no such name, or `skip` where the shape changes.
    """
    keeps_shape = stride == 1 and in_chs == out_chs
    if name in BLOCKS:
        return BLOCKS[name](in_chs, out_chs, stride, style)
    if name in SKIPS and keeps_shape:
        return nn.Identity()
    if name == "identity":  # a linear projection: NAS-Bench-Macro has no activation here
        return conv_bn(in_chs, out_chs, 1, stride, style, act=False)
    if name == "xception":
        return ShuffleBlock(in_chs, out_chs, stride, 3, style, xception=True)
    if match := SHUFFLE_NAME.fullmatch(name):
        return ShuffleBlock(in_chs, out_chs, stride, int(match["kernel"]), style)
    if (spec := parse_mbconv(name)) is not None:
        kernel, expansion, groups = spec
        return MBConv(
            in_chs, out_chs, stride, kernel, expansion, style, groups=groups, residual=residual
        )
    raise ValueError(
        f"block '{name}' does not exist for {in_chs}->{out_chs} channels at stride {stride}"
    )


def inner_kernel(kernel: Tensor, size: int) -> Tensor:
    """View the inner size x size taps of [O, I, K, K]."""
    edge = (kernel.shape[-1] - size) // 2  # both sizes are odd: the slice is centred
    return kernel[:, :, edge : edge + size, edge : edge + size]


def inner_slice(tensor: Tensor, shape: torch.Size) -> Tensor:
    """View the part of a larger block's tensor that a smaller block shares with it.

    It is the first channels along both axes, and the inner k x k of a conv kernel [O, I, K, K].
    """
    if tensor.dim() == 4:  # a conv kernel; BN tensors and biases have channels only
        tensor = inner_kernel(tensor, shape[-1])
    return tensor[tuple(slice(n) for n in shape[:2])]  # [()] of a scalar (num_batches_tracked)


def residual_blocks(module: nn.Module) -> list[MBConv]:
    """List the MBConvs that add their input, in order."""
    return [m for m in module.modules() if isinstance(m, MBConv) and m.residual]


def zero_residuals(module: nn.Module) -> None:
    """Start residual branches at zero (https://arxiv.org/abs/1706.02677, section 5.1)."""
    for block in residual_blocks(module):
        if block.project.bn.affine:  # a supernet's BN may have no scale (SPOS)
            nn.init.zeros_(block.project.bn.weight)


def init_weights(module: nn.Module) -> None:
    """Initialise convs by He's rule over the fan-out, classifiers with standard deviation 0.01."""
    for m in module.modules():
        if isinstance(m, nn.Conv2d):
            # per group: over all channels, depthwise kernels would start near zero
            fan_out = m.kernel_size[0] * m.kernel_size[1] * m.out_channels // m.groups
            nn.init.normal_(m.weight, 0.0, math.sqrt(2.0 / fan_out))
        elif isinstance(m, nn.Linear):
            nn.init.normal_(m.weight, 0.0, 0.01)
            if m.bias is not None:
                nn.init.zeros_(m.bias)
