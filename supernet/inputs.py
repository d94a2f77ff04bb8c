"""From flags to the inputs of a run: images, space, costs, budget, a supernet to train."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from config_file.arg_config.budget_config import BudgetConfig, LatencyConfig
from config_file.arg_config.data_config import (
    NO_AUGMENTATION,
    AugmentConfig,
    DataConfig,
    SpaceConfig,
)
from config_file.arg_config.fields import changed
from config_file.arg_config.run_config import RunConfig
from config_file.arg_config.supernet_config import SupernetCommand, SupernetConfig
from data import Splits, load_splits
from lookup_table import Budget, BudgetCounts, LookupTable
from lookup_table.builder import load_costs
from lookup_table.latency import LatencySettings
from lookup_table.table import MILLION
from lookup_table.user_table import user_table_text
from model import SearchSpace, Supernet, build_supernet, load_space
from model.supernet import align_choices, still_statistics
from utils import distributed, ranks
from utils.checkpoint import check_facts, load_checkpoint, restore
from utils.files import atomic_path, write_text
from utils.run_folder import log
from utils.threads import pick_threads, usable_cpus

TABLE_FILE = "lookup_table.yaml"  # in a run folder
C = TypeVar("C", bound=SupernetCommand)
PROBE_IMAGES = 64  # of a step that is timed, at most


def load_data(
    run: RunConfig,
    data: DataConfig,
    device: torch.device,
    batch_size: int = 2,
    augment: AugmentConfig = NO_AUGMENTATION,
) -> Splits:
    """Load the dataset's splits; batch size and augmentation are those of training images."""
    return load_splits(
        data,
        augment,
        batch_size,
        run.random_seed,
        device,
        run.cache,
        ranks.rank(),
        ranks.world_size(),
    )


def load_inputs(
    run: RunConfig,
    space: SpaceConfig,
    data: DataConfig,
    device: torch.device,
    batch_size: int = 2,
    augment: AugmentConfig = NO_AUGMENTATION,
) -> tuple[Splits, SearchSpace]:
    """The dataset's splits on the device, and the space at its input size and class count."""
    splits = load_data(run, data, device, batch_size, augment)
    made = load_space(space.search_space, data.input_size, splits.num_classes, space.widths)
    return splits, made


def save_splits(folder: Path, splits: Splits) -> None:
    """Write splits.npz of a run; of one that is resumed, check that its images are still there."""
    path = folder / "splits.npz"
    if path.exists():
        splits.check(path)
        return
    with atomic_path(path) as temporary:
        splits.save(temporary)


def new_supernet(
    training: SupernetConfig,
    data: DataConfig,
    space: SearchSpace,
    device: torch.device,
    begun: bool = False,
) -> Supernet:
    """A supernet with starting weights, on the device.

    Args:
        begun: the weights of a checkpoint will replace those of --init-from.

    Raises:
        ValueError: --init-from does not fit.
    """
    supernet = build_supernet(space)
    if training.supernet_init == "aligned":
        align_choices(supernet)
    if training.init_from and not begun:
        facts = supernet_facts(data, space)
        del facts["input_size"], facts["fingerprint"]  # other images; the weights tell if they fit
        load_supernet(training.init_from, supernet, facts)
    supernet = supernet.to(device, memory_format=torch.channels_last)
    return distributed.synchronise_batch_norms(supernet, device) if training.sync_bn else supernet


def set_threads(
    threads: int | str, net: nn.Module, batch_size: int, input_size: int, *path: np.ndarray
) -> int | str:
    """Apply --threads where `net` is on the CPU; `auto` becomes a number, by timed steps.

    Args:
        net: called as net(images, *path), on the device; it is left as it was.
    """
    device = next(net.parameters()).device
    if device.type != "cpu":
        return threads
    if threads == "auto":
        size = min(batch_size // ranks.world_size(), PROBE_IMAGES), 3, input_size, input_size
        images = torch.linspace(-1, 1, math.prod(size)).view(size)  # draws no random numbers
        images = images.contiguous(memory_format=torch.channels_last)

        def step() -> None:
            net(images, *path).square().mean().backward()
            net.zero_grad()

        with still_statistics(net), torch.random.fork_rng(devices=[]):  # dropout draws
            threads = distributed.from_main(pick_threads(step, usable_cpus()))
    torch.set_num_threads(int(threads))
    return threads


def load_supernet(path: Path, supernet: Supernet, facts: dict) -> dict:
    """Load the weights of a checkpoint that agrees with `facts`; all of its content.

    Raises:
        ValueError: it is damaged, of another supernet, or had other images to train on.
    """
    state = load_checkpoint(path)
    check_facts(path, state["facts"], facts)
    restore(path, state, {"supernet": supernet})
    size = state["facts"]["input_size"]
    log.info(f"supernet: {path}, {state['epoch']} epochs at {size} px")
    return state


def supernet_facts(data: DataConfig, space: SearchSpace) -> dict:
    """What a checkpoint must agree on with the run that uses it."""
    return {
        "search_space": space.name,
        "dataset": data.dataset,
        "train_portion": data.train_portion,  # else the search would validate on training images
        "input_size": space.input_size,
        "num_classes": space.num_classes,
        "widths": list(space.widths),
        "fingerprint": space.fingerprint,
    }


def build_costs(
    space: SearchSpace,
    metrics: Sequence[str],
    latency: LatencyConfig,
    run: RunConfig,
    device: torch.device,
) -> LookupTable:
    """The lookup table with the metrics; of a resumed run, the same one."""
    path = latency.lookup_table
    if run.resume and run.folder and (run.folder / TABLE_FILE).exists():
        path = run.folder / TABLE_FILE
    settings = LatencySettings(
        batch_size=latency.latency_batch_size,
        threads=latency.latency_threads,
        seconds=latency.latency_seconds,
    )
    table = load_costs(space, metrics, run.cache, path, device, settings)
    return distributed.from_main(table)  # a latency that each rank measured would be another


def save_costs(config: C, folder: Path, space: SearchSpace, table: LookupTable) -> C:
    """Write numbers that cannot be counted again to the run folder; the config that names them."""
    if not table.sources or config.run.resume:
        return config
    path = folder / TABLE_FILE
    write_text(path, user_table_text(space, table, next(iter(table.sources))))
    return changed(config, lookup_table=path)


def resolve_budget(budget: BudgetConfig, counts: BudgetCounts) -> Budget:
    """The budget in single MACs or params.

    Raises:
        ValueError: no architecture is inside.
    """
    limits = (budget.min_hc, budget.target_hc)
    return Budget(counts, *(None if hc is None else round(float(hc) * MILLION) for hc in limits))
