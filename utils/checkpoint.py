"""Checkpoints: everything a run needs to go on, and the facts of what it belongs to.

A checkpoint is a file of `torch.save`, a zip archive with a CRC-32 of each of its records.
torch.load does not look at those, and reads changed weights where bits have flipped; so they are
compared first.
"""

from __future__ import annotations

import pickle
import random
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch

from utils.files import atomic_path

Facts = Mapping[str, object]  # what a checkpoint belongs to: space, dataset, split, ...
FORMAT = 3  # 1 had no kind, 2 a SHA-256 as the archive's comment; such files are still read
IMAGES = "images"  # among the facts: fingerprint of the images that the split was drawn of
COMMON = {"optimizer", "scheduler", "loader", "epoch", "facts", "config"}
WEIGHTS = ("supernet.pt", "weights.safetensors", "best.pt")  # of a run folder
# what a checkpoint of a kind has at least
KINDS = {"supernet": COMMON | {"supernet", "sampler"}, "subnet": COMMON | {"subnet", "averaged"}}


class Stateful(Protocol):
    def state_dict(self) -> dict: ...

    def load_state_dict(self, state: dict) -> object: ...


def save_checkpoint(path: str | Path, kind: str = "supernet", **state: Any) -> None:
    """Write `state` (at least the keys of its kind) and torch's generators, atomically.

    Raises:
        OSError: it cannot be written; what `path` held before is as it was.
    """
    missing = KINDS[kind] - state.keys()
    assert not missing, f"a checkpoint of a {kind} has {sorted(missing)}"
    kind_of, words, *rest = cast(tuple[str, np.ndarray, int, int, float], np.random.get_state())
    generators = {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
        "numpy": (kind_of, words.tolist(), *rest),  # weights_only refuses arrays
        "python": random.getstate(),
    }
    # of a path, torch hides why a write failed
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        torch.save({"format": FORMAT, "kind": kind, "generators": generators, **state}, file)


def load_checkpoint(path: str | Path, kind: str = "supernet") -> dict[str, Any]:
    """Read a checkpoint to the CPU.

    Raises:
        ValueError: missing, damaged, of another program, format or kind; says which.
    """
    path = Path(path)
    try:
        there, folder = path.is_file(), path.is_dir()
    except (OSError, ValueError):  # too long for a name, or with a NUL in it
        there = folder = False
    if folder:
        inside = [path / name for name in WEIGHTS if (path / name).is_file()]
        hint = f"; take its file {inside[0]}" if inside else ", without a file of weights in it"
        raise ValueError(f"checkpoint {path} is a folder{hint}")
    if not there:
        raise ValueError(f"checkpoint {path} does not exist; check the path")
    _check_archive(path)
    foreign = f"{path} is not a checkpoint of this toolkit"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{foreign}: it holds more than tensors and plain values; nothing in it was run"
        ) from error
    except Exception as error:  # what a file that is not ours does to an unpickler, nobody can list
        raise ValueError(f"checkpoint {path} is damaged; take another or train again") from error
    version = state.get("format") if isinstance(state, dict) else None
    if not isinstance(version, int):
        raise ValueError(f"{foreign}: it has no format version")
    if version > FORMAT:
        raise ValueError(
            f"checkpoint {path} has format {version}, this version reads up to {FORMAT}; update"
        )
    state.setdefault("kind", "supernet")  # all that format 1 could hold
    if state["kind"] != kind:
        raise ValueError(f"checkpoint {path} is of a {state['kind']}, not of a {kind}")
    if missing := KINDS[kind] - state.keys():
        raise ValueError(f"checkpoint {path} lacks {', '.join(sorted(missing))}; train it again")
    if not all(isinstance(state.get(key, {}), dict) for key in ("facts", "config")):
        raise ValueError(f"{foreign}: its facts and config are no mappings")
    return state


def _check_archive(path: Path) -> None:
    """Raise ValueError unless the file is a whole zip archive of unchanged records."""
    with open(path, "rb") as file:
        head = file.read(4)
    if head and head != b"PK\x03\x04":  # an empty file is truncated
        raise ValueError(f"{path} is not a checkpoint of this toolkit: no file of torch.save")
    whole, broken = False, None
    try:
        whole = zipfile.is_zipfile(path)  # looks for the directory, which stands at the end
        if whole:
            with zipfile.ZipFile(path) as archive:
                broken = archive.testzip()
    except Exception as error:  # a changed directory can name any offset, size or method
        raise ValueError(f"checkpoint {path} is damaged; take another or train again") from error
    if not whole:
        raise ValueError(f"checkpoint {path} is truncated; take another or train again")
    if broken is not None:
        raise ValueError(
            f"checkpoint {path} is damaged: the checksum of {broken!r} does not match its content; "
            f"take another or train again"
        )


def check_facts(path: str | Path, stored: Facts, wanted: Facts) -> None:
    """Raise ValueError naming the first fact in which a checkpoint is of something else.

    A space may have two names, as its file does; its fingerprint tells if it is another one.
    """
    spaces = stored.get("search_space"), wanted.get("search_space")
    if (
        spaces[0] != spaces[1]
        and None not in spaces
        and stored.get("fingerprint") != wanted.get("fingerprint", stored.get("fingerprint"))
    ):
        raise ValueError(
            f"checkpoint {path} is of search space {spaces[0]}, this run of {spaces[1]}; take "
            f"another checkpoint, or leave out what names the space"
        )
    for key, value in wanted.items():
        if key not in ("search_space", IMAGES) and stored.get(key) != value:
            flag = f"--{key.replace('_', '-')}" if key != "fingerprint" else "the space's YAML"
            raise ValueError(
                f"checkpoint {path} has {key.replace('_', ' ')} {stored.get(key)}, this run "
                f"{value}; fix {flag} or take another checkpoint"
            )
    if IMAGES in wanted and stored.get(IMAGES, wanted[IMAGES]) != wanted[IMAGES]:  # older: none
        raise ValueError(
            f"checkpoint {path} was trained on other images: of another --data-path, or files were "
            f"added, removed or renamed, so that a search would validate on images that trained "
            f"it; restore them, or train again"
        )


def restore(path: str | Path, state: dict[str, Any], parts: Mapping[str, Stateful]) -> None:
    """Load `state[name]` into every part. Raises ValueError naming a part that does not fit."""
    for name, part in parts.items():
        try:
            part.load_state_dict(state[name])
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"checkpoint {path}: its {name} does not fit this run") from error


def restore_generators(state: dict[str, Any]) -> None:
    """Set torch's, numpy's and Python's global generators as they were at `save_checkpoint`."""
    generators = state["generators"]
    torch.set_rng_state(generators["cpu"])
    if (cuda := generators["cuda"]) and torch.cuda.device_count() == len(cuda):  # one state per GPU
        torch.cuda.set_rng_state_all(cuda)
    if "python" in generators:  # since format 2
        np.random.set_state(generators["numpy"])
        random.setstate(generators["python"])
