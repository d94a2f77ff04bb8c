"""The device of a run, its memory allocator and random seeds, and a record of its set-up.

A result depends on the set-up to the last bit: versions, device, processor, threads.
"""

from __future__ import annotations

import contextlib
import ctypes
import platform
import random
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import yaml

from utils.distributed import join
from utils.files import write_text
from utils.ranks import world_size
from utils.run_folder import log
from utils.threads import processor
from utils.yaml_file import read_yaml

SAMPLER_STREAM, SEARCH_STREAM, CONTROL_STREAM = 1, 2, 3  # 4 and 5: search_strategy/
ENVIRONMENT = "environment.yaml"  # in a run folder


def tune_malloc() -> None:
    """Let glibc keep freed blocks for the next activation; elsewhere, do nothing.

    By default it hands large ones back to the kernel and maps fresh, zeroed pages for the next
    layer: about a quarter of the time of scoring a small network on a CPU.
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD: the largest value it takes
        mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
        mallopt(-2, 64 << 20)  # M_TOP_PAD


def pick_device(name: str) -> torch.device:
    """Return the device; `auto` is CUDA, else MPS, else the CPU. Under torchrun, join the others.

    Raises:
        ValueError: the device asked for is not there, or not the other processes.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(device for device, there in available.items() if there)
    if not available[name]:
        raise ValueError(f"--device {name}: this machine has none; use --device auto")
    return join(torch.device(name))


def seed_everything(seed: int) -> None:
    """Seed the global generators; weight initialisation and dropout draw from torch's."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def stream(seed: int, which: int) -> np.random.Generator:
    """Make an independent generator per purpose: more candidates leave the training paths as is."""
    return np.random.default_rng([seed, which])


def note_environment(folder: Path, device: torch.device, config_file: Path | None) -> None:
    """Write environment.yaml of a new run; note where that of the run it repeats is another.

    Call it after the number of threads is set.

    Args:
        config_file: the --config of a new run; beside that of a run stands its environment.
    """
    now = {
        "python": platform.python_version(),
        "torch": str(torch.__version__),  # with the build, as in +cpu
        **{name: version(name) for name in ("torchvision", "numpy", "pillow")},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processor": processor(),
        "cpu capability": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
        "processes": str(world_size()),
    }
    path = folder / ENVIRONMENT
    first = path if path.exists() or config_file is None else config_file.parent / ENVIRONMENT
    then = None
    with contextlib.suppress(ValueError):  # it is for people, and stops no run
        then = read_yaml(first) if first.exists() else None
    if isinstance(then, dict):
        changes = [f"{k} {then[k]}, now {v}" for k, v in now.items() if then.get(k, v) != v]
        if changes:
            log.info(
                f"note: results may differ from {first.parent}, which had {'; '.join(changes)}"
            )
    if not path.exists():
        write_text(path, yaml.safe_dump(now, sort_keys=False))
