"""Flags of what a supernet is trained on: samplers, architecture parameters, hardware loss."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, BooleanOptionalAction, Namespace
from typing import TYPE_CHECKING

from config_file.arg_config.names import HC_LOSSES, SAMPLERS
from config_file.arg_config.types import integer, number, one_of
from search_strategy import STRATEGIES

if TYPE_CHECKING:
    from model import SearchSpace

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
WEIGHTED_SUMS = ("softmax", "gumbel", "binary")
DIFFERENTIABLE = (*WEIGHTED_SUMS, "threshold")
BY_SAMPLER = "(default: recipe, or %(default)s)"
SAMPLER_SECTIONS = (*SAMPLERS, "gumbel-hard")  # whose settings a recipe may hold apart
SAMPLING_GROUP = "sampling"
ARCHITECTURE_GROUP = "architecture parameters"
GUMBEL_GROUP = "gumbel"
SAMPLING_GROUPS = (SAMPLING_GROUP, ARCHITECTURE_GROUP, GUMBEL_GROUP)


def betas(text: str) -> list[float]:
    """Two comma-separated numbers in [0, 1)."""
    try:
        values = [number(0, 0.999999)(part) for part in text.split(",")]
    except ArgumentTypeError:
        values = []
    if len(values) != 2:
        raise ArgumentTypeError(f"{text!r} is not two numbers from 0 to below 1 such as 0.5,0.999")
    return values


def add_sampling_flags(parser: ArgumentParser) -> None:
    group = parser.add_argument_group(SAMPLING_GROUP)
    group.add_argument(
        "--sample-strategy",
        type=one_of(SAMPLE_STRATEGIES),
        metavar="{" + ",".join((*SAMPLERS, "differentiable")) + "}",
        help="what a step trains; differentiable is softmax, or threshold where the space is a "
        "superkernel (default: uniform, or differentiable for that search strategy)",
    )
    group.add_argument(
        "--sample-in-budget",
        action=BooleanOptionalAction,
        default=False,
        help="of uniform: only architectures within --min-hc to --target-hc, uniformly",
    )
    group.add_argument(
        "--sandwich",
        action=BooleanOptionalAction,
        default=False,
        help="of uniform, for superkernels: also the largest, which teaches, and the smallest",
    )
    group.add_argument(
        "--checkpoint-activations",
        action=BooleanOptionalAction,
        default=False,
        help="of softmax and soft gumbel: compute choices twice, keep little of them in memory",
    )
    add_architecture_flags(parser)
    group = parser.add_argument_group(GUMBEL_GROUP)
    group.add_argument(
        "--gumbel-hard",
        action=BooleanOptionalAction,
        default=False,
        help="one choice per layer forward, the soft weights backward (straight-through)",
    )
    group.add_argument(
        "--gumbel-sampled-gradient",
        action=BooleanOptionalAction,
        default=False,
        help="of hard: compute sampled choices only; cheaper architecture steps, biased gradient",
    )
    group.add_argument(
        "--temperature-init",
        type=number(0, open_low=True),
        default=5.0,
        metavar="F",
        help="temperature of the first epoch",
    )
    group.add_argument(
        "--temperature-final",
        type=number(0, open_low=True),
        default=0.09,
        metavar="F",
        help="temperature of the last epoch: FBNet's 5 * 0.956^epoch reaches it after 90",
    )
    group.add_argument(
        "--temperature-decay",
        type=number(0, 1, open_low=True),
        metavar="F",
        help="its factor per epoch (default: from --temperature-init to --temperature-final over "
        "--epochs)",
    )


def add_architecture_flags(parser: ArgumentParser) -> None:
    group = parser.add_argument_group(ARCHITECTURE_GROUP)
    group.add_argument(
        "--a-optimizer",
        choices=("sgd", "adam"),
        default="sgd",
        help=f"of architecture parameters; published searches use adam {BY_SAMPLER}",
    )
    group.add_argument(
        "--a-lr",
        type=number(0, open_low=True),
        default=0.05,
        metavar="F",
        help="constant rate; published with adam: 0.0003 (DARTS), 0.001 (ProxylessNAS), 0.01 "
        f"(FBNet) {BY_SAMPLER}",
    )
    group.add_argument(
        "--a-weight-decay",
        type=number(0),
        default=0.0004,
        metavar="F",
        help=f"pulls towards 0; published: 0.001 (DARTS), 0 (ProxylessNAS) {BY_SAMPLER}",
    )
    group.add_argument(
        "--a-momentum", type=number(0, 0.9999), default=0.9, metavar="F", help="of sgd"
    )
    group.add_argument(
        "--a-betas",
        type=betas,
        default=[0.5, 0.999],
        metavar="F,F",
        help="of adam (default: recipe, or DARTS's 0.5,0.999; ProxylessNAS: 0,0.999)",
    )
    group.add_argument(
        "--a-warmup-epochs",
        type=integer(0),
        metavar="N",
        help="epochs that train only the weights, without the constraint (default: recipe, or a "
        "fifth of --epochs)",
    )
    group.add_argument(
        "--a-every",
        type=integer(1),
        default=1,
        metavar="N",
        help="weight steps per architecture step; ProxylessNAS: 5",
    )
    group.add_argument(
        "--one-level",
        action=BooleanOptionalAction,
        default=False,
        help="architecture parameters learn from the training batches too, as in Single-Path NAS; "
        "validation images then train nothing (default: off: from the validation images, as DARTS)",
    )
    group.add_argument(
        "--indicator-dropout",
        type=number(0, 0.99),
        default=0.0,
        metavar="F",
        help="of threshold: chance of each gate to be closed in warm-up steps; Single-Path NAS: "
        "0.4 (default: recipe, or 0)",
    )
    group.add_argument(
        "--hc-loss",
        choices=HC_LOSSES,
        default="l2",
        help="penalty that pulls the expected cost E towards --target-hc T: CE + w (E - T)^2, in "
        "millions or ms; CE + w |E/T - 1|; one-sided; signed (ProxylessNAS); CE + w log E "
        "(Single-Path NAS); CE (log E / log T)^w (FBNet, ProxylessNAS); CE (E/T)^w (after MnasNet) "
        f"{BY_SAMPLER}",
    )
    group.add_argument(
        "--hc-weight",
        type=number(0),
        metavar="F",
        help="w above; 0 is none (default: recipe, or the loss's own: "
        + ", ".join(f"{name} {weight:g}" for name, weight in HC_WEIGHTS.items())
        + ")",
    )


def reads_prior(args: Namespace) -> bool:
    """True if the search needs the architecture parameters that a sampler has trained."""
    name = getattr(args, "search_strategy", None)  # train_supernet.py has none
    return name is not None and STRATEGIES[name].needs_prior


def sampler_section(args: Namespace) -> str | None:
    """The name under which a recipe holds settings of the sampler that a run trains with.

    Raises:
        ValueError: the search space is not usable.
    """
    if getattr(args, "checkpoint", None):
        return None  # nothing is trained
    strategy = args.sample_strategy
    if strategy is None and reads_prior(args):
        strategy = "differentiable"
    if strategy == "differentiable":
        from model.space_file import load_space_file  # lazily, as it loads torch

        superkernel = load_space_file(args.search_space)["supernet"] == "superkernel"
        strategy = "threshold" if superkernel else "softmax"
    return "gumbel-hard" if strategy == "gumbel" and args.gumbel_hard else strategy


def resolve_sampling(args: Namespace, space: SearchSpace) -> None:
    """Fill in what depends on the space and on other flags; for a run that trains a supernet.

    Raises:
        ValueError: flags that make no sense together; the message says why.
    """
    if args.sample_strategy is None:
        args.sample_strategy = "differentiable" if reads_prior(args) else "uniform"
    superkernel = space.supernet == "superkernel"
    if args.sample_strategy == "differentiable":
        args.sample_strategy = "threshold" if superkernel else "softmax"
    if args.a_warmup_epochs is None:
        args.a_warmup_epochs = args.epochs // 5
    if args.hc_weight is None:
        args.hc_weight = HC_WEIGHTS[args.hc_loss]
    if args.temperature_decay is None:
        ratio = min(1.0, args.temperature_final / args.temperature_init)
        args.temperature_decay = ratio ** (1 / max(1, args.epochs - 1))
    check_sampling(args, space.name, superkernel)
    if reads_prior(args) and args.sample_strategy not in DIFFERENTIABLE:
        raise ValueError(
            f"--search-strategy {args.search_strategy}: --sample-strategy {args.sample_strategy} "
            f"trains no architecture parameters; take {', '.join(DIFFERENTIABLE)}, or another "
            f"search"
        )


def check_sampling(args: Namespace, space: str, superkernel: bool) -> None:
    """Raises ValueError naming the first flag that does not go with the sample strategy."""
    strategy = args.sample_strategy
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
    needs_uniform = {"--sample-in-budget": args.sample_in_budget, "--sandwich": args.sandwich}
    for flag, given in needs_uniform.items():
        if given and strategy != "uniform":
            raise ValueError(f"{flag} is a form of --sample-strategy uniform, not of {strategy}")
    if args.sandwich and not superkernel:
        raise ValueError(f"--sandwich needs a superkernel: the choices of {space} have no order")
    if args.sandwich and args.sample_in_budget:
        raise ValueError(
            "--sandwich trains the largest and the smallest path, which --sample-in-budget rules "
            "out; take one of them"
        )
    sums = strategy == "softmax" or (strategy == "gumbel" and not args.gumbel_hard)
    if args.checkpoint_activations and not sums:
        raise ValueError(
            f"--checkpoint-activations is for sums of all choices (softmax, soft gumbel); "
            f"{strategy} keeps the activations of one path anyway"
        )
    if args.gumbel_sampled_gradient and not args.gumbel_hard:
        raise ValueError("--gumbel-sampled-gradient needs --gumbel-hard: else nothing is sampled")
    if args.indicator_dropout and strategy != "threshold":
        raise ValueError(f"--indicator-dropout closes the gates of threshold; {strategy} has none")
    if strategy in DIFFERENTIABLE and args.a_warmup_epochs >= args.epochs:
        raise ValueError(
            f"--a-warmup-epochs {args.a_warmup_epochs} leaves none of {args.epochs} epochs to "
            f"train the architecture; lower it"
        )


def idle_groups(args: Namespace) -> set[str]:
    """Groups of flags without effect in this run."""
    if getattr(args, "checkpoint", None):
        return set(SAMPLING_GROUPS)
    idle = set() if args.sample_strategy in DIFFERENTIABLE else {ARCHITECTURE_GROUP}
    return idle if args.sample_strategy == "gumbel" else {*idle, GUMBEL_GROUP}
