"""Flags of the training of weights: what supernets and subnets have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from config_file.arg_config.fields import BY_RECIPE, flag, switch
from config_file.arg_config.types import count, integer, number, positive

OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
LR_SCHEDULERS = ("cosine", "step", "linear")


@dataclass(frozen=True, kw_only=True)
class RecipeConfig:
    title: ClassVar[str] = "training"

    epochs: int = flag(None, count, marks=[BY_RECIPE])
    batch_size: int = flag(None, integer(2), "images per step", marks=[BY_RECIPE])
    optimizer: str = flag(None, OPTIMIZERS, marks=[BY_RECIPE])
    lr: float = flag(None, positive, "peak learning rate", marks=[BY_RECIPE])
    momentum: float = flag(
        0.9,
        number(0, 0.9999),
        "of sgd (Nesterov) and rmsprop; first beta of adam(w)",
        marks=[BY_RECIPE],
    )
    weight_decay: float = flag(None, number(0), marks=[BY_RECIPE])
    lr_scheduler: str = flag("cosine", LR_SCHEDULERS, "per step")
    decay_step: int = flag(30, count, "of step: epochs between decays")
    decay_ratio: float = flag(0.1, number(0, 1, True), "of step: factor of each decay")
    warmup_epochs: int = flag(None, integer(0), "linear warm-up", marks=[BY_RECIPE])
    label_smoothing: float = flag(None, number(0, 0.99), marks=[BY_RECIPE])
    amp: str = flag(
        "off",
        ("off", "bf16", "fp16"),
        "mixed precision of forward and backward passes; pays on GPUs",
    )
    compile: bool = switch(
        False, "compile each block at its first use: a slow start, then faster steps"
    )
    grad_clip: float = flag(5.0, number(0), "gradient norm; 0 is none")
    on_nan: str = flag(
        "stop",
        ("stop", "skip"),
        "a step whose loss is NaN or infinite: stop there, or leave the step out",
    )
