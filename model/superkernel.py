"""The superkernel supernet of Single-Path NAS (https://arxiv.org/abs/1904.02877, section 3.1).

One MBConv per layer holds all its choices: a smaller kernel is the inner part of the depthwise
kernel, a smaller expansion the first channels of the hidden layer, and skip uses none of it. The
interface is that of the multi-path supernet.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.blocks import BlockStyle, ConvBN, MBConv, inner_kernel, parse_mbconv
from model.small_maps import conv2d
from model.space import Architecture, SearchSpace
from model.supernet import Supernet

TINY_NORM = 1e-12  # lower bound of a squared norm: the slope of the root at 0 is infinite


def sliced_batch_norm(bn: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Normalise [B, n, H, W] by the first n channels of a wider BN; the others stay as they are."""
    n = x.shape[1]
    momentum = bn.momentum
    assert bn.num_batches_tracked is not None  # BNs of a supernet track statistics
    assert bn.running_mean is not None and bn.running_var is not None
    if bn.training and momentum is None:  # a cumulative mean is the only user of the count
        bn.num_batches_tracked.add_(1)
        momentum = 1.0 / float(bn.num_batches_tracked)
    weight, bias = (bn.weight[:n], bn.bias[:n]) if bn.affine else (None, None)
    mean, var = bn.running_mean[:n], bn.running_var[:n]  # views: updated in place
    return F.batch_norm(x, mean, var, weight, bias, bn.training, momentum or 0.0, bn.eps)


class SuperMBConv(MBConv):
    """An MBConv at a layer's largest kernel and expansion, of which forward uses a slice."""

    expand: ConvBN  # an Identity where expansion 1 has no conv, and is not used there

    def __init__(
        self, in_chs: int, out_chs: int, stride: int, kernel: int, expansion: int, style: BlockStyle
    ) -> None:
        super().__init__(in_chs, out_chs, stride, kernel, expansion, style)
        self.in_chs = in_chs
        self.stride = stride
        self.expand_e1 = style.expand_e1
        self.act = style.act()

    def forward(self, x: Tensor, kernel: int, expansion: int) -> Tensor:  # type: ignore[override]
        """Run the slice (kernel, expansion): [B, in, H, W] -> [B, out, H / stride, W / stride]."""
        hidden = self.in_chs * expansion
        y = x
        if expansion != 1 or self.expand_e1:
            y = conv2d(y, self.expand.conv.weight[:hidden])
            y = self.act(sliced_batch_norm(self.expand.bn, y))  # [B, hidden, H, W]
        filters = inner_kernel(self.depthwise.conv.weight[:hidden], kernel)  # [hidden, 1, k, k]
        y = conv2d(y, filters, stride=self.stride, padding=kernel // 2, groups=hidden)
        y = self.act(sliced_batch_norm(self.depthwise.bn, y))  # [B, hidden, H / stride, W / stride]
        # every slice has all output channels, so the last BN is used whole
        y = self.project.bn(conv2d(y, self.project.conv.weight[:, :hidden]))
        return x + y if self.residual else y

    def forward_gated(self, x: Tensor, gates: LayerGates) -> Tensor:
        """Run the whole block with gates in [0, 1]; if all are 0 or 1, the output is a slice's.

        The rings of the kernel are gated as in equation 4. Channel groups are gated after the
        depthwise BN and activation, as a BN would shift a zeroed channel away from zero.
        """
        kernel = gates.kernel
        size, hidden = kernel.shape[-1], len(kernel)
        y = self.expand(x)
        y = conv2d(y, kernel, stride=self.stride, padding=size // 2, groups=hidden)
        y = self.act(self.depthwise.bn(y)) * gates.channels.view(1, -1, 1, 1)
        y = self.project(y) * gates.keep  # at 0 the residual is left: a skip
        return x + y if self.residual else y


Slices = list[tuple[int, int] | None]  # (kernel, expansion) of a layer's choices; None: skip


@dataclass(frozen=True)
class LayerGates:
    """Gates of one layer's superkernel at given thresholds.

    Attributes:
        margins: norm minus threshold of each gate, [G]; a gate is open if it is above 0. Gates that
            the layer does not have are always open (+inf).
        keep: the gate that keeps the layer; 0 skips it.
        kernel: the depthwise kernel with its closed rings zeroed, [H, 1, K, K].
        channels: the gate of each hidden channel, [H].
    """

    margins: Tensor
    keep: Tensor
    kernel: Tensor
    channels: Tensor


def indicator(margin: Tensor) -> Tensor:
    """Return 1 where margin > 0, else 0; backward, the derivative of its sigmoid (eq. 5)."""
    soft = margin.sigmoid()
    return (margin > 0).to(soft.dtype) + (soft - soft.detach())  # the difference is 0 forward


class SuperkernelSupernet(Supernet):
    """Supernet with one superkernel per layer: `layers[i]` holds all choices of layer i.

    Its differentiable form (section 3.2) decides each layer by `num_gates` = G gates: one that
    keeps the layer, then one per larger kernel, then one per larger expansion, smallest first. A
    gate is open if the norm of the weights that it adds is above its threshold [L, G]. Norms are in
    units of their expectation at He's initialisation: plain norms of groups of thousands of weights
    would saturate the sigmoid. Equation numbers are the paper's.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.slices: list[Slices] = [  # [L][C]
            [spec[:2] if (spec := parse_mbconv(n)) else None for n in layer.choices]
            for layer in space.layers
        ]
        # the distinct ones of each layer, sorted
        self.kernels, self.expansions = (
            [sorted({part[i] for part in slices if part}) for slices in self.slices] for i in (0, 1)
        )
        super().__init__(space)  # builds the layers, which need the sizes
        self.skip = nn.Identity()
        self.max_kernels, self.max_expansions = (
            max(map(len, sizes)) for sizes in (self.kernels, self.expansions)
        )
        # G: one gate to keep the layer, and one per kernel and expansion above the smallest
        self.num_gates = self.max_kernels + self.max_expansions - 1

    def build_layer(self, layer: int, style: BlockStyle) -> nn.Module:
        spec = self.space.layers[layer]
        largest = self.kernels[layer][-1], self.expansions[layer][-1]
        return SuperMBConv(spec.in_chs, spec.out_chs, spec.stride, *largest, style)

    def block(self, layer: int) -> SuperMBConv:
        """Return the block that holds all choices of a layer."""
        return cast(SuperMBConv, self.layers[layer])

    def layer_blocks(self, layer: int) -> list[nn.Module]:
        return [self.layers[layer]]

    def check_thresholds(self) -> None:
        """Raise ValueError if a layer's choices are not all combinations that the gates allow."""
        for i, slices in enumerate(self.slices, 1):
            wanted = set(itertools.product(self.kernels[i - 1], self.expansions[i - 1]))
            can_skip = None not in slices or self.block(i - 1).residual
            mixed = 1 in self.expansions[i - 1] and len(self.expansions[i - 1]) > 1
            if mixed and not self.block(i - 1).expand_e1:
                raise ValueError(
                    f"layer {i} of {self.space.name}: expansion 1 has no expansion conv to share, "
                    f"so no threshold can decide on it; give it one by expand_e1: true"
                )
            if set(filter(None, slices)) != wanted or not can_skip:
                raise ValueError(
                    f"layer {i} of {self.space.name}: thresholds decide kernel and expansion one "
                    f"by one, so its choices must be all combinations of them"
                )

    def layer_gates(self, layer: int, thresholds: Tensor) -> LayerGates:
        """Compute the gates of one layer at thresholds [G]; differentiable, also in the weights."""
        block, kernels = self.block(layer), self.kernels[layer]
        w = block.depthwise.conv.weight  # [H, 1, K, K]
        unit = 2 / w.shape[-1] ** 2  # He's variance of a weight
        thresholds = thresholds.to(w.device)
        margins = list(torch.full_like(thresholds, torch.inf).unbind())

        def decide(gate: int, group: Tensor, size: int) -> Tensor:  # size: weights of the group
            # the expectation of its square is 1 at He's initialisation
            norm = (group.square().sum() / (unit * size)).clamp(min=TINY_NORM).sqrt()
            margins[gate] = norm - thresholds[gate]
            return indicator(margins[gate])

        gate = w.new_ones(())
        edge = (w.shape[-1] - kernels[0]) // 2
        kernel = F.pad(inner_kernel(w, kernels[0]), (edge,) * 4)  # the smallest is always there
        for j, k in enumerate(kernels[1:], 1):  # eq. 4, nested for more than two
            edge, hole = (w.shape[-1] - k) // 2, (k - kernels[j - 1]) // 2
            ring = inner_kernel(w, k) - F.pad(inner_kernel(w, kernels[j - 1]), (hole,) * 4)
            gate = gate * decide(j, ring, len(w) * (k**2 - kernels[j - 1] ** 2))
            kernel = kernel + gate * F.pad(ring, (edge,) * 4)  # [H, 1, K, K]
        bounds = [block.in_chs * e for e in self.expansions[layer]]  # hidden channels of each
        size = w.shape[-1] ** 2
        if None in self.slices[layer]:  # eq. 6, the outer indicator
            decide(0, kernel[: bounds[0]], bounds[0] * size)
        gate, channels = w.new_ones(()), [w.new_ones(bounds[0])]
        for j, (low, high) in enumerate(itertools.pairwise(bounds)):  # eq. 6, the inner one
            # gates have the same place in all layers, so layers of fewer kernels leave some unused
            gate = gate * decide(self.max_kernels + j, kernel[low:high], (high - low) * size)
            channels.append(gate.expand(high - low))
        stacked = torch.stack(margins)
        return LayerGates(stacked, indicator(stacked)[0], kernel, torch.cat(channels))

    def gate_margins(self, thresholds: Tensor) -> Tensor:
        """Compute norm minus threshold of each gate, [L, G]; +inf where a layer lacks a gate."""
        return torch.stack([self.layer_gates(i, t).margins for i, t in enumerate(thresholds)])

    def choice_gates(self, thresholds: Tensor) -> Tensor:
        """Return one-hot decisions [L, C], the products of eq. 6 to 8; backward, the sigmoids'."""
        gates = indicator(self.gate_margins(thresholds))
        return self._per_choice(gates, 1 - gates, lambda parts: torch.stack(parts).prod(0))

    def choice_scores(self, thresholds: Tensor) -> Tensor:
        """Score each choice, [L, C]: minus the sum of the margins that decide against it.

        The decided choice has 0, the largest score. Two choices that differ in one gate differ by
        that gate's log-odds. Entries beyond a layer's choices are -inf.
        """
        margins = self.gate_margins(thresholds)
        demands = margins.clamp(max=0), (-margins).clamp(max=0)  # to be open, to be closed
        scores = self._per_choice(*demands, lambda parts: torch.stack(parts).sum(0))
        mask = np.arange(scores.shape[1]) >= self.space.num_choices[:, None]
        return scores.masked_fill(torch.from_numpy(mask).to(scores.device), -torch.inf)

    def _per_choice(
        self, opened: Tensor, closed: Tensor, combine: Callable[[list[Tensor]], Tensor]
    ) -> Tensor:
        """Combine each choice's terms of its gates [L, G] into [L, C], 0 beyond a layer's choices.

        A choice needs the gates up to its kernel and expansion open, and the next ones closed.

        Args:
            opened: the term of a gate that is to be open.
            closed: the term of a gate that is to be closed.
        """
        rows = []
        for i, slices in enumerate(self.slices):
            row = []
            # first gate and sizes, of kernels and of expansions
            groups = (1, self.kernels[i]), (self.max_kernels, self.expansions[i])
            for part in slices:
                if part is None:  # skip: the first gate alone decides
                    row.append(closed[i, 0])
                    continue
                terms = [opened[i, 0]]
                for (start, sizes), size in zip(groups, part, strict=True):
                    position = sizes.index(size)
                    terms += opened[i, start : start + position].unbind()
                    if position + 1 < len(sizes):
                        terms.append(closed[i, start + position])
                row.append(combine(terms))
            row += [opened.new_zeros(())] * (self.space.max_choices - len(row))
            rows.append(torch.stack(row))
        return torch.stack(rows)

    def forward(
        self,
        x: Tensor,
        path: Architecture | Tensor,
        used: np.ndarray | None = None,
        checkpoint: bool = False,
    ) -> Tensor:
        """Return logits [B, num_classes] of images [B, 3, H, W] along a path, int [L].

        A float tensor [L, G] holds thresholds, which decide the path. There is no weighted sum, so
        `used` and `checkpoint` are ignored.

        Raises:
            ValueError: the path's length is wrong, or it is weights [L, C].
        """
        if not (isinstance(path, Tensor) and path.is_floating_point()):
            return super().forward(x, path)
        if path.shape != (len(self.layers), self.num_gates):
            raise ValueError(
                f"{self.space.name} is a superkernel: its choices share one kernel and cannot be "
                f"summed with weights; pass a path of choices, or thresholds "
                f"[{len(self.layers)}, {self.num_gates}]"
            )
        x = self.first(self.stem(x))
        for i in range(len(self.layers)):
            x = self.block(i).forward_gated(x, self.layer_gates(i, path[i]))
        return self.head(x)

    def run_layer(self, x: Tensor, layer: int, choice: int) -> Tensor:
        part = self.slices[layer][choice]
        return x if part is None else self.block(layer)(x, *part)

    def choice_module(self, layer: int, choice: int) -> nn.Module:
        return self.skip if self.slices[layer][choice] is None else self.layers[layer]


def build_supernet(space: SearchSpace) -> Supernet:
    """Build a space's supernet; torch's global generator draws its weights."""
    return SuperkernelSupernet(space) if space.supernet == "superkernel" else Supernet(space)
