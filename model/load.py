"""A trained network from its two files; needs nothing of this repository but model/ and the spaces.

from model import load_subnet
net = load_subnet("best_architecture.yaml", "weights.safetensors")
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.architecture import load_architecture
from model.subnet import Subnet

METADATA_KEY = "oneshot_nas"  # its value: JSON of input_size, mean, std, classes


def load_subnet(
    architecture: str | Path,
    weights: str | Path | None = None,
    device: str | torch.device = "cpu",
) -> Subnet:
    """The standalone network of an architecture file, in eval mode.

    Args:
        architecture: a YAML or JSON file, or the name of a published network.
        weights: a .safetensors file; its classifier decides the number of classes. None: random.
        device: where the network is put.

    Returns:
        Images [B, 3, H, W], normalised as `load_preprocessing` says -> logits [B, classes].

    Raises:
        ValueError: a file is not usable, or the weights are of another network.
    """
    tensors = None if weights is None else read_weights(weights)
    facts = {} if weights is None else load_preprocessing(weights)
    classifier = None if tensors is None else tensors.get("head.classifier.weight")
    num_classes = None if classifier is None else classifier.shape[0]
    space, choices = load_architecture(architecture, facts.get("input_size"), num_classes)
    subnet = Subnet(space, choices)
    if tensors is not None:
        load_weights(subnet, tensors, weights)
    return subnet.eval().to(device)


def load_weights(subnet: nn.Module, tensors: dict[str, Tensor], source: object) -> None:
    """Copy a state dict. Raises ValueError naming the first entry in which it does not fit."""
    own = subnet.state_dict()
    for name in sorted(own.keys() | tensors.keys()):
        here, there = own.get(name), tensors.get(name)
        if here is None or there is None or here.shape != there.shape:
            shapes = ["absent" if t is None else str(list(t.shape)) for t in (there, here)]
            raise ValueError(
                f"{source} is of another architecture: {name} is {shapes[0]} there and "
                f"{shapes[1]} in this network; mend the architecture or the weights"
            )
    subnet.load_state_dict(tensors)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file. Raises ValueError where it cannot be read."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not Path(path).is_file():
        raise ValueError(f"weights {path} do not exist; mend the path")
    try:
        return load_file(os.fspath(path))
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole .safetensors file ({error})") from error


def load_preprocessing(path: str | Path) -> dict[str, Any]:
    """What the network expects: `input_size` (px), `mean` and `std` per channel of images scaled to
    [0, 1], `classes` (names). Empty where the weights were written without.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise ValueError(f"weights {path} do not exist; mend the path")
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole .safetensors file ({error})") from error
    return json.loads(metadata.get(METADATA_KEY, "{}"))


def save_weights(subnet: nn.Module, path: str | Path, preprocessing: dict[str, Any]) -> None:
    """Write a .safetensors file, with what `load_preprocessing` gives back. Not atomic."""
    from safetensors.torch import save_file

    tensors = {name: t.detach().cpu().contiguous() for name, t in subnet.state_dict().items()}
    save_file(tensors, os.fspath(path), {METADATA_KEY: json.dumps(preprocessing)})
