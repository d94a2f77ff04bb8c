"""Flags of the training of weights: what supernets and subnets have in common."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from config_file.arg_config.fields import BY_RECIPE, flag, switch
from config_file.arg_config.types import count, integer, number, positive

OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
CLIP = 5.0  # gradient norm
LR_SCHEDULERS = ("cosine", "step", "linear")


@dataclass(frozen=True, kw_only=True)
class RecipeConfig:
    title: ClassVar[str] = "training"

    epochs: int = flag(None, count, marks=[BY_RECIPE])
    batch_size: int = flag(None, integer(2), "images per step", marks=[BY_RECIPE])
    optimizer: str = flag(None, OPTIMIZERS, marks=[BY_RECIPE])
    lr: float = flag(None, positive, "peak learning rate", marks=[BY_RECIPE])
    momentum: float = flag(
        0.9, number(0, 0.9999), "of sgd and rmsprop; first beta of adam(w)", marks=[BY_RECIPE]
    )
    nesterov: bool = switch(True, "sgd's momentum looks ahead")
    rmsprop_alpha: float = flag(0.99, number(0, 0.99999), "rmsprop's decay of the mean square")
    rmsprop_eps: float = flag(1e-8, positive, "what rmsprop adds to the mean square's root")
    weight_decay: float = flag(None, number(0), marks=[BY_RECIPE])
    decay_all: bool = switch(True, "decay batch norms and biases too, not kernels only")
    lr_scheduler: str = flag("cosine", LR_SCHEDULERS, "per step")
    decay_step: float = flag(30.0, positive, "of step: epochs between decays; may be fractional")
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
    grad_clip: float | None = flag(CLIP, number(0), "gradient norm; 0 is none")
    on_nan: str = flag(
        "stop",
        ("stop", "skip"),
        "a step whose loss is NaN or infinite: stop there, or leave the step out",
    )

    @property
    def idle_flags(self) -> set[str]:
        """Names of the flags that the optimiser and the schedule have no use for."""
        idle = set() if self.lr_scheduler == "step" else {"decay_step", "decay_ratio"}
        if self.optimizer != "sgd" or self.momentum == 0:
            idle.add("nesterov")
        return idle if self.optimizer == "rmsprop" else idle | {"rmsprop_alpha", "rmsprop_eps"}

    def problems(self, typed: frozenset[str]) -> Iterator[str]:
        """Yield what does not go together; a recipe's warm-up may fill a shorter training."""
        if "warmup_epochs" in typed and 0 < self.epochs <= self.warmup_epochs:
            yield (
                f"--warmup-epochs {self.warmup_epochs} leaves none of {self.epochs} epochs at the "
                "full rate; lower it"
            )
