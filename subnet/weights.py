"""Weights into a standalone network: of its own training, of another, or out of a supernet."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from config_file.arg_config.subnet_config import SubnetConfig
from data import Splits
from model import (
    SearchSpace,
    Subnet,
    add_drop_path,
    build_supernet,
    inherit_weights,
    load_weights,
    read_weights,
    set_dropout,
    zero_residuals,
)
from utils.checkpoint import check_facts, load_checkpoint
from utils.evaluation import calibrate_batch_norms
from utils.run_folder import log


def load_trained(net: Subnet, path: Path, new_classes: bool = False) -> None:
    """Weights of a .safetensors file or a checkpoint (its averages, where it has them), in place.

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
    architecture: np.ndarray,
    path: Path,
    facts: dict,
    calibration: Iterable[Tensor],
) -> None:
    """A supernet's path into its network, in place, BN statistics calibrated.

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


def new_network(
    space: SearchSpace,
    architecture: np.ndarray,
    splits: Splits,
    config: SubnetConfig,
    facts: dict,
    resumed: bool,
) -> Subnet:
    """The network on the device, with the weights it starts from.

    Args:
        facts: what the supernet's checkpoint must agree on.
        resumed: the weights will come from the run's own checkpoint.
    """
    net = Subnet(space, architecture, space.training_style)
    zero_residuals(net)
    net.to(splits.train.device, memory_format=torch.channels_last)
    if config.init_from and not resumed:
        if config.init_from.suffix == ".safetensors":
            load_trained(net, config.init_from, new_classes=True)
        else:
            batches = itertools.islice(splits.calibration, config.calibration_batches)
            images = (images for images, _ in batches)
            load_from_supernet(net, space, architecture, config.init_from, facts, images)
    if config.dropout is not None:
        set_dropout(net, config.dropout)
    if config.regularisation.drop_path and not add_drop_path(net, config.regularisation.drop_path):
        log.info("note: --drop-path is without effect: this network has no residual branches")
    return net
