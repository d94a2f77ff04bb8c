"""Latency of every block on a device, and how well their sum predicts whole networks.

A network's latency is modelled as the sum of its blocks' (as FBNet, https://arxiv.org/abs/
1812.03443, section 3.2, and ProxylessNAS do), each measured in several turns, by
torch.utils.benchmark after a warm-up, in eval mode without gradients; medians count. The sum leaves
out what blocks do to each other (caches, overlapped kernels), so `validate` states its error.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import torch
from torch import nn

from lookup_table.budget import Budget
from lookup_table.counts import BudgetCounts
from lookup_table.equivalence import Equivalence
from lookup_table.table import LookupTable
from lookup_table.user_table import read_user_table, user_table_text
from model.space import SearchSpace
from model.subnet import Subnet, count_params, fold_batch_norms
from model.supernet import IN_CHS, build_choice, build_first, build_head, build_stem
from utils.files import write_text
from utils.metrics import in_millions
from utils.progress import progress_bar

if TYPE_CHECKING:
    from torch.utils.benchmark import Timer

CORRECTION_SEED = 1
RESOLUTION = 100  # ns: finer than the noise, and coarse enough to count budgets exactly
TURNS = 5  # spells in which a block is measured, between those of the others
WARM_UP = 3  # runs before each, untimed
TRUSTED = 0.9  # rank correlation below which a log says so
CHECKED = 12  # whole networks that the end of a run measures
SPEED_SECONDS = 1.0  # of measuring a whole network, per batch size


class Validation(TypedDict):
    """Whole networks against the sums of their blocks.

    spearman is their rank correlation (None where it is not defined), the relative errors are
    |sum - whole| / whole, and bias is the mean of sum / whole.
    """

    num_networks: int
    spearman: float | None
    mean_relative_error: float
    max_relative_error: float
    bias: float
    predicted_ms: list[float]
    measured_ms: list[float]


@dataclass(frozen=True, kw_only=True)
class LatencySettings:
    """How latency is measured.

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


@dataclass(frozen=True)
class Speed:
    """Median and interquartile range of one forward pass of a batch, ms."""

    batch: int
    median_ms: float
    iqr_ms: float

    @property
    def images_per_s(self) -> float:
        return 1000 * self.batch / self.median_ms


def measure_speed(net: nn.Module, batch: int, input_size: int, device: torch.device) -> Speed:
    """Time forward passes of a whole network on the device, in eval mode, in the run's threads."""
    images = torch.zeros(batch, IN_CHS, input_size, input_size, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    timer = _timer(net.eval(), images, torch.get_num_threads())
    with torch.inference_mode():
        timer.timeit(WARM_UP)
        result = timer.blocked_autorange(min_run_time=SPEED_SECONDS)
    return Speed(batch, 1000 * result.median, 1000 * result.iqr)


def speed_text(
    net: Subnet,
    architecture: np.ndarray,
    table: LookupTable,
    input_size: int,
    batch: int,
    device: torch.device,
) -> str:
    """Measure latency and throughput here; lines of text with the table's costs beside them."""
    lines = [f"{device}, {torch.get_num_threads()} CPU threads, {input_size} px, float32"]
    lines.append(f"{'':<22}{'batch':>6}{'ms (median ± IQR/2)':>22}{'images/s':>12}")
    for name, module in (("as trained", net), ("batch norms folded", fold_batch_norms(net))):
        for size in (1, batch):
            speed = measure_speed(module.to(device), size, input_size, device)
            time = f"{speed.median_ms:.3f} ± {speed.iqr_ms / 2:.3f}"
            lines.append(f"{name:<22}{size:>6}{time:>22}{speed.images_per_s:>12,.0f}")
    for metric in table.costs:
        cost = in_millions(int(table.cost(architecture, metric)))
        lines.append(f"table: {cost} {table.unit(metric)}")
    lines.append(f"this network: {in_millions(count_params(net))} M params")
    return "\n".join(lines)


def _timer(module: nn.Module, images: torch.Tensor, threads: int) -> Timer:
    """Times module(images), the end of the device's work included."""
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
        timers.append(_timer(module, x, settings.threads))
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

    Layers of one shape share their measurement. With `settings.correction`, all blocks are scaled
    by one factor, the median of whole / sum over that many random networks.
    """
    keys: dict[tuple[int, int], tuple] = {}
    cases: dict[tuple, tuple[nn.Module, tuple[int, ...]]] = {}
    for i, layer in enumerate(space.layers):
        shape = (layer.in_chs, layer.in_size, layer.in_size)
        for c, name in enumerate(layer.choices):
            key = keys[i, c] = (name, layer.in_chs, layer.out_chs, layer.stride, layer.in_size)
            if key not in cases:
                cases[key] = build_choice(space, i, c, space.style), shape
    cases["stem",] = build_stem(space, space.style), (IN_CHS, space.input_size, space.input_size)
    stem_shape = (space.stem_width, space.stem_size, space.stem_size)
    cases["first",] = build_first(space, space.style), stem_shape
    head_shape = (space.layers[-1].out_chs, space.last_size, space.last_size)
    cases["head",] = build_head(space, space.style), head_shape
    # A network is built without skips: they take no time
    timed = {k: case for k, case in cases.items() if not isinstance(case[0], nn.Identity)}
    seconds = time_modules(list(timed.values()), device, settings, "block")
    known = dict.fromkeys(cases, 0) | dict(zip(timed, map(_rounded, seconds), strict=True))
    costs = np.zeros((space.num_layers, space.max_choices), dtype=np.int64)
    for (i, c), key in keys.items():
        costs[i, c] = known[key]
    fixed = known["stem",] + known["first",] + known["head",]
    found = source(device, settings)
    measured = table.with_metric("latency", costs, fixed, "ms", found)
    if not settings.correction:
        return measured
    networks = _random_networks(space, measured, settings.correction)
    predicted, whole = _sums_and_wholes(space, measured, networks, device, settings)
    factor = float(np.median(whole / predicted))
    scaled = [np.round(part * factor / RESOLUTION).astype(np.int64) for part in (costs, fixed)]
    found["correction_factor"] = round(factor, 4)
    return table.with_metric(
        "latency", scaled[0] * RESOLUTION, int(scaled[1]) * RESOLUTION, "ms", found
    )


def _random_networks(space: SearchSpace, table: LookupTable, number: int) -> np.ndarray:
    """Draw networks int [N, L], others than those that `--latency` compares with."""
    budget = Budget(BudgetCounts(table, "latency", Equivalence(space)), None, None)
    return budget.sample(number, np.random.default_rng(CORRECTION_SEED))


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


def _sums_and_wholes(
    space: SearchSpace,
    table: LookupTable,
    architectures: np.ndarray,
    device: torch.device,
    settings: LatencySettings,
) -> tuple[np.ndarray, np.ndarray]:
    """The table's sum and the measured latency of whole networks, ms, float [N] each."""
    size = (IN_CHS, space.input_size, space.input_size)
    cases = [(Subnet(space, a), size) for a in architectures]
    measured = np.array(time_modules(cases, device, settings, "network")) * 1e3
    return table.cost(architectures, "latency") / 1e6, measured


@torch.random.fork_rng(devices=[])
def validate(
    space: SearchSpace,
    table: LookupTable,
    architectures: np.ndarray,
    device: torch.device,
    settings: LatencySettings,
) -> Validation:
    """Measure whole networks, int [N, L], against the table's sums."""
    from scipy.stats import spearmanr

    predicted, measured = _sums_and_wholes(space, table, architectures, device, settings)
    errors = np.abs(predicted - measured) / measured
    rank = spearmanr(predicted, measured).statistic if len(measured) > 2 else np.nan
    return {
        "num_networks": len(measured),
        "spearman": None if np.isnan(rank) else round(float(rank), 4),
        "mean_relative_error": round(float(errors.mean()), 4),
        "max_relative_error": round(float(errors.max()), 4),
        "bias": round(float((predicted / measured).mean()), 4),
        "predicted_ms": [round(v, 4) for v in predicted.tolist()],
        "measured_ms": [round(v, 4) for v in measured.tolist()],
    }


def rank_note(spearman: float | None) -> str:
    """A warning where the sums rank whole networks badly; else nothing."""
    if spearman is None or spearman >= TRUSTED:
        return ""
    return (
        f"the sums rank whole networks at a correlation of {spearman:.2f}, below {TRUSTED}: a "
        f"latency budget is rough here; measure on an idle machine, or raise --latency-seconds"
    )


def latency_rows(
    space: SearchSpace,
    table: LookupTable,
    budget: Budget,
    answer: np.ndarray,
    device: torch.device,
    settings: LatencySettings,
) -> dict[str, str]:
    """State the error of the additive model: rows for the summary of a run.

    Args:
        budget: whose networks are measured, CHECKED of them, where the table is of this device.
        answer: the architecture [L] found, measured too.
    """
    known = table.sources.get("latency")
    if known is None:
        return {}
    here = source(device, settings)
    if any(known.get(key) != value for key, value in here.items()):
        stated = known.get("exactness") or "its error on whole networks is not known"
        return {"latency table": f"{known.get('device', known.get('file'))}; {stated}"}
    others = budget.sample(CHECKED - 1, np.random.default_rng(0))
    found = validate(space, table, np.vstack([answer, others]), device, settings)
    predicted, measured = found["predicted_ms"][0], found["measured_ms"][0]
    spearman = found["spearman"]
    rows = {
        "latency, measured": f"{measured:.3f} ms of the whole network, {predicted:.3f} ms by the "
        f"table ({predicted / measured - 1:+.0%})",
        "latency model": f"over {found['num_networks']} networks: rank correlation "
        f"{'undefined' if spearman is None else f'{spearman:.2f}'}, mean error "
        f"{found['mean_relative_error']:.0%}, sum / whole {found['bias']:.2f}",
    }
    if note := rank_note(spearman):
        rows["latency warning"] = note
    return rows


def load_latency(
    space: SearchSpace,
    table: LookupTable,
    device: torch.device,
    settings: LatencySettings,
    cache_dir: Path | None,
) -> LookupTable:
    """`measure_latency`, or what it gave before for this space, device and settings."""
    if cache_dir is None:
        return measure_latency(space, table, device, settings)
    key = {**source(device, settings), "fingerprint": space.fingerprint, "space": space.name}
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:20]
    path = Path(cache_dir) / f"latency_{digest}.yaml"
    try:
        known = read_user_table(path, space, table)
        stored = known.sources["latency"]
        if all(stored.get(k) == v for k, v in source(device, settings).items()):
            return known
    except (ValueError, OSError, KeyError):
        pass  # not measured yet, or damaged
    table = measure_latency(space, table, device, settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, user_table_text(space, table, "latency"))
    return table
