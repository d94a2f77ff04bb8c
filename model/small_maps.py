"""Modules for training: convolutions that stay fast on a CPU when maps are small, and others.

oneDNN computes the weight gradient of a depthwise convolution 10 to 100 times slower than its
forward pass once the kernel is about as large as the map, and has a fixed cost per pointwise
convolution that exceeds the work of one on a few pixels. Both are most of a training step on images
of 8 to 16 px. The functions here compute the same sums in an order that suits small maps: taps that
only ever meet padding are cropped (on a 1x1 map one multiplication is left), a depthwise weight
gradient is one batched matrix product, and a pointwise convolution is one matrix product. Each is
used where `benchmarks/small_maps.py` measured it to be faster, which depends on AVX-512. Everywhere
else, and in compiled or exported graphs, the call is `F.conv2d`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LARGEST_MAP = 8  # px of the input's longer side
PIXELS_PER_IMAGE = 8  # of a map, at most, or summing the pairs of pixels costs too much per image
AVX512 = torch.backends.cpu.get_cpu_capability() == "AVX512"
DTYPES = (torch.float32, torch.float64)


class SmallMapConv2d(nn.Conv2d):
    """`nn.Conv2d` with "same" padding whose forward and backward are `conv2d` of this file."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        k = self.kernel_size[0]
        wanted = (k | 1, k | 1), (k // 2, k // 2), (1, 1), "zeros"  # k | 1: the next odd number
        if (self.kernel_size, self.padding, self.dilation, self.padding_mode) != wanted:
            raise ValueError(
                "SmallMapConv2d needs a square, odd kernel k, padding k // 2 of zeros, dilation 1"
            )

    def forward(self, x: Tensor) -> Tensor:
        padding = self.kernel_size[0] // 2
        return conv2d(x, self.weight, self.bias, self.stride[0], padding, self.groups)


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
) -> Tensor:
    """Compute `F.conv2d` by the fastest exact method for the map, the device and the kernel.

    Args:
        x: [B, I, H, W].
        weight: [O, I / groups, K, K].
        bias: [O] or None.

    Returns:
        [B, O, H', W'], equal to `F.conv2d` up to the order of floating-point sums.
    """
    if x.device.type == "cpu" and max(x.shape[2:]) <= LARGEST_MAP and not _must_be_stock(x):
        kernel = weight.shape[-1]
        if kernel == 1 == groups and stride == 1 and padding == 0:
            return _pointwise(x, weight, bias)
        if groups == len(weight) == x.shape[1] and padding == kernel // 2:
            return _depthwise(x, weight, bias, stride)
    return F.conv2d(x, weight, bias, stride, padding, groups=groups)


def _must_be_stock(x: Tensor) -> bool:
    """True if a compiled graph must contain a plain convolution, or autocast chooses dtypes."""
    return (
        torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu") or x.dtype not in DTYPES
    )


def _pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute a 1x1 convolution as one matrix product over pixels."""
    pixels = x.permute(0, 2, 3, 1)  # contiguous, so no copy, where x is channels_last
    y = F.linear(pixels, weight.flatten(1)).permute(0, 3, 1, 2)  # [B, O, H, W]
    return y if bias is None else y.add_(bias.view(1, -1, 1, 1))  # F.linear would fill y with it


def _depthwise(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """Compute a "same" depthwise convolution without the taps that meet no pixel."""
    kernel = weight.shape[-1]
    rows, cols = (min(kernel // 2, size - 1) for size in x.shape[2:])  # padding that is left
    middle = kernel // 2  # p taps a side at padding p: H' is (H - 1) // stride + 1 for any p
    weight = weight[:, :, middle - rows : middle + rows + 1, middle - cols : middle + cols + 1]
    if x.shape[2:] == (1, 1):  # not every kernel of one tap: that may have a stride
        y = x * weight.view(1, -1, 1, 1)  # a 1x1 map meets the middle tap alone
        return y if bias is None else y + bias.view(1, -1, 1, 1)
    size = max(x.shape[2:])
    fast = size < kernel or (kernel >= 5 and (AVX512 or size <= kernel + 1))
    fast = fast and x.shape[2] * x.shape[3] <= PIXELS_PER_IMAGE * len(x)
    if fast and bias is None and torch.is_grad_enabled() and weight.requires_grad:
        return _DepthwiseConv.apply(x, weight, stride, (rows, cols))  # only its backward differs
    return F.conv2d(x, weight, bias, stride, (rows, cols), groups=len(weight))


class InPlaceReLU6(nn.ReLU6):
    """`nn.ReLU6` that overwrites its input on a CPU, for the output of a batch norm.

    PyTorch's own in-place form keeps a copy of the input for the gradient; the output is enough.
    Less memory traffic, the same bits.
    """

    def forward(self, x: Tensor) -> Tensor:
        stock = x.device.type != "cpu" or torch.compiler.is_compiling()
        return super().forward(x) if stock or not x.requires_grad else _ReLU6.apply(x)


class UncountedBatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d that does not count batches, which saves a GPU kernel per call.

    Only a cumulative mean (momentum None) needs the count; there it is kept. Outputs, gradients,
    statistics and state dict keys are those of nn.BatchNorm2d.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.momentum is None or not self.training:
            return super().forward(x)
        mean, var = self.running_mean, self.running_var
        return F.batch_norm(x, mean, var, self.weight, self.bias, True, self.momentum, self.eps)


class _ReLU6(torch.autograd.Function):
    """ReLU6 in place; its gradient is computed from its output."""

    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)  # autograd must know that x was overwritten
        y = x.clamp_(0, 6)  # a batch norm's backward reads its input, not this output
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad):
        (y,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(grad, y, 0.0, 6.0)  # 0 at both bounds


class _DepthwiseConv(torch.autograd.Function):
    """A depthwise convolution whose weight gradient is one batched matrix product.

    With x as [C, B, HW] and the output's gradient g as [C, B, H'W'], x^T g has the product of
    every input pixel with every output pixel; a tap's gradient is the sum of those it connects.
    """

    @staticmethod
    def forward(ctx, x, weight, stride, padding):
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding, groups=len(weight))

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        x_grad = weight_grad = None
        if ctx.needs_input_grad[0]:
            x_grad = _input_gradient(x, weight, grad, ctx.stride, ctx.padding)
        if ctx.needs_input_grad[1]:
            sizes = *x.shape[2:], *grad.shape[2:], *weight.shape[2:]
            taps = _taps(sizes, ctx.stride, ctx.padding).to(x.dtype)  # [HW * H'W', KK']
            pairs = _by_channel(x).transpose(1, 2) @ _by_channel(grad)  # [C, HW, H'W']
            weight_grad = (pairs.flatten(1) @ taps).view_as(weight)  # [C, taps]
        return x_grad, weight_grad, None, None


def _input_gradient(
    x: Tensor, weight: Tensor, grad: Tensor, stride: int, padding: tuple[int, int]
) -> Tensor:
    """Return PyTorch's own input gradient of a depthwise convolution."""
    # torch.nn.grad.conv2d_input does the same, but makes and copies an input of zeros
    strides, dilation, transposed, output_padding = (stride, stride), (1, 1), False, (0, 0)
    wanted = True, False, False  # the input's gradient alone
    how = None, strides, padding, dilation, transposed, output_padding, len(weight), wanted
    return torch.ops.aten.convolution_backward(grad, x, weight, *how)[0]


def _by_channel(x: Tensor) -> Tensor:
    """Reorder [B, C, H, W] to [C, B, HW]."""
    b, c, h, w = x.shape
    return x.permute(0, 2, 3, 1).reshape(-1, c).t().contiguous().view(c, b, h * w)


@lru_cache(maxsize=256)
def _taps(sizes: tuple[int, ...], stride: int, padding: tuple[int, int]) -> Tensor:
    """Return 1 where a tap connects an input pixel with an output pixel, [HW * H'W', taps].

    Args:
        sizes: (H, W, H', W', K, K') of input, output and kernel.
    """
    axes = []
    for axis in range(2):
        size, out, kernel = sizes[axis::2]
        first = torch.arange(out) * stride - padding[axis]  # input index under the first tap
        tapped = first[:, None] + torch.arange(kernel)  # [out, kernel]
        axes.append((torch.arange(size)[:, None, None] == tapped).float())  # [size, out, kernel]
    meets = torch.einsum("apk,bql->abpqkl", *axes)  # [H, W, H', W', K, K']
    return meets.reshape(sizes[0] * sizes[1] * sizes[2] * sizes[3], -1)
