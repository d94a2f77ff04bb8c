"""Flags of compare_runs.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from config_file.arg_config.fields import flag
from config_file.arg_config.types import path


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    title: ClassVar[str] = "options"

    runs: tuple[Path, ...] = flag(
        (), path, "folders of runs; runs/* takes all", "RUN", nargs="+", positional=True
    )
    metric: str = flag(
        "flops",
        str,
        "cost on the plot's x axis: flops, params, latency, or another that the runs recorded",
    )
    csv: Path = flag(Path("comparison.csv"), path, "table to write")
    plot: Path = flag(Path("comparison.png"), path, "plot to write")
