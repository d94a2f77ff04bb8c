"""The checkpoint of a supernet, the facts that a run must share with it, and its subnets."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from model.space import Architecture, SearchSpace
from model.subnet import Subnet, inherit_weights
from model.superkernel import build_supernet
from model.supernet import Supernet
from utils.checkpoint import IMAGES, check_facts, load_checkpoint, restore
from utils.evaluation import calibrate_batch_norms
from utils.run_folder import log


def supernet_facts(
    space: SearchSpace, dataset: str, train_portion: float, images: str | None = None
) -> dict:
    """Return the entries that a checkpoint must share with the run that uses it.

    Args:
        images: fingerprint of the splits; None where others will do.
    """
    return {
        "search_space": space.name,
        "dataset": dataset,
        "train_portion": train_portion,  # else the search would validate on training images
        "input_size": space.input_size,
        "num_classes": space.num_classes,
        "widths": list(space.widths),
        "fingerprint": space.fingerprint,
        **({} if images is None else {IMAGES: images}),  # likewise: the split is drawn of them
    }


def load_supernet(path: Path, supernet: Supernet, facts: dict) -> dict:
    """Load the weights of a checkpoint that agrees with `facts`; return all of its content.

    Raises:
        ValueError: it is damaged, of another supernet, or had other images to train on.
    """
    state = load_checkpoint(path)
    check_facts(path, state["facts"], facts)
    restore(path, state, {"supernet": supernet})
    size = state["facts"]["input_size"]
    log.info(f"supernet: {path}, {state['epoch']} epochs at {size} px")
    return state


def extract_subnet(
    supernet: Supernet, architecture: Architecture, calibration: Iterable[Tensor]
) -> Subnet:
    """Return the standalone network of a path, with its weights, in eval mode on its device.

    Args:
        calibration: batches of training images [B, 3, H, W] that BN statistics are estimated on.
    """
    net = Subnet(supernet.space, architecture).to(next(supernet.parameters()).device)
    inherit_weights(net, supernet, architecture)
    # the statistics in a supernet mix those of all paths
    calibrate_batch_norms(net, calibration)
    return net


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
