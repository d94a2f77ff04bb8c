"""Checkpoints: everything a run needs to go on, and the facts of what it belongs to."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from utils.files import atomic_path

FORMAT = 1
KEYS = ("supernet", "optimizer", "scheduler", "sampler", "loader", "epoch", "facts", "config")
SUBNET_KEYS = ("subnet", "averaged", "optimizer", "scheduler", "loader", "epoch", "facts", "config")
KINDS = {"supernet": KEYS, "subnet": SUBNET_KEYS}  # what a checkpoint of a kind has at least


def save_checkpoint(path: Path, kind: str = "supernet", **state: Any) -> None:
    """Write `state` (at least the keys of its kind) and torch's generators, atomically."""
    assert set(KINDS[kind]) <= set(state)
    generators = {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}
    with atomic_path(path) as temporary:
        torch.save({"format": FORMAT, "kind": kind, "generators": generators, **state}, temporary)


def load_checkpoint(path: str | Path, kind: str = "supernet") -> dict[str, Any]:
    """A checkpoint on the CPU.

    Raises:
        ValueError: missing, damaged, or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"checkpoint {path} does not exist; mend the path")
    damaged = f"checkpoint {path} is damaged or not of a {kind}; train it again"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise ValueError(damaged) from error
    if not isinstance(state, dict) or any(key not in state for key in KINDS[kind]):
        raise ValueError(damaged)
    return state


def check_facts(path: str | Path, stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raises ValueError naming the first fact in which a checkpoint is of something else."""
    for key, value in wanted.items():
        if stored.get(key) != value:
            flag = f"--{key.replace('_', '-')}" if key != "fingerprint" else "the space's YAML"
            raise ValueError(
                f"checkpoint {path} has {key.replace('_', ' ')} {stored.get(key)}, this run "
                f"{value}; mend {flag} or take another checkpoint"
            )


def restore_generators(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["generators"]["cpu"])
    if (cuda := state["generators"]["cuda"]) and torch.cuda.device_count() == len(cuda):
        torch.cuda.set_rng_state_all(cuda)
