"""Latency of every block on a device, and how well their sum predicts whole networks.

A network's latency is modelled as the sum of its blocks' (as FBNet, https://arxiv.org/abs/
1812.03443, section 3.2, and ProxylessNAS do), each measured in several turns, by
torch.utils.benchmark after a warm-up, in eval mode without gradients; medians count. The sum leaves
out what blocks do to each other (caches, overlapped kernels): see `lookup_table/whole_networks.py`.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from lookup_table.blocks import costs_of, distinct_blocks
from lookup_table.table import LookupTable
from model.space import SearchSpace
from utils.progress import progress_bar

if TYPE_CHECKING:
    from torch.utils.benchmark import Timer

RESOLUTION = 100  # ns: finer than the noise, and coarse enough to count budgets exactly
TURNS = 5  # spells in which a block is measured, between those of the others
WARM_UP = 3  # runs before each, untimed


@dataclass(frozen=True, kw_only=True)
class LatencySettings:
    """Settings of a measurement of latency.

    Attributes:
        batch_size: images per run.
        threads: CPU threads of PyTorch.
        seconds: least time spent on each block, over all its turns.
        correction: whole networks that a common factor of all blocks is fitted to; 0 is no factor.
    """

    batch_size: int = 1
    threads: int = 1
    seconds: float = 0.1
    correction: int = 0


def device_name(device: torch.device) -> str:
    """A name that tells one machine's device from another's."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        models = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        name = models[0].split(":", 1)[1].strip() if models else name
    return f"{name} ({device.type})"


def timer_of(module: Callable[[torch.Tensor], object], images: torch.Tensor, threads: int) -> Timer:
    """Make a timer of module(images), the end of the device's work included."""
    from torch.utils.benchmark import Timer  # looks for a CUDA compiler, and says so

    # of CUDA, Timer waits for the end by itself
    sync = torch.mps.synchronize if images.device.type == "mps" else (lambda: None)
    variables = {"module": module, "x": images, "sync": sync}
    return Timer("module(x); sync()", globals=variables, num_threads=threads)


def time_modules(
    cases: Sequence[tuple[nn.Module, tuple[int, ...]]],
    device: torch.device,
    settings: LatencySettings,
    name: str,
) -> list[float]:
    """Median seconds of one forward of each module in eval mode, on images of its [C, H, W].

    The modules take turns, so that a machine that is slower for a while is so for all of them.

    Args:
        name: of a module, on the progress bar.
    """
    timers = []
    for module, shape in cases:
        x = torch.randn(settings.batch_size, *shape)  # on the CPU: the generator that is forked
        x = x.to(device, memory_format=torch.channels_last)
        module = module.eval().to(device).to(memory_format=torch.channels_last)
        timers.append(timer_of(module, x, settings.threads))
    turns: list[list[float]] = []
    bar = progress_bar(TURNS * len(timers), "latency", name)
    with torch.inference_mode(), bar:
        for _ in range(TURNS):
            medians = []
            for timer in timers:
                timer.timeit(WARM_UP)
                share = settings.seconds / TURNS
                medians.append(timer.blocked_autorange(min_run_time=share).median)
                bar.update()
            turns.append(medians)
    return np.median(turns, axis=0).tolist()


@torch.random.fork_rng(devices=[])  # a run must not depend on whether its table is cached
def measure_latency(
    space: SearchSpace,
    table: LookupTable,
    device: torch.device,
    settings: LatencySettings,
) -> LookupTable:
    """Add the metric latency to a table, ns per block rounded to RESOLUTION.

    Layers of one shape share their measurement.
    """
    blocks = distinct_blocks(space)  # networks are built without skips: they take no time
    seconds = time_modules([(b.module, b.shape) for b in blocks], device, settings, "block")
    costs, fixed = costs_of(space, blocks, [_rounded(s) for s in seconds])
    return table.with_metric("latency", costs, sum(fixed), "ms", source(device, settings))


def _rounded(seconds: float) -> int:
    return round(seconds * 1e9 / RESOLUTION) * RESOLUTION


def source(device: torch.device, settings: LatencySettings) -> dict:
    """Describe what a measurement depends on, besides the space."""
    how = asdict(settings)
    if not settings.correction:
        del how["correction"]  # so that measurements cached without the flag stay known
    return {
        "device": device_name(device),
        **how,
        "dtype": "float32",
        "memory_format": "channels_last",
        "torch": str(torch.__version__),
    }
