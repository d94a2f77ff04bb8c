"""Parts of a supernet for evaluation: batch norms estimated per candidate, then folded into convs.

A part (stem, first block, one choice of one layer, head) is built as a standalone block whose
parameters are views of the supernet's, so the supernet itself is never touched. Its convs take
their batch-norm statistics from outside, as `ConvState`s: one list of them per trie node.

On a CPU each conv runs over as many images as fit the cache at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.blocks import ConvBN, inner_slice
from model.small_maps import conv2d
from model.supernet import Supernet, build_choice, build_first, build_head, build_stem

WORKING_SET = 16 << 20  # bytes of one activation at a time: about half a server core's share of L3
ROWS = 1024  # pixels whose batch statistics are added up in float32
STEM, HEAD = -1, -2  # "layers" of the fixed parts


def micro_batch(x: Tensor, widest: int) -> int:
    """Return how many images [B, C, H, W] to run at a time through layers of up to `widest` chs."""
    if x.device.type != "cpu":
        return max(1, len(x))
    per_image = widest * x.shape[2] * x.shape[3] * x.element_size()
    return max(1, WORKING_SET // per_image)


@dataclass
class ConvState:
    """Batch-norm statistics behind one conv for one candidate: means over `batches` batches."""

    mean: Tensor  # [C]
    var: Tensor  # [C], unbiased as in nn.BatchNorm2d
    batches: int = 0


class StatelessConv(nn.Module):
    """Conv, BN and activation of a `conv_bn`, in the two phases of an evaluation.

    `lend` a state, then: with `batch_statistics` normalise by the batch at hand (and, with
    `update`, add it to the state), else run the conv with the state's statistics folded in.
    """

    def __init__(self, conv: nn.Conv2d, bn: nn.BatchNorm2d, act: nn.Module | None) -> None:
        super().__init__()
        self.conv, self.bn = conv, bn
        self.act = type(act)(inplace=True) if act is not None else nn.Identity()
        self.state: ConvState | None = None
        self.batch_statistics = self.update = False

    def new_state(self) -> ConvState:
        device = self.conv.weight.device
        zeros = torch.zeros(self.bn.num_features, device=device)
        return ConvState(mean=zeros, var=zeros.clone())

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        c = self.conv
        return conv2d(x, weight, bias, c.stride[0], c.kernel_size[0] // 2, c.groups)

    def forward(self, x: Tensor) -> Tensor:
        return self.estimate(x) if self.batch_statistics else self.folded(x)

    def folded(self, x: Tensor) -> Tensor:
        assert self.state is not None
        bn, state = self.bn, self.state
        scale = (state.var + bn.eps).rsqrt()  # BN(conv(x)) = scale * conv(x) + shift
        if bn.affine:
            scale = scale * bn.weight
        shift = -state.mean * scale if bn.bias is None else bn.bias - state.mean * scale
        weight = self.conv.weight * scale.view(-1, 1, 1, 1)  # [O, I, k, k], scaled along O
        weight = weight.to(x.dtype, memory_format=torch.channels_last)
        return self.act(self.convolve(x, weight, shift.to(x.dtype)))

    def estimate(self, x: Tensor) -> Tensor:
        bn = self.bn
        weight = self.conv.weight.to(x.dtype, memory_format=torch.channels_last)
        size = micro_batch(x, max(self.conv.in_channels, self.conv.out_channels))
        parts = [self.convolve(part, weight) for part in x.split(size)]
        mean, var = moments(parts)
        if self.update:
            assert self.state is not None
            state, n = self.state, sum(part[:, 0].numel() for part in parts)  # n: B * H * W
            state.batches += 1
            state.mean += (mean - state.mean) / state.batches  # as BN's momentum=None: cumulative
            state.var += (var * n / max(1, n - 1) - state.var) / state.batches  # biased -> unbiased
        parts = [
            self.act(F.batch_norm(part, mean, var, bn.weight, bn.bias, False, 0.0, bn.eps))
            for part in parts
        ]
        return torch.cat(parts) if len(parts) > 1 else parts[0]


def moments(parts: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Compute mean and biased variance [C] of a batch [B, C, H, W] that is cut along B."""
    if parts[0].device.type != "cpu":
        x = parts[0] if len(parts) == 1 else torch.cat(parts)
        var, mean = torch.var_mean(x.float(), (0, 2, 3), correction=0)
        return mean, var
    # var_mean is an order of magnitude slower here than what batch norm uses, which adds up its
    # rows one by one in float32: so few at a time, and their results in float64
    chs = parts[0].shape[1]
    pieces = [
        rows.view(1, -1, 1, chs).permute(0, 3, 1, 2)  # [1, C, rows, 1]
        for part in parts
        for rows in part.permute(0, 2, 3, 1).reshape(-1, chs).split(ROWS)
    ]
    pairs = [torch.batch_norm_update_stats(piece, None, None, 0.0) for piece in pieces]
    if len(pairs) == 1:
        mean, var = pairs[0]
        return mean.float(), var.float()
    means, variances = (torch.stack(values).double() for values in zip(*pairs, strict=True))
    share = torch.tensor([piece.shape[2] for piece in pieces], dtype=torch.float64)[:, None]
    share = share / share.sum()
    mean = (share * means).sum(0)  # [C]; the variance below: within pieces + between them
    return mean.float(), (share * (variances + (means - mean) ** 2)).sum(0).float()


class FloatLinear(nn.Module):
    """A linear layer in float32, whatever the precision of its input."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.float())


class Part(nn.Module):
    """One block for evaluation, with the parameters of `source` (of a superkernel: their slices).

    Args:
        block: the standalone block, on the meta device; it is changed.
        source: the supernet's module that holds the weights.
    """

    def __init__(self, block: nn.Module, source: nn.Module) -> None:
        super().__init__()
        weights = dict(source.named_parameters())
        for module_name, module in block.named_modules():
            for name, parameter in module.named_parameters(recurse=False):
                weight = weights[f"{module_name}.{name}".lstrip(".")].detach()  # root: ".name"
                module._parameters[name] = nn.Parameter(  # a view of the supernet's
                    inner_slice(weight, parameter.shape), requires_grad=False
                )
        self.block = stateless(block).eval()  # calibration too runs without dropout
        self.convs = [m for m in self.block.modules() if isinstance(m, StatelessConv)]
        channels = [(c.conv.in_channels, c.conv.out_channels) for c in self.convs]
        self.widest = max(map(max, channels), default=0)

    def new_states(self) -> list[ConvState]:
        return [conv.new_state() for conv in self.convs]

    def calibrate(self, x: Tensor, states: list[ConvState], update: bool) -> Tensor:
        """Normalise by the statistics of this batch x; with `update`, add them to the states."""
        for conv, state in zip(self.convs, states, strict=True):
            conv.state, conv.batch_statistics, conv.update = state, True, update
        return self.block(x)

    def run(self, x: Tensor, states: list[ConvState]) -> Tensor:
        """Run the block on x by calibrated statistics."""
        if not self.convs:  # skip
            return self.block(x)
        for conv, state in zip(self.convs, states, strict=True):
            conv.state, conv.batch_statistics = state, False
        parts = x.split(micro_batch(x, self.widest))
        return torch.cat([self.block(part) for part in parts]) if len(parts) > 1 else self.block(x)


def stateless(module: nn.Module) -> nn.Module:
    """Return `module` with each conv_bn as a StatelessConv and each Linear in float32."""
    if isinstance(module, nn.Linear):
        return FloatLinear(module)
    children = dict(module.named_children())
    if isinstance(module, ConvBN):
        return StatelessConv(module.conv, module.bn, children.get("act"))
    if isinstance(module, nn.BatchNorm2d):  # in a user's block
        raise ValueError("a batch norm outside of conv_bn: build convolutions by model.conv_bn")
    for name, child in children.items():
        setattr(module, name, stateless(child))
    return module


class Parts:
    """The parts of a supernet by layer and choice, made when first asked for.

    The head ends in features [B, D]; `classifier` makes logits of them.
    """

    def __init__(self, supernet: Supernet) -> None:
        self.supernet = supernet
        self.classifier = FloatLinear(supernet.head.classifier)
        self.made: dict[tuple[int, int], Part] = {}

    def __call__(self, layer: int, choice: int = 0) -> Part:
        """Return `choice` of `layer`, or the STEM (with the first block) or HEAD."""
        if (layer, choice) not in self.made:
            self.made[layer, choice] = self.make(layer, choice)
        return self.made[layer, choice]

    def make(self, layer: int, choice: int) -> Part:
        net = self.supernet
        space, style = net.space, net.space.supernet_style
        with torch.device("meta"):  # allocates nothing: Part puts the supernet's weights in
            if layer == STEM:
                stem = nn.Sequential(build_stem(space, style), build_first(space, style))
                return Part(stem, nn.Sequential(net.stem, net.first))
            if layer == HEAD:
                head = Part(build_head(space, style), net.head)
                head.block.classifier = nn.Identity()
                return head
            return Part(build_choice(space, layer, choice, style), net.choice_module(layer, choice))
