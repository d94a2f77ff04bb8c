"""Flags of evaluate_ranking.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from config_file.arg_config.data_config import (
    SPACE_AND_DATA,
    DataConfig,
    EvaluationConfig,
    SpaceConfig,
)
from config_file.arg_config.earlier import from_checkpoint
from config_file.arg_config.fields import Values, flag, part
from config_file.arg_config.run_config import THE_RUN, Command, RunConfig
from config_file.arg_config.types import count, integer, numbers, path
from utils.metrics import METRICS


@dataclass(frozen=True, kw_only=True)
class RankingConfig(Command):
    title: ClassVar[str] = "ranking"

    run: RunConfig = part(RunConfig, THE_RUN)
    space: SpaceConfig = part(SpaceConfig)
    data: DataConfig = part(DataConfig, SPACE_AND_DATA)
    checkpoint: tuple[Path, ...] = flag(
        (),
        path,
        "the supernet.pt that ranks; its space and dataset are the defaults; several of one space: "
        "also their mean and spread",
        nargs="+",
    )
    benchmark: Path = flag(
        None, path, "JSON of true accuracies: {digits: {mean_acc, std}}, a digit per layer"
    )
    num_architectures: int | None = flag(
        None, integer(3), "rank so many of the benchmark's networks, drawn at random (default: all)"
    )
    validation_images: int | None = flag(
        None, count, "score on so many validation images, drawn at random (default: all)"
    )
    bootstrap: int = flag(1000, integer(10), "draws per interval")
    info_metric: str = flag("flops", METRICS, "what --budgets limit")
    cost_input_size: int | None = flag(
        None,
        count,
        "image size at which MACs are counted, where a supernet of small images ranks networks for "
        "larger ones (default: --input-size)",
        "PX",
    )
    budgets: tuple[float, ...] | None = flag(
        None,
        numbers,
        "millions within which the choice by score is compared with the best (default: quartiles "
        "of the ranked networks)",
    )
    evaluation: EvaluationConfig = part(EvaluationConfig)

    @classmethod
    def inherited(cls, chosen: Values) -> Values:
        given = chosen.get("checkpoint") or [None]  # a word or a list of words
        first = given[0] if isinstance(given, list) else given
        return from_checkpoint(cls, {**chosen, "checkpoint": first})

    def problems(self) -> Iterator[str]:
        for name, given in (("checkpoint", self.checkpoint), ("benchmark", self.benchmark)):
            if not given:
                yield f"--{name} FILE is missing; see --help"
