"""From flags to a sampler, and to what trains the architecture parameters of one that has some."""

from __future__ import annotations

from argparse import Namespace

import torch
from torch.utils.tensorboard import SummaryWriter

from data import Loader
from lookup_table import Budget
from lookup_table.knapsack import most_probable
from model import SearchSpace, Supernet
from sampler import (
    SAMPLERS,
    ArchitectureSampler,
    GumbelSampler,
    SandwichSampler,
    ThresholdSampler,
    UniformSampler,
)
from search_strategy import ArchitectureTraining, HardwareLoss
from search_strategy.convergence import network_text
from utils import distributed
from utils.device import SAMPLER_STREAM, stream
from utils.plots import probability_map
from utils.run_folder import log

LOGGED = {  # of the summary -> what the log calls it
    "expected_over_target": "E/T",
    "ce": "CE",
    "constraint": "constraint",
    "gradient_norm": "gradient norm",
}


def build_sampler(args: Namespace, supernet: Supernet, budget: Budget | None):
    """The sampler of --sample-strategy. `budget` is for --sample-in-budget."""
    num_choices = supernet.space.num_choices
    rng = stream(args.random_seed, SAMPLER_STREAM)
    if args.sandwich:
        return SandwichSampler(supernet.space, rng)
    if args.sample_strategy == "gumbel":
        return GumbelSampler(num_choices, rng, args.gumbel_hard, args.gumbel_sampled_gradient)
    if args.sample_strategy == "threshold":
        return ThresholdSampler(supernet, num_choices, rng, args.indicator_dropout)
    if args.sample_strategy in (None, "uniform"):
        return UniformSampler(num_choices, rng, budget.sample if args.sample_in_budget else None)
    return SAMPLERS[args.sample_strategy](num_choices, rng)


def build_architecture_training(
    args: Namespace,
    sampler: ArchitectureSampler,
    supernet: Supernet,
    loader: Loader,
    budget: Budget,
) -> ArchitectureTraining:
    """What trains the architecture parameters on the batches of `loader`."""
    alpha, decay = [sampler.alpha], args.a_weight_decay
    if args.a_optimizer == "adam":
        optimizer = torch.optim.Adam(alpha, args.a_lr, betas=args.a_betas, weight_decay=decay)
    else:
        optimizer = torch.optim.SGD(alpha, args.a_lr, args.a_momentum, weight_decay=decay)
    counts = budget.counts
    target = None if args.target_hc is None else budget.high
    hardware = HardwareLoss(counts.table, counts.metric, target, args.hc_loss, args.hc_weight)
    return ArchitectureTraining(
        sampler,
        supernet,
        loader,
        optimizer,
        hardware,
        args.a_warmup_epochs,
        lambda epoch: args.temperature_init * args.temperature_decay**epoch,
        args.checkpoint_activations,
        distributed.average_gradients,
        args.a_every,
        args.one_level,
    )


def write_architecture(
    architecture: ArchitectureTraining,
    budget: Budget,
    space: SearchSpace,
    writer: SummaryWriter,
    done: int,
) -> None:
    """Log and TensorBoard after `done` epochs: numbers, the network read off now, a heat map."""
    numbers = architecture.summary()
    for tag, value in numbers.items():
        writer.add_scalar(f"arch/{tag}", value, done)
    sampler = architecture.sampler
    probabilities = sampler.probabilities().detach().double().numpy()
    network = network_text(space, budget.counts, most_probable(probabilities, budget))
    writer.add_text("arch/network", network, done)
    parts = [f"{numbers['entropy_share']:.1%} of uniform entropy"]
    for name, label in LOGGED.items():
        if name in numbers:
            parts.append(f"{label} {numbers[name]:.3g}")
    log.info(f"epoch {done}: {', '.join(parts)}; now {network}")
    figure = probability_map(probabilities, sampler.num_choices)
    writer.add_figure("arch/probabilities", figure, done)
