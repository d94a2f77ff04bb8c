"""The device of a run, its memory allocator, and its random seeds."""

from __future__ import annotations

import contextlib
import ctypes
import random
import sys

import numpy as np
import torch

from utils.distributed import join

SAMPLER_STREAM, SEARCH_STREAM, CONTROL_STREAM = 1, 2, 3


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
