"""Flags of the training of weights: what supernets and subnets have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from config_file.arg_config.data_config import BY_DATASET
from config_file.arg_config.fields import flag, switch
from config_file.arg_config.types import integer, number

OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
LR_SCHEDULERS = ("cosine", "step", "linear")


@dataclass(frozen=True, kw_only=True)
class RecipeConfig:
    title: ClassVar[str] = "training"

    epochs: int = flag(None, integer(1), f"({BY_DATASET})", "N")
    batch_size: int = flag(None, integer(2), f"images per step ({BY_DATASET})", "N")
    optimizer: str = flag(None, OPTIMIZERS, f"({BY_DATASET})")
    lr: float = flag(None, number(0, open_low=True), f"peak learning rate ({BY_DATASET})", "F")
    momentum: float = flag(
        0.9,
        number(0, 0.9999),
        "of sgd (Nesterov) and rmsprop; first beta of adam(w) (default: recipe, or 0.9)",
        "F",
    )
    weight_decay: float = flag(None, number(0), f"({BY_DATASET})", "F")
    lr_scheduler: str = flag("cosine", LR_SCHEDULERS, "per step")
    decay_step: int = flag(30, integer(1), "of step: epochs between decays", "N")
    decay_ratio: float = flag(
        0.1, number(0, 1, open_low=True), "of step: factor of each decay", "F"
    )
    warmup_epochs: int = flag(None, integer(0), f"linear warm-up ({BY_DATASET})", "N")
    label_smoothing: float = flag(None, number(0, 0.99), f"({BY_DATASET})", "F")
    amp: str = flag(
        "off",
        ("off", "bf16", "fp16"),
        "mixed precision of forward and backward passes; pays on GPUs",
    )
    compile: bool = switch(
        False, "compile each block at its first use: a slow start, then faster steps"
    )
    grad_clip: float = flag(5.0, number(0), "gradient norm; 0 is none", "F")
    on_nan: str = flag(
        "stop",
        ("stop", "skip"),
        "a step whose loss is NaN or infinite: stop there, or leave the step out",
    )
