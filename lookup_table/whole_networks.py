"""Whole networks, measured, against the sums of their blocks: the error of the latency model.

A block that is timed by itself finds its weights in the cache, so sums tend to be too low by one
factor, which `corrected` fits. Rank correlations say how far a budget can be trusted. N networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np
import torch

from lookup_table.budget import Budget
from lookup_table.counts import BudgetCounts
from lookup_table.equivalence import Equivalence
from lookup_table.latency import RESOLUTION, LatencySettings, measure_latency, source, time_modules
from lookup_table.table import LookupTable
from model.space import SearchSpace
from model.subnet import Subnet
from model.supernet import IN_CHS

TRUSTED = 0.9  # rank correlation below which a log says so
CHECKED = 12  # networks that the end of a run measures
CORRECTION_SEED = 1  # other networks than those of seed 0, which errors are stated of


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


def sums_and_wholes(
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

    predicted, measured = sums_and_wholes(space, table, architectures, device, settings)
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
    table = budget.counts.table
    known = table.sources.get("latency")
    if known is None:
        return {}
    here = source(device, settings)
    if any(known.get(key) != value for key, value in here.items()):
        return {"latency table": f"{known.get('device', known.get('file'))}; {_exactness(known)}"}
    others = budget.sample(CHECKED - 1, np.random.default_rng(0))
    found = validate(space, table, np.vstack([answer, others]), device, settings)
    predicted, measured = found["predicted_ms"][0], found["measured_ms"][0]
    rows = {
        "latency, measured": f"{measured:.3f} ms of the whole network, {predicted:.3f} ms by the "
        f"table ({predicted / measured - 1:+.0%})",
        "latency model": _validation_text(found),
    }
    if note := rank_note(found["spearman"]):
        rows["latency warning"] = note
    return rows


def _exactness(facts: Mapping[str, Any]) -> str:
    """State how well a table of another device or setting predicts whole networks."""
    if "validation" in facts:
        return _validation_text(facts["validation"])
    return facts.get("exactness") or "its error on whole networks is not known"


def _validation_text(found: Mapping[str, Any]) -> str:
    spearman = found["spearman"]
    return (
        f"over {found['num_networks']} networks: rank correlation "
        f"{'undefined' if spearman is None else f'{spearman:.2f}'}, mean error "
        f"{found['mean_relative_error']:.0%}, sum / whole {found['bias']:.2f}"
    )


def random_networks(space: SearchSpace, table: LookupTable, number: int, seed: int) -> np.ndarray:
    """Draw different networks uniformly, int [N, L], each by the code that represents it."""
    budget = Budget(BudgetCounts(table, table.metrics[0], Equivalence(space)), None, None)
    return budget.sample_unique(number, np.random.default_rng(seed))


@torch.random.fork_rng(devices=[])
def corrected(
    space: SearchSpace, table: LookupTable, device: torch.device, settings: LatencySettings
) -> LookupTable:
    """Scale all latencies by the median of whole / sum over `settings.correction` networks."""
    networks = random_networks(space, table, settings.correction, CORRECTION_SEED)
    predicted, measured = sums_and_wholes(space, table, networks, device, settings)
    factor = float(np.median(measured / predicted))
    costs = np.rint(table.costs["latency"] * factor / RESOLUTION).astype(np.int64) * RESOLUTION
    fixed = round(table.fixed["latency"] * factor / RESOLUTION) * RESOLUTION
    facts = {**table.sources["latency"], "correction_factor": round(factor, 4)}
    return table.with_metric("latency", costs, fixed, "ms", facts)


def measure_blocks(
    space: SearchSpace, table: LookupTable, device: torch.device, settings: LatencySettings
) -> LookupTable:
    """Add the metric latency to a table, corrected if the settings say so."""
    table = measure_latency(space, table, device, settings)
    return corrected(space, table, device, settings) if settings.correction else table
