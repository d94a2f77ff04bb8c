"""The standalone network of one architecture, a plain nn.Module, and its weights on disk.

Load a trained network from its two files, without a supernet:

from model import load_subnet
net = load_subnet("best_architecture.yaml", "weights.safetensors")
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from model.blocks import BlockStyle, ConvBN, init_weights, inner_slice, residual_blocks
from model.space import Architecture, SearchSpace
from model.supernet import IN_CHS, Supernet, build_choice, build_first, build_head, build_stem
from utils.checkpoint import load_checkpoint
from utils.preprocessing import Preprocessing

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from safetensors import safe_open

METADATA_KEY = "oneshot_nas"  # its value: JSON of Preprocessing


class Subnet(nn.Module):
    """One architecture: stem, first, layers, head. Images [B, 3, H, W] -> [B, num_classes].

    Args:
        style: module classes of the blocks; by default PyTorch's own, which other tools know.

    Attributes:
        preprocessing: what it expects of images; None until `load_subnet` reads it from weights.
    """

    preprocessing: Preprocessing | None = None

    def __init__(
        self, space: SearchSpace, architecture: Architecture, style: BlockStyle | None = None
    ) -> None:
        super().__init__()
        style = style or space.style
        self.stem = build_stem(space, style)
        self.first = build_first(space, style)
        self.layers = nn.Sequential(
            *(build_choice(space, i, int(c), style) for i, c in enumerate(architecture))
        )
        self.head = build_head(space, style)
        init_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(self.first(self.stem(x))))

    def classify(self, image: str | Path | Image | np.ndarray) -> tuple[str, float]:
        """Return the class name of an image file (or a loaded RGB image) and its probability.

        Raises:
            ValueError: the weights came without preprocessing, or the image cannot be read.
        """
        if self.preprocessing is None:
            raise ValueError("no preprocessing is known: load_subnet reads it with the weights")
        device = self.head.classifier.weight.device
        with torch.inference_mode():
            logits = self(self.preprocessing(image)[None].to(device))  # [1, num_classes]
        probability, index = logits.softmax(1)[0].max(0)
        return self.preprocessing.classes[int(index)], probability.item()


def add_drop_path(subnet: Subnet, rate: float) -> int:
    """Add stochastic depth to the residual branches, in place; the state dict keys stay.

    Branches are dropped per image in training (https://arxiv.org/abs/1603.09382), at a rate that
    rises linearly with depth to `rate` at the last layer.

    Returns:
        Number of residual branches; 0 for a space without residuals.
    """
    from torchvision.ops import StochasticDepth  # lazily: only training needs torchvision

    residual = residual_blocks(subnet.layers)
    for i, block in enumerate(subnet.layers, 1):
        if block in residual:
            drop = StochasticDepth(rate * i / len(subnet.layers), "row")  # "row": per image
            block.project.add_module("drop_path", drop)  # last in the branch, before x is added
    return len(residual)


@torch.no_grad()
def fold_batch_norms(subnet: nn.Module) -> nn.Module:
    """Return a copy in eval mode with BNs folded into the convs: the same function, faster."""
    folded = copy.deepcopy(subnet).eval()  # folding takes the running statistics as constants
    for part in folded.modules():
        if isinstance(part, ConvBN):
            part.conv = fuse_conv_bn_eval(part.conv, part.bn)
            part.register_module("bn", nn.Identity())
    return folded


def count_params(module: nn.Module) -> int:
    """Count the parameters, shared ones once."""
    return sum(p.numel() for p in module.parameters())


@torch.no_grad()
def count_costs(space: SearchSpace, architecture: Architecture) -> dict[str, int]:
    """Count MACs (`flops`) and params of an architecture [L], without computing anything.

    MACs are of Conv2d and Linear only, one multiply-accumulate being 1. The lookup table counts
    with thop, block by block; this counts a whole network in milliseconds.
    """
    macs = 0

    def count(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        nonlocal macs  # each element of the output takes one filter's weights
        macs += output.numel() * module.get_parameter("weight")[0].numel()

    with torch.device("meta"):  # no memory, no random numbers
        net = Subnet(space, architecture).eval()
        for module in net.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.register_forward_hook(count)
        net(torch.empty(1, IN_CHS, space.input_size, space.input_size))  # runs the hooks
    return {"flops": macs, "params": count_params(net)}


@torch.no_grad()
def inherit_weights(subnet: Subnet, supernet: Supernet, architecture: Architecture) -> None:
    """Copy weights and BN statistics of a path (a superkernel's slices) into its subnet, in place.

    If the supernet's BNs have no scale and shift (SPOS), the subnet keeps 1 and 0.
    """
    own = [subnet.stem, subnet.first, *subnet.layers, subnet.head]
    for target, source in zip(own, supernet.path_modules(architecture), strict=True):
        state = source.state_dict()
        for name, tensor in target.state_dict().items():
            if name in state:
                tensor.copy_(inner_slice(state[name], tensor.shape))  # in place of net's own


def load_weights(subnet: nn.Module, tensors: dict[str, Tensor], source: object) -> None:
    """Load a state dict.

    Args:
        source: names the tensors in the error.

    Raises:
        ValueError: an entry is missing, left over or of another shape; names the first.
    """
    own = subnet.state_dict()
    for name in sorted(own.keys() | tensors.keys()):
        here, there = own.get(name), tensors.get(name)
        if here is None or there is None or here.shape != there.shape:
            shapes = ["absent" if t is None else str(list(t.shape)) for t in (there, here)]
            raise ValueError(
                f"{source} is of another architecture: {name} is {shapes[0]} there and "
                f"{shapes[1]} in this network; fix the architecture or the weights"
            )
    subnet.load_state_dict(tensors)


@contextlib.contextmanager
def _safetensors(path: str | Path) -> Iterator[safe_open]:
    """Open a .safetensors file. Raises ValueError if it is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise ValueError(f"weights {path} do not exist; check the path")
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole .safetensors file ({error})") from error


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a .safetensors file.

    Raises:
        ValueError: it is missing or damaged.
    """
    with _safetensors(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping


def load_preprocessing(path: str | Path) -> Preprocessing | None:
    """Read the preprocessing that the network expects; None if the weights came without.

    Raises:
        ValueError: the file is missing or damaged.
    """
    with _safetensors(path) as file:
        values = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
    return Preprocessing.of(values) if values else None


def load_trained(net: Subnet, path: Path, new_classes: bool = False) -> None:
    """Load a .safetensors file or a checkpoint (its averaged weights, if any), in place.

    With `new_classes` the classifier stays as it is where its number of classes is another.

    Raises:
        ValueError: missing, damaged, or of another architecture.
    """
    if path.suffix == ".safetensors":
        tensors = read_weights(path)
    else:
        state, prefix = load_checkpoint(path, "subnet"), "module."
        averaged = state["averaged"].items()  # of AveragedModel: `module.` keys and n_averaged
        averaged = {k.removeprefix(prefix): t for k, t in averaged if k.startswith(prefix)}
        tensors = averaged or state["subnet"]
    for name, own in net.head.classifier.state_dict(prefix="head.classifier.").items():
        if new_classes and name in tensors and tensors[name].shape != own.shape:
            tensors[name] = own
    load_weights(net, tensors, path)


def save_weights(
    subnet: nn.Module, path: str | Path, preprocessing: Preprocessing | None = None
) -> None:
    """Write a .safetensors file with the metadata that `load_preprocessing` reads. Not atomic."""
    from safetensors.torch import save_file

    # contiguous: safetensors refuses channels_last kernels
    tensors = {name: t.detach().cpu().contiguous() for name, t in subnet.state_dict().items()}
    save_file(
        tensors,
        os.fspath(path),
        {METADATA_KEY: json.dumps(preprocessing.values() if preprocessing else {})},
    )
