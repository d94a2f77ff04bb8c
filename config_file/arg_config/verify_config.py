"""Flags of train_subnet.py --verify: does a search pay?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from config_file.arg_config.fields import flag
from config_file.arg_config.types import integer, path


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    title: ClassVar[str] = "verification of a search"

    verify: Path | None = flag(
        None,
        path,
        "train the answer of this run of search.py, the largest network of its budget and random "
        "ones of the budget, all from scratch by one recipe, and compare them",
        "RUN",
    )
    random: int = flag(8, integer(2), "random networks that the answer is compared with")
    trainings: int = flag(1, integer(1), "trainings of each network, with seeds of their own")
    truth: Path | None = flag(
        None,
        path,
        "JSON to which the accuracies are added, for evaluate_ranking.py and --oracle (default: "
        "truth.json in the run folder)",
        "FILE",
    )
