"""Checkpoints: everything a run needs to go on, and the facts of what it belongs to.

A checkpoint is a file of `torch.save`, a zip archive, whose archive comment is the SHA-256 of all
bytes before it: it opens with plain `torch.load`, and one changed bit anywhere is noticed.
"""

from __future__ import annotations

import hashlib
import pickle
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch

from utils.files import atomic_path

FORMAT = 2  # 1 had no checksum and no kind; such a file is still read
KEYS = ("supernet", "optimizer", "scheduler", "sampler", "loader", "epoch", "facts", "config")
SUBNET_KEYS = ("subnet", "averaged", "optimizer", "scheduler", "loader", "epoch", "facts", "config")
# what a checkpoint of a kind has at least; other kinds: nothing
KINDS = {"supernet": KEYS, "subnet": SUBNET_KEYS}
SEAL = b"sha256:"
SEAL_BYTES = len(SEAL) + 64
END_OF_ZIP = b"PK\x05\x06"


def save_checkpoint(path: str | Path, kind: str = "supernet", **state: Any) -> None:
    """Write `state` (at least the keys of its kind) and torch's generators, atomically.

    Raises:
        OSError: it cannot be written; what `path` held before is as it was.
    """
    missing = set(KINDS.get(kind, ())) - set(state)
    assert not missing, f"a checkpoint of a {kind} has {sorted(missing)}"
    kind_of, words, *rest = np.random.get_state()
    generators = {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
        "numpy": (kind_of, words.tolist(), *rest),
        "python": random.getstate(),
    }
    with atomic_path(path) as temporary:
        with open(temporary, "wb") as file:  # of a path, torch hides why a write failed
            torch.save({"format": FORMAT, "kind": kind, "generators": generators, **state}, file)
        _seal(temporary)


def load_checkpoint(path: str | Path, kind: str = "supernet") -> dict[str, Any]:
    """A checkpoint on the CPU.

    Raises:
        ValueError: missing, damaged, of another program, format or kind; says which.
    """
    path = Path(path)
    try:
        there = path.is_file()
    except (OSError, ValueError):  # too long for a name, or with a NUL in it
        there = False
    if not there:
        raise ValueError(f"checkpoint {path} does not exist; mend the path")
    sealed = _check_seal(path)
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
    if version > 1 and not sealed:
        raise ValueError(f"checkpoint {path} is damaged: its checksum is missing")
    state.setdefault("kind", "supernet")  # all that format 1 could hold
    if state["kind"] != kind:
        raise ValueError(f"checkpoint {path} is of a {state['kind']}, not of a {kind}")
    if missing := sorted(set(KINDS.get(kind, ())) - set(state)):
        raise ValueError(f"checkpoint {path} lacks {', '.join(missing)}; train it again")
    if not all(isinstance(state.get(key, {}), dict) for key in ("facts", "config")):
        raise ValueError(f"{foreign}: its facts and config are no mappings")
    return state


def _seal(path: Path) -> None:
    """Add the checksum as the comment of the zip archive that torch.save wrote."""
    with open(path, "rb+") as file:
        file.seek(-2, 2)
        assert file.read() == b"\0\0", "the archive has a comment already"
        file.seek(-2, 2)
        file.write(struct.pack("<H", SEAL_BYTES))  # the comment's length is under the checksum
    digest = _sha256(path, path.stat().st_size)
    with open(path, "ab") as file:
        file.write(SEAL + digest.encode())


def _check_seal(path: Path) -> bool:
    """Whether the file is sealed. Raises ValueError if it is not what was sealed."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(4)
        file.seek(max(0, size - SEAL_BYTES))
        tail = file.read()
        file.seek(max(0, size - SEAL_BYTES - 22))
        end = file.read(4)
    if tail.startswith(SEAL):
        digest = _sha256(path, size - SEAL_BYTES)
        if tail != SEAL + digest.encode():
            raise ValueError(
                f"checkpoint {path} is damaged: its checksum does not match its content; take "
                f"another or train again"
            )
        return True
    if end == END_OF_ZIP:  # an archive with a comment of our length that is not ours
        raise ValueError(f"checkpoint {path} is damaged: its checksum is not readable")
    if size == 0 or (head == b"PK\x03\x04" and END_OF_ZIP not in tail):
        raise ValueError(f"checkpoint {path} is truncated; take another or train again")
    if head != b"PK\x03\x04":
        raise ValueError(f"{path} is not a checkpoint of this toolkit: no file of torch.save")
    return False


def _sha256(path: Path, length: int) -> str:
    """Of the first `length` bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while length > 0 and (part := file.read(min(length, 1 << 20))):
            digest.update(part)
            length -= len(part)
    return digest.hexdigest()


def check_facts(path: str | Path, stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raises ValueError naming the first fact in which a checkpoint is of something else."""
    for key, value in wanted.items():
        if stored.get(key) != value:
            flag = f"--{key.replace('_', '-')}" if key != "fingerprint" else "the space's YAML"
            raise ValueError(
                f"checkpoint {path} has {key.replace('_', ' ')} {stored.get(key)}, this run "
                f"{value}; mend {flag} or take another checkpoint"
            )


def restore(path: str | Path, state: dict[str, Any], parts: dict[str, Any]) -> None:
    """Load `state[name]` into every part. Raises ValueError naming a part that does not fit."""
    for name, part in parts.items():
        try:
            part.load_state_dict(state[name])
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"checkpoint {path}: its {name} does not fit this run") from error


def restore_generators(state: dict[str, Any]) -> None:
    """Torch's, numpy's and Python's global generators as they were at `save_checkpoint`."""
    generators = state["generators"]
    torch.set_rng_state(generators["cpu"])
    if (cuda := generators["cuda"]) and torch.cuda.device_count() == len(cuda):
        torch.cuda.set_rng_state_all(cuda)
    if "python" in generators:  # format 2
        np.random.set_state(generators["numpy"])
        random.setstate(generators["python"])
