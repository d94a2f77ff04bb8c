"""Flags of how candidates are scored on a supernet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from config_file.arg_config.fields import BY_RECIPE, flag
from config_file.arg_config.types import count, integer


def calibration_batches_flag(whose: str) -> int:
    return flag(None, count, f"batches that estimate {whose} BN statistics", marks=[BY_RECIPE])


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    title: ClassVar[str] = "evaluation"

    calibration_batches: int = calibration_batches_flag("a candidate's")
    eval_precision: str = flag(
        "fp32",
        ("fp32", "bf16"),
        "of convolutions and activations; bf16 is faster where the hardware has it, and may swap "
        "candidates whose scores are close",
    )
    score: str = flag(
        "top1",
        ("top1", "probability"),
        "what candidates are chosen by; probability: the mean probability of the true class, which "
        "tells more of few validation images",
    )
    eval_cache_mb: int = flag(
        512,
        integer(0),
        "MiB of activations kept to share work between candidates; less computes more again",
    )
