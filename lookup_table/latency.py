"""Latency of every block on a device, and how well their sum predicts whole networks.

A network's latency is modelled as the sum of its blocks' (as FBNet, https://arxiv.org/abs/
1812.03443, section 3.2, and ProxylessNAS do), each measured in several turns, by
torch.utils.benchmark after a warm-up, in eval mode without gradients; medians count. The sum leaves
out what blocks do to each other (overlapped kernels; a block timed by itself finds its weights in
the cache), so sums tend to be too low by one factor, which `corrected` fits. Rank correlations say
how far a budget can be trusted. L layers, N networks.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import torch
from torch import nn

from lookup_table import Budget, BudgetCounts, Equivalence, LookupTable
from lookup_table.blocks import costs_of, distinct_blocks
from model.space import SearchSpace
from model.subnet import Subnet
from model.supernet import IN_CHS
from utils.metrics import MILLION
from utils.run_folder import progress_bar

if TYPE_CHECKING:
    from torch.utils.benchmark import Timer

RESOLUTION = 100  # ns: finer than the noise, and coarse enough to count budgets exactly
TURNS = 5  # spells in which a block is measured, between those of the others
WARM_UP = 3  # runs before each, untimed
TRUSTED = 0.9  # rank correlation below which a log says so
CHECKED = 12  # networks that the end of a run measures
CORRECTION_SEED = 1  # other networks than those of seed 0, which errors are stated of


@dataclass(frozen=True, kw_only=True)
class LatencySettings:
    """Settings of a measurement of latency."""

    device: torch.device
    batch_size: int = 1  # images per run
    threads: int = 1  # CPU threads of PyTorch
    seconds: float = 0.1  # least time spent on each block, over all its turns
    correction: int = 0  # whole networks that a common factor of all blocks is fitted to; 0: none


def source(settings: LatencySettings) -> dict[str, object]:
    """Describe what a measurement depends on, besides the space."""
    how = asdict(settings) | {"device": device_name(settings.device)}
    if not settings.correction:
        del how["correction"]  # so that measurements cached without the flag stay known
    more = {"dtype": "float32", "memory_format": "channels_last", "torch": str(torch.__version__)}
    return how | more


def device_name(device: torch.device) -> str:
    """Return a name that tells one machine's device from another's."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.is_file() else ""
    model = re.search(r"^model name[^:\n]*:(.*)$", text, re.MULTILINE)
    name = model[1].strip() if model else platform.processor() or platform.machine()
    return f"{name} ({device.type})"


def timer_of(module: Callable[[torch.Tensor], object], images: torch.Tensor, threads: int) -> Timer:
    """Make a timer of module(images), the end of the device's work included."""
    from torch.utils.benchmark import Timer  # looks for a CUDA compiler, and says so

    # Timer waits for the end of CUDA's work by itself
    sync = torch.mps.synchronize if images.device.type == "mps" else (lambda: None)
    variables = {"module": module, "x": images, "sync": sync}
    return Timer("module(x); sync()", globals=variables, num_threads=threads)


def time_modules(
    cases: Sequence[tuple[nn.Module, tuple[int, ...]]], settings: LatencySettings, name: str
) -> list[float]:
    """Return median seconds of one forward of each module in eval mode, on images of its [C, H, W].

    The modules take turns, so that a machine that is slower for a while is so for all of them.
    On the progress bar a module is called `name`.
    """
    timers = []
    for module, shape in cases:
        x = torch.randn(settings.batch_size, *shape)  # on the CPU: the generator that is forked
        x = x.to(settings.device, memory_format=torch.channels_last)
        module = module.eval().to(settings.device).to(memory_format=torch.channels_last)
        timers.append(timer_of(module, x, settings.threads))
    medians = np.empty((TURNS, len(timers)))
    with torch.inference_mode(), progress_bar(medians.size, "latency", name) as bar:
        for turn in medians:  # a row, filled in place
            for i, timer in enumerate(timers):
                timer.timeit(WARM_UP)  # other modules have run since
                turn[i] = timer.blocked_autorange(min_run_time=settings.seconds / TURNS).median
                bar.update()
    return np.median(medians, axis=0).tolist()


@torch.random.fork_rng(devices=[])  # a run must not depend on whether its table is cached
def measure_latency(
    space: SearchSpace, table: LookupTable, settings: LatencySettings
) -> LookupTable:
    """Add the metric latency to a table, ns per block rounded to RESOLUTION, and corrected."""
    blocks = distinct_blocks(space)  # networks are built without skips: they take no time
    seconds = time_modules([(b.module, b.shape) for b in blocks], settings, "block")
    rounded = [round(s * 1e9 / RESOLUTION) * RESOLUTION for s in seconds]
    costs, fixed = costs_of(space, blocks, rounded)
    table = table.with_metric("latency", costs, sum(fixed), "ms", source(settings))
    return corrected(space, table, settings) if settings.correction else table


def corrected(space: SearchSpace, table: LookupTable, settings: LatencySettings) -> LookupTable:
    """Scale all latencies by the median of whole / sum over `settings.correction` networks."""
    everything = Budget(BudgetCounts(table, table.metrics[0], Equivalence(space)), None, None)
    rng = np.random.default_rng(CORRECTION_SEED)
    networks = everything.sample_unique(settings.correction, rng)
    predicted, measured = sums_and_wholes(space, table, networks, settings)
    factor = float(np.median(measured / predicted))
    costs = np.rint(table.costs["latency"] * factor / RESOLUTION).astype(np.int64) * RESOLUTION
    fixed = round(table.fixed["latency"] * factor / RESOLUTION) * RESOLUTION
    facts = {**table.sources["latency"], "correction_factor": round(factor, 4)}
    return table.with_metric("latency", costs, fixed, "ms", facts)


def sums_and_wholes(
    space: SearchSpace, table: LookupTable, architectures: np.ndarray, settings: LatencySettings
) -> tuple[np.ndarray, np.ndarray]:
    """Return the table's sums and the measured latencies of networks, ms, float [N] each."""
    size = (IN_CHS, space.input_size, space.input_size)
    cases = [(Subnet(space, a), size) for a in architectures]
    measured = np.array(time_modules(cases, settings, "network")) * 1e3  # s to ms
    return table.cost(architectures, "latency") / MILLION, measured


class Validation(TypedDict):
    """Whole networks against the sums of their blocks."""

    num_networks: int
    spearman: float | None  # rank correlation; None where it is not defined
    mean_relative_error: float  # |sum - whole| / whole
    max_relative_error: float
    bias: float  # mean of sum / whole
    predicted_ms: list[float]
    measured_ms: list[float]


@torch.random.fork_rng(devices=[])
def validate(
    space: SearchSpace, table: LookupTable, architectures: np.ndarray, settings: LatencySettings
) -> Validation:
    """Measure whole networks, int [N, L], against the table's sums."""
    from scipy.stats import spearmanr

    predicted, measured = sums_and_wholes(space, table, architectures, settings)
    errors = np.abs(predicted - measured) / measured
    rank = spearmanr(predicted, measured).statistic if len(measured) > 2 else np.nan  # of 2: ±1
    return {
        "num_networks": len(measured),
        "spearman": None if np.isnan(rank) else round(float(rank), 4),
        "mean_relative_error": round(float(errors.mean()), 4),
        "max_relative_error": round(float(errors.max()), 4),
        "bias": round(float((predicted / measured).mean()), 4),
        "predicted_ms": [round(v, 4) for v in predicted.tolist()],
        "measured_ms": [round(v, 4) for v in measured.tolist()],
    }


def validation_text(found: Validation) -> str:
    """State the error of the sums in a line."""
    spearman = found["spearman"]
    return (
        f"over {found['num_networks']} networks: rank correlation "
        f"{'undefined' if spearman is None else f'{spearman:.2f}'}, mean error "
        f"{found['mean_relative_error']:.0%}, sum / whole {found['bias']:.2f}"
    )


def rank_note(spearman: float | None) -> str:
    """Return a warning where the sums rank whole networks badly; else an empty text."""
    if spearman is None or spearman >= TRUSTED:
        return ""
    return (
        f"the sums rank whole networks at a correlation of {spearman:.2f}, below {TRUSTED}: a "
        f"latency budget is rough here; measure on an idle machine, or raise --latency-seconds"
    )


def latency_rows(
    space: SearchSpace, budget: Budget, answer: np.ndarray, settings: LatencySettings
) -> dict[str, str]:
    """State the error of the additive model: rows for the summary of a run.

    Args:
        budget: CHECKED of its networks are measured if the table is of this device.
        answer: the architecture [L] found, one of them.
    """
    table = budget.counts.table
    known = table.sources.get("latency")
    if known is None:
        return {}
    if not known.items() >= source(settings).items():  # of another device
        stated = known.get("exactness") or "its error on whole networks is not known"
        return {"latency table": f"{known.get('device', known.get('file'))}; {stated}"}
    others = budget.sample(CHECKED - 1, np.random.default_rng(0))
    found = validate(space, table, np.vstack([answer, others]), settings)
    predicted, measured = found["predicted_ms"][0], found["measured_ms"][0]
    rows = {
        "latency, measured": f"{measured:.3f} ms of the whole network, {predicted:.3f} ms by the "
        f"table ({predicted / measured - 1:+.0%})",
        "latency model": validation_text(found),
    }
    if note := rank_note(found["spearman"]):
        rows["latency warning"] = note
    return rows
