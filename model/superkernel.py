"""The superkernel supernet of Single-Path NAS (https://arxiv.org/abs/1904.02877, section 3.1).

One MBConv per layer holds all its choices: a smaller kernel is the inner part of the depthwise
kernel, a smaller expansion the first channels of the hidden layer, skip uses none of it. The
interface is the multi-path supernet's, and the choice is an argument here too.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from model.blocks import BlockStyle, MBConv, parse_mbconv
from model.space import SearchSpace
from model.supernet import Path, Supernet


def sliced_batch_norm(bn: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """[B, n, H, W] through the first n channels of a wider BN, whose other statistics stay."""
    n = x.shape[1]
    momentum = bn.momentum
    if bn.training:
        bn.num_batches_tracked.add_(1)
        if momentum is None:  # cumulative mean, as in nn.BatchNorm2d
            momentum = 1.0 / float(bn.num_batches_tracked)
    weight, bias = (bn.weight[:n], bn.bias[:n]) if bn.affine else (None, None)
    mean, var = bn.running_mean[:n], bn.running_var[:n]  # views: updated in place
    return F.batch_norm(x, mean, var, weight, bias, bn.training, momentum or 0.0, bn.eps)


class SuperMBConv(MBConv):
    """An MBConv at a layer's largest kernel and expansion, of which forward uses a slice."""

    def __init__(
        self,
        in_chs: int,
        out_chs: int,
        stride: int,
        kernel: int,
        expansion: int,
        style: BlockStyle,
    ) -> None:
        super().__init__(in_chs, out_chs, stride, kernel, expansion, style)
        self.in_chs = in_chs
        self.stride = stride
        self.expand_e1 = style.expand_e1
        self.act = style.act()

    def forward(self, x: Tensor, kernel: int, expansion: int) -> Tensor:  # type: ignore[override]
        """[B, in, H, W] -> [B, out, H / stride, W / stride] with the slice k, e."""
        hidden = self.in_chs * expansion
        y = x
        if expansion != 1 or self.expand_e1:
            y = F.conv2d(y, self.expand.conv.weight[:hidden])
            y = self.act(sliced_batch_norm(self.expand.bn, y))
        edge = (self.depthwise.conv.weight.shape[-1] - kernel) // 2
        inner = slice(edge, edge + kernel)
        filters = self.depthwise.conv.weight[:hidden, :, inner, inner]
        y = F.conv2d(y, filters, stride=self.stride, padding=kernel // 2, groups=hidden)
        y = self.act(sliced_batch_norm(self.depthwise.bn, y))
        y = self.project.bn(F.conv2d(y, self.project.conv.weight[:, :hidden]))
        return x + y if self.residual else y


class SuperkernelSupernet(Supernet):
    """Supernet with one superkernel per layer: `layers[i]` holds all choices of layer i."""

    def __init__(self, space: SearchSpace) -> None:
        # [L][C]: kernel and expansion of each choice; None is skip
        self.slices = [
            [None if n == "skip" else parse_mbconv(n)[:2] for n in layer.choices]
            for layer in space.layers
        ]
        super().__init__(space)
        self.skip = nn.Identity()

    def build_layer(self, layer: int, style: BlockStyle) -> nn.Module:
        spec = self.space.layers[layer]
        kernels, expansions = zip(*filter(None, self.slices[layer]), strict=True)
        largest = max(kernels), max(expansions)
        return SuperMBConv(spec.in_chs, spec.out_chs, spec.stride, *largest, style)

    def forward(self, x: Tensor, path: Path | Tensor) -> Tensor:
        """Logits [B, num_classes] of images [B, 3, H, W] along a path, int [L].

        Raises:
            ValueError: the path's length is wrong, or it is a weighted one.
        """
        if isinstance(path, Tensor) and path.is_floating_point():
            raise ValueError(
                f"{self.space.name} is a superkernel: its choices share one kernel and cannot be "
                f"summed with weights; pass a path of choices"
            )
        return super().forward(x, path)

    def run_layer(self, x: Tensor, layer: int, choice: int) -> Tensor:
        part = self.slices[layer][choice]
        return x if part is None else self.layers[layer](x, *part)

    def choice_module(self, layer: int, choice: int) -> nn.Module:
        return self.skip if self.slices[layer][choice] is None else self.layers[layer]


SUPERNETS: dict[str, type[Supernet]] = {
    "multipath": Supernet,
    "superkernel": SuperkernelSupernet,
}


def build_supernet(space: SearchSpace) -> Supernet:
    """The supernet of a space: its weights are drawn from torch's global generator."""
    return SUPERNETS[space.supernet](space)
