"""Flags of what a supernet is trained on: samplers, architecture parameters, hardware loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from config_file.arg_config.fields import flag, switch
from config_file.arg_config.types import betas, integer, number, one_of

SAMPLERS = ("uniform", "fair", "softmax", "gumbel", "binary", "threshold")
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
    "log": 0.1,  # Single-Path NAS's code
    "log_ratio": 0.6,  # FBNet; ProxylessNAS's code: 0.3
    "multiplicative": 0.07,  # MnasNet
}
BY_SAMPLER = "(default: recipe, or %(default)s)"


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    title: ClassVar[str] = "sampling"

    sample_strategy: str | None = flag(
        None,
        one_of(SAMPLE_STRATEGIES),
        "what a step trains; differentiable is softmax, or threshold where the space is a "
        "superkernel (default: uniform, or differentiable for that search strategy)",
        "{" + ",".join((*SAMPLERS, "differentiable")) + "}",
    )
    sample_in_budget: bool = switch(
        False, "of uniform: only architectures within --min-hc to --target-hc, uniformly"
    )
    sandwich: bool = switch(
        False,
        "of uniform, for superkernels: also the largest, which teaches, and the smallest",
    )
    checkpoint_activations: bool = switch(
        False,
        "of softmax and soft gumbel: compute choices twice, keep little of them in memory",
    )


@dataclass(frozen=True, kw_only=True)
class AlphaConfig:
    title: ClassVar[str] = "architecture parameters"

    a_optimizer: str = flag(
        "sgd",
        ("sgd", "adam"),
        f"of architecture parameters; published searches use adam {BY_SAMPLER}",
    )
    a_lr: float = flag(
        0.05,
        number(0, open_low=True),
        "constant rate; published with adam: 0.0003 (DARTS), 0.001 (ProxylessNAS), 0.01 (FBNet) "
        f"{BY_SAMPLER}",
        "F",
    )
    a_weight_decay: float = flag(
        0.0004,
        number(0),
        f"pulls towards 0; published: 0.001 (DARTS), 0 (ProxylessNAS) {BY_SAMPLER}",
        "F",
    )
    a_momentum: float = flag(0.9, number(0, 0.9999), "of sgd", "F")
    a_betas: tuple[float, float] = flag(
        (0.5, 0.999),
        betas,
        "of adam (default: recipe, or DARTS's 0.5,0.999; ProxylessNAS: 0,0.999)",
        "F,F",
    )
    a_warmup_epochs: int = flag(
        None,
        integer(0),
        "epochs that train only the weights, without the constraint (default: recipe, or a fifth "
        "of --epochs)",
        "N",
    )
    a_every: int = flag(1, integer(1), "weight steps per architecture step; ProxylessNAS: 5", "N")
    one_level: bool = switch(
        False,
        "architecture parameters learn from the training batches too, as in Single-Path NAS; "
        "validation images then train nothing (default: off: from the validation images, as DARTS)",
    )
    indicator_dropout: float = flag(
        0.0,
        number(0, 0.99),
        "of threshold: chance of each gate to be closed in warm-up steps; Single-Path NAS: 0.4 "
        "(default: recipe, or 0)",
        "F",
    )
    hc_loss: str = flag(
        "l2",
        tuple(HC_WEIGHTS),
        "penalty that pulls the expected cost E towards --target-hc T: CE + w (E - T)^2, in "
        "millions or ms; CE + w |E/T - 1|; one-sided; signed (ProxylessNAS); CE + w log E "
        "(Single-Path NAS); CE (log E / log T)^w (FBNet, ProxylessNAS); CE (E/T)^w (after MnasNet) "
        f"{BY_SAMPLER}",
    )
    hc_weight: float = flag(
        None,
        number(0),
        "w above; 0 is none (default: recipe, or the loss's own: "
        + ", ".join(f"{name} {weight:g}" for name, weight in HC_WEIGHTS.items())
        + ")",
        "F",
    )


@dataclass(frozen=True, kw_only=True)
class GumbelConfig:
    title: ClassVar[str] = "gumbel"

    gumbel_hard: bool = switch(
        False, "one choice per layer forward, the soft weights backward (straight-through)"
    )
    gumbel_sampled_gradient: bool = switch(
        False,
        "of hard: compute sampled choices only; cheaper architecture steps, biased gradient",
    )
    temperature_init: float = flag(
        5.0, number(0, open_low=True), "temperature of the first epoch", "F"
    )
    temperature_final: float = flag(
        0.09,
        number(0, open_low=True),
        "temperature of the last epoch: FBNet's 5 * 0.956^epoch reaches it after 90",
        "F",
    )
    temperature_decay: float = flag(
        None,
        number(0, 1, open_low=True),
        "its factor per epoch (default: from --temperature-init to --temperature-final over "
        "--epochs)",
        "F",
    )


def check_sampling(
    sampling: SamplingConfig,
    alpha: AlphaConfig,
    gumbel: GumbelConfig,
    epochs: int,
    space: str,
    superkernel: bool,
) -> None:
    """Raises ValueError naming the first flag that does not go with the (resolved) sampler."""
    strategy = sampling.sample_strategy
    if superkernel and strategy in WEIGHTED_SUMS:
        raise ValueError(
            f"--sample-strategy {strategy}: {space} is a superkernel, whose choices share one "
            f"kernel and have no outputs of their own to weigh; take threshold, uniform or fair"
        )
    if not superkernel and strategy == "threshold":
        raise ValueError(
            f"--sample-strategy threshold: {space} is no superkernel, its choices have no norms to "
            f"compare; take {', '.join(WEIGHTED_SUMS)}"
        )
    forms = {"--sample-in-budget": sampling.sample_in_budget, "--sandwich": sampling.sandwich}
    for name, given in forms.items():
        if given and strategy != "uniform":
            raise ValueError(f"{name} is a form of --sample-strategy uniform, not of {strategy}")
    if sampling.sandwich and not superkernel:
        raise ValueError(f"--sandwich needs a superkernel: the choices of {space} have no order")
    if sampling.sandwich and sampling.sample_in_budget:
        raise ValueError(
            "--sandwich trains the largest and the smallest path, which --sample-in-budget rules "
            "out; take one of them"
        )
    sums = strategy == "softmax" or (strategy == "gumbel" and not gumbel.gumbel_hard)
    if sampling.checkpoint_activations and not sums:
        raise ValueError(
            f"--checkpoint-activations is for sums of all choices (softmax, soft gumbel); "
            f"{strategy} keeps the activations of one path anyway"
        )
    if gumbel.gumbel_sampled_gradient and not gumbel.gumbel_hard:
        raise ValueError("--gumbel-sampled-gradient needs --gumbel-hard: else nothing is sampled")
    if alpha.indicator_dropout and strategy != "threshold":
        raise ValueError(f"--indicator-dropout closes the gates of threshold; {strategy} has none")
    if strategy in DIFFERENTIABLE and alpha.a_warmup_epochs >= epochs:
        raise ValueError(
            f"--a-warmup-epochs {alpha.a_warmup_epochs} leaves none of {epochs} epochs to train "
            f"the architecture; lower it"
        )
