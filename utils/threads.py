"""CPU threads: the number this process may use, and the number that pays.

PyTorch takes every core and its OpenMP threads wait by spinning: beside one other busy process a
step then takes 20 to 80 times as long. `startup.wait_without_spinning` lets them sleep soon, and
`pick_threads` takes no more threads than a few timed steps show to pay; cores that are left over
score candidates in processes of their own (`search_strategy.workers`).
"""

from __future__ import annotations

import copy
import math
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from utils import distributed, ranks

PAYS = 1.2  # so many times faster than half of them, or more threads are not worth a core each
PROBE_IMAGES = 64  # of a step that is timed, at most
CGROUPS = Path("/sys/fs/cgroup")


def usable_cpus() -> int:
    """Count the CPUs that affinity, the container's quota and OMP_NUM_THREADS leave."""
    limits = [os.cpu_count() or 1]
    if hasattr(os, "sched_getaffinity"):  # Linux
        limits.append(len(os.sched_getaffinity(0)))
    limits.append(quota(CGROUPS, own_cgroup()))
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]  # it may list nested levels
    if first.isdigit():
        limits.append(int(first))
    return max(1, min(limits))


def _read(path: str | Path) -> str:
    """Read a file of the system; nothing where there is none."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def own_cgroup() -> str:
    """Return the path of this process's cgroup (version 2), "" where there is none."""
    lines = _read("/proc/self/cgroup").splitlines()
    return next((line[3:] for line in lines if line.startswith("0::")), "")


def quota(root: Path, group: str) -> int:
    """Count the whole CPUs that the quotas of a cgroup and its ancestors allow, rounded up.

    A container often sees its own group as the root, and its parents not at all.
    """
    folder = root / group.lstrip("/")
    allowed = 1 << 30  # no limit
    for place in (folder, *folder.parents):
        values = _read(place / "cpu.max").split()  # version 2: "quota period", quota may be "max"
        if place == root and not values:  # version 1
            names = "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"
            values = [word for name in names for word in _read(root / name).split()]
        if len(values) == 2 and values[0].isdigit():
            allowed = min(allowed, -(-int(values[0]) // int(values[1])))
        if place == root:
            break
    return allowed


def pick_threads(step: Callable[[], object], limit: int) -> int:
    """Halve the number of threads from `limit` while fewer are nearly as fast.

    Args:
        step: work of the run's own size; it runs up to three times per number tried.
    """

    def seconds(threads: int) -> float:
        torch.set_num_threads(threads)
        times: list[float] = []
        while len(times) < 3 and sum(times) < 2.0:
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
        return min(times)  # the least disturbed

    if limit == 1:
        return 1
    threads, best = limit, seconds(limit)
    while threads > 1:
        fewer = seconds(threads // 2)
        if fewer > PAYS * best:
            break
        threads, best = threads // 2, min(best, fewer)
    return threads


def set_threads(
    threads: int | str, net: nn.Module, batch_size: int, input_size: int, *path: object
) -> int | str:
    """Apply --threads where `net` is on the CPU; `auto` becomes a number, by timed steps.

    Args:
        net: called as net(images, *path); a copy of it is timed.
    """
    device = next(net.parameters()).device
    if device.type != "cpu":
        return threads
    if threads == "auto":
        net = copy.deepcopy(net)
        size = min(batch_size // ranks.world_size(), PROBE_IMAGES), 3, input_size, input_size
        images = torch.linspace(-1, 1, math.prod(size)).view(size)  # draws no random numbers
        images = images.contiguous(memory_format=torch.channels_last)

        def step() -> None:
            net(images, *path).square().mean().backward()
            net.zero_grad()

        with torch.random.fork_rng(devices=[]):  # dropout draws
            threads = distributed.from_main(pick_threads(step, usable_cpus()))
    torch.set_num_threads(int(threads))
    return threads


def processor() -> str:
    """Return the name of this machine's processor."""
    lines = _read("/proc/cpuinfo").splitlines()  # Linux
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def threads_text(device: torch.device) -> str:
    """Name threads, how they wait and instructions for a line of the log; "" on other devices."""
    if device.type != "cpu":
        return ""
    threads, instructions = torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()
    names = "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"
    waiting = next((f", {name}={os.environ[name]}" for name in names if name in os.environ), "")
    return f" ({threads} of {usable_cpus()} threads{waiting}, {instructions})"
