"""Load weights into a standalone network: from a trained network or out of a supernet."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from model.space import Architecture, SearchSpace
from model.subnet import Subnet, inherit_weights, load_weights, read_weights
from model.superkernel import build_supernet
from model.supernet import Supernet
from utils.checkpoint import check_facts, load_checkpoint
from utils.evaluation import calibrate_batch_norms


def extract_subnet(
    supernet: Supernet, architecture: Architecture, calibration: Iterable[Tensor]
) -> Subnet:
    """Return the standalone network of a path, with its weights, in eval mode on its device.

    Args:
        calibration: batches of training images [B, 3, H, W] that BN statistics are estimated on.
    """
    net = Subnet(supernet.space, architecture).to(next(supernet.parameters()).device)
    inherit_weights(net, supernet, architecture)
    calibrate_batch_norms(net, calibration)
    return net


def load_trained(net: Subnet, path: Path, new_classes: bool = False) -> None:
    """Load a .safetensors file or a checkpoint (its averaged weights, if any), in place.

    With `new_classes` the classifier stays as it is where its number of classes is another.

    Raises:
        ValueError: missing, damaged, or of another architecture.
    """
    if path.suffix == ".safetensors":
        tensors = read_weights(path)
    else:
        state = load_checkpoint(path, "subnet")
        averaged = {
            name.removeprefix("module."): tensor
            for name, tensor in state["averaged"].items()
            if name.startswith("module.")
        }
        tensors = averaged or state["subnet"]
    for name, own in net.head.classifier.state_dict(prefix="head.classifier.").items():
        if new_classes and name in tensors and tensors[name].shape != own.shape:
            tensors[name] = own
    load_weights(net, tensors, path)


def load_from_supernet(
    net: Subnet,
    space: SearchSpace,
    architecture: Architecture,
    path: Path,
    facts: dict,
    calibration: Iterable[Tensor],
) -> None:
    """Copy a supernet's path into its network, in place, and calibrate the BN statistics.

    Args:
        facts: what the checkpoint must agree on.
        calibration: batches of training images [B, 3, H, W], on the network's device.

    Raises:
        ValueError: the file is damaged, or of another space, dataset or split.
    """
    state = load_checkpoint(path)
    check_facts(path, state["facts"], facts)
    supernet = build_supernet(space)
    supernet.load_state_dict(state["supernet"])
    inherit_weights(net, supernet, architecture)
    calibrate_batch_norms(net, calibration)
