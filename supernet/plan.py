"""What --dry-run says of a training and of a search, measured by doing a little of them."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from data import Splits
from lookup_table import Budget
from model import Supernet
from search_strategy.strategy import SearchStrategy
from supernet.training import train
from utils.distributed import SharedScores
from utils.plan import (
    PROBE_CANDIDATES,
    FirstBatches,
    in_bytes,
    peak_memory,
    plan_scoring,
    plan_training,
)
from utils.run_folder import log
from utils.threads import processor, threads_text

TRAINING_FILES = "config.yaml, log.txt, splits.npz, supernet.pt, tensorboard/"
SINGLE_CONTROL = 20  # random candidates that the one architecture of a differentiable search meets


def training_plan(
    supernet: Supernet, splits: Splits, args: Namespace, budget: Budget | None
) -> dict[str, str]:
    """What the training will take, by doing some steps of it."""
    short = Namespace(**{**vars(args), "epochs": 1})

    def probe(batches: FirstBatches, folder: Path) -> None:
        path = folder / "supernet.pt"
        log.disabled = True  # lines of epochs that are none
        with SummaryWriter(str(folder)) as writer:
            train(supernet, batches, short, {}, path, writer, splits.architecture, budget)
        log.disabled = False

    return plan_training(probe, splits.train, args.epochs)


def supernet_rows(supernet: Supernet, device: torch.device) -> dict[str, str]:
    """The last rows of a plan; after the others, so that memory is known."""
    params = sum(p.numel() for p in supernet.parameters())
    return {
        "supernet": f"{params:,} parameters, {in_bytes(4 * params)}",
        "measured on": processor_text(device),
        "memory": f"about {in_bytes(peak_memory(device))} on {device} (the most of this trial)",
    }


def processor_text(device: torch.device) -> str:
    """What a plan's times are of."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device}, {processor()}{threads_text(device)}"


def scoring_plan(
    args: Namespace,
    evaluator: SharedScores,
    strategy: SearchStrategy,
    budget: Budget,
    device: torch.device,
) -> dict[str, str]:
    """How many candidates will be scored, and what that takes by scoring some random ones."""
    number = args.seeds * strategy.total
    if args.random_control and not strategy.is_random:
        number += strategy.total if strategy.total > 1 else SINGLE_CONTROL
    some = budget.sample_unique(PROBE_CANDIDATES, np.random.default_rng(0))
    return plan_scoring(lambda: evaluator(some), len(some), number, device)
