"""Flags of what a supernet is trained on: samplers, architecture parameters, hardware loss."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from config_file.arg_config.fields import BY_RECIPE, flag, switch
from config_file.arg_config.names import SAMPLERS
from config_file.arg_config.types import betas, count, epochs_or_share, number, one_of, positive

WEIGHTED_SUMS = ("softmax", "gumbel", "binary")
DIFFERENTIABLE = (*WEIGHTED_SUMS, "threshold")
SAMPLE_STRATEGIES = {
    **{name: name for name in SAMPLERS},
    "strict_fair": "fair",
    "differentiable": "differentiable",  # softmax, or a superkernel's threshold
}
HC_WEIGHTS = {  # of each --hc-loss where --hc-weight is not given
    "l2": 0.005,
    "abs": 1.0,
    "hinge": 1.0,
    "linear": 0.1,  # ProxylessNAS's code
    "log": 0.1,  # not Single-Path NAS's, whose code has 1,000 lambda: 20 in its README
    "log_ratio": 0.6,  # FBNet; ProxylessNAS's code: 0.3, of single MACs
    "multiplicative": 0.07,  # MnasNet
}


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    title: ClassVar[str] = "sampling"

    sample_strategy: str | None = flag(
        None,
        one_of(SAMPLE_STRATEGIES),
        f"what a step trains: {', '.join(SAMPLERS)}; differentiable is softmax, or threshold where "
        "the space is a superkernel (default: uniform; of differentiable search hard gumbel, or "
        "threshold)",
        "NAME",
    )
    sample_in_budget: bool = switch(
        False, "of uniform: only architectures within --min-hc to --target-hc, uniformly"
    )
    sample_bins: int = flag(
        1,
        count,
        "of --sample-in-budget: bins of equal width between --min-hc and --target-hc; one is drawn "
        "uniformly, then an architecture in it (SPOS's code: 7)",
    )
    sandwich: bool = switch(
        False, "of uniform, for superkernels: also the largest, which teaches, and the smallest"
    )
    checkpoint_activations: bool = switch(
        False, "of softmax and soft gumbel: compute choices twice, keep little of them in memory"
    )

    def resolve(self, needs_alpha: bool, superkernel: bool) -> SamplingConfig:
        """Fill in the sampler by its own name.

        Args:
            needs_alpha: architecture parameters must be trained.
        """
        strategy = self.sample_strategy
        if strategy == "differentiable" or (strategy is None and needs_alpha):
            weighted = "softmax" if strategy else "gumbel"  # hard; see docs/results.md
            strategy = "threshold" if superkernel else weighted
        return replace(self, sample_strategy=strategy or "uniform")


@dataclass(frozen=True, kw_only=True)
class AlphaConfig:
    title: ClassVar[str] = "architecture parameters"

    a_optimizer: str = flag(
        "sgd",
        ("sgd", "adam"),
        "of architecture parameters; published searches use adam",
        marks=[BY_RECIPE],
    )
    a_lr: float = flag(
        0.05,
        positive,
        "constant rate; published with adam: 0.0003 (DARTS), 0.001 (ProxylessNAS), 0.01 (FBNet)",
        marks=[BY_RECIPE],
    )
    a_weight_decay: float = flag(
        0.0004,
        number(0),
        "pulls towards 0; published: 0.001 (DARTS), 0.0005 (FBNet), 0 (ProxylessNAS)",
        marks=[BY_RECIPE],
    )
    a_momentum: float = flag(0.9, number(0, 0.9999), "of sgd")
    a_betas: tuple[float, float] = flag(
        (0.5, 0.999),
        betas,
        "of adam (default: recipe, or DARTS's 0.5,0.999; ProxylessNAS: 0,0.999)",
    )
    a_warmup_epochs: float = flag(
        0.2,
        epochs_or_share,
        "epochs that train only the weights, without the constraint; below 1 a share of --epochs, "
        "rounded down",
        marks=[BY_RECIPE],
    )
    weight_paths: str = flag(
        "never",
        ("never", "warm-up", "always"),
        "of softmax and soft gumbel: when weight steps train one path each, drawn from the "
        "probabilities, instead of the sum of all choices",
        marks=[BY_RECIPE],
    )
    a_every: int = flag(
        1, count, "weight steps per architecture step; ProxylessNAS: 5", marks=[BY_RECIPE]
    )
    one_level: bool = switch(
        False,
        "architecture parameters learn from the training batches too, as in Single-Path NAS; "
        "validation images then train nothing (default: off: from the validation images, as DARTS)",
    )
    indicator_dropout: float = flag(
        0.0,
        number(0, 0.99),
        "of threshold: chance of each gate to be closed in warm-up steps; Single-Path NAS: 0.4",
        marks=[BY_RECIPE],
    )
    binary_gates: str = flag(
        "two",
        ("two", "all"),
        "of binary: gates whose gradients an architecture step takes, those of two drawn choices "
        "(ProxylessNAS, the paper) or all, from the outputs of all (its code's default)",
        marks=[BY_RECIPE],
    )
    hc_loss: str = flag(
        "l2",
        tuple(HC_WEIGHTS),
        "penalty that pulls the expected cost E towards --target-hc T: CE + w (E - T)^2, in "
        "millions or ms; CE + w |E/T - 1|; one-sided; signed (ProxylessNAS); CE + w log E "
        "(Single-Path NAS); CE (log E / log T)^w (FBNet, ProxylessNAS); CE (E/T)^w (after MnasNet)",
        marks=[BY_RECIPE],
    )
    hc_weight: float = flag(
        None,
        number(0),
        "w above; 0 is none (default: recipe, or the loss's own: "
        + ", ".join(f"{name} {weight:g}" for name, weight in HC_WEIGHTS.items())
        + ")",
    )

    def idle(self, target: bool) -> set[str]:
        """Return names of the (resolved) flags without effect; `target`: the cost has one."""
        idle = {"a_momentum" if self.a_optimizer == "adam" else "a_betas"}
        idle |= set() if target or self.hc_loss == "log" else {"hc_loss", "hc_weight"}
        if not self.a_warmup_epochs:
            idle |= {"indicator_dropout"}
            idle |= {"weight_paths"} if self.weight_paths == "warm-up" else set()
        return idle

    def resolve(self, epochs: int) -> AlphaConfig:
        """Fill in the warm-up of a training of so many epochs, and the weight of the loss."""
        warmup, weight = self.a_warmup_epochs, self.hc_weight
        if warmup < 1:
            warmup = round(warmup * epochs, 6)  # 0.7 * 10 is 7, not 6.999...
        return replace(
            self,
            a_warmup_epochs=int(warmup),
            hc_weight=HC_WEIGHTS[self.hc_loss] if weight is None else weight,
        )


@dataclass(frozen=True, kw_only=True)
class GumbelConfig:
    title: ClassVar[str] = "gumbel"

    gumbel_hard: bool | None = switch(
        None,
        "one choice per layer forward, the soft weights backward (straight-through; default: off, "
        "on where differentiable search is given no --sample-strategy)",
    )
    gumbel_sampled_gradient: bool = switch(
        False, "of hard: compute sampled choices only; cheaper architecture steps, biased gradient"
    )
    temperature_init: float = flag(
        5.0, positive, "temperature of the first epoch", marks=[BY_RECIPE]
    )
    temperature_final: float = flag(
        0.09,
        positive,
        "temperature of the last epoch: FBNet's 5 * 0.956^epoch reaches it after 90",
        marks=[BY_RECIPE],
    )
    temperature_decay: float = flag(
        None,
        number(0, 1, True),
        "its factor per epoch (default: from --temperature-init to --temperature-final over "
        "--epochs)",
    )

    def resolve(self, epochs: int, typed: frozenset[str]) -> GumbelConfig:
        """Fill in the decay that reaches the final temperature in the last of so many epochs.

        A typed final temperature takes the place of a file's decay.
        """
        if self.temperature_decay is not None and "temperature_final" not in typed:
            return self
        ratio = self.temperature_final / self.temperature_init
        return replace(self, temperature_decay=ratio ** (1 / max(1, epochs - 1)))

    def problems(self, typed: frozenset[str]) -> Iterator[str]:
        """Yield what is wrong with the (resolved) temperatures."""
        if {"temperature_decay", "temperature_final"} <= typed:
            yield "--temperature-decay and --temperature-final say the same; leave one out"
        if self.temperature_decay > 1:
            yield (
                f"--temperature-final {self.temperature_final:g} is above --temperature-init "
                f"{self.temperature_init:g}, but temperatures fall; set both"
            )
