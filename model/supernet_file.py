"""A supernet's checkpoint: what it must agree on with the run that uses it, and loading it."""

from __future__ import annotations

from pathlib import Path

from model.space import SearchSpace
from model.supernet import Supernet
from utils.checkpoint import check_facts, load_checkpoint, restore
from utils.run_folder import log


def supernet_facts(space: SearchSpace, dataset: str, train_portion: float) -> dict:
    """Entries that a checkpoint and the run that uses it must have in common."""
    return {
        "search_space": space.name,
        "dataset": dataset,
        "train_portion": train_portion,  # else the search would validate on training images
        "input_size": space.input_size,
        "num_classes": space.num_classes,
        "widths": list(space.widths),
        "fingerprint": space.fingerprint,
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
