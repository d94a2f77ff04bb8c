"""From flags to the inputs of a run: images, space, costs, budget, a supernet to train."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from data import Loader, Splits, load_splits
from data.streaming import StreamingLoader
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
from utils.workers import can_fork

PROBE_IMAGES = 64  # of a step that is timed, at most


def load_data(args: Namespace, device: torch.device) -> Splits:
    """The dataset's splits on the device."""
    return load_splits(
        args.dataset,
        args.data_path,
        args.input_size,
        args.batch_size,
        args.eval_batch_size,
        args.train_portion,
        args.random_seed,
        device,
        args.num_workers,
        args.augment,
        randaugment=args.randaugment,
        cutout=args.cutout,
        pipeline=args.data_pipeline,
        cache_dir=args.cache_dir,
        rank=ranks.rank(),
        world_size=ranks.world_size(),
    )


def load_inputs(args: Namespace, device: torch.device) -> tuple[Splits, SearchSpace]:
    """The dataset's splits on the device, and the space at its input size and class count."""
    splits = load_data(args, device)
    space = load_space(args.search_space, args.input_size, splits.num_classes, args.widths)
    return splits, space


def save_splits(folder: Path, splits: Splits) -> None:
    """Write splits.npz of a run; of one that is resumed, check that its images are still there."""
    path = folder / "splits.npz"
    if path.exists():
        splits.check(path)
        return
    with atomic_path(path) as temporary:
        splits.save(temporary)


def new_supernet(args: Namespace, space: SearchSpace, device: torch.device) -> Supernet:
    """A supernet with starting weights, on the device.

    Raises:
        ValueError: --init-from does not fit.
    """
    supernet = build_supernet(space)
    if args.supernet_init == "aligned":
        align_choices(supernet)
    goes_on = args.resume and (args.run_dir / args.title / "supernet.pt").exists()
    if args.init_from and not goes_on and not getattr(args, "checkpoint", None):
        facts = supernet_facts(args, space)
        del facts["input_size"], facts["fingerprint"]  # other images; the weights tell if they fit
        load_supernet(args.init_from, supernet, facts)
    supernet = supernet.to(device, memory_format=torch.channels_last)
    return distributed.synchronise_batch_norms(supernet, device) if args.sync_bn else supernet


def set_threads(args: Namespace, net: nn.Module, *path: np.ndarray) -> None:
    """Apply --threads; `auto` becomes a number in `args`, by timed steps of `net` on the CPU.

    Args:
        net: called as net(images, *path), on the device; it is left as it was.
    """
    device = next(net.parameters()).device
    if device.type != "cpu":
        return
    if args.threads == "auto":
        size = min(args.batch_size // ranks.world_size(), PROBE_IMAGES), 3, *[args.input_size] * 2
        images = torch.linspace(-1, 1, math.prod(size)).view(size)  # draws no random numbers
        images = images.contiguous(memory_format=torch.channels_last)

        def step() -> None:
            net(images, *path).square().mean().backward()
            net.zero_grad()

        with still_statistics(net), torch.random.fork_rng(devices=[]):  # dropout draws
            args.threads = distributed.from_main(pick_threads(step, usable_cpus()))
    torch.set_num_threads(args.threads)


def scoring_processes(loader: Loader) -> int:
    """Processes that score candidates on the CPUs that threads leave; 1 is this one alone.

    Images that are streamed are decoded by processes already.
    """
    in_memory = loader.device.type == "cpu" and not isinstance(loader, StreamingLoader)
    if not in_memory or ranks.launched() or not can_fork():
        return 1
    return max(1, usable_cpus() // torch.get_num_threads())


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


def supernet_facts(args: Namespace, space: SearchSpace) -> dict:
    """What a checkpoint must agree on with the run that uses it."""
    return {
        "dataset": args.dataset,
        "train_portion": args.train_portion,  # else the search would validate on training images
        "input_size": space.input_size,
        "num_classes": space.num_classes,
        "widths": list(space.widths),
        "fingerprint": space.fingerprint,
    }


def build_costs(
    args: Namespace, space: SearchSpace, device: torch.device, more: Iterable[str] = ()
) -> LookupTable:
    """The lookup table with --info-metric and `more`; of a resumed run, the same one."""
    stored = args.run_dir / (args.title or "") / "lookup_table.yaml"
    if args.resume and stored.exists():
        args.lookup_table = stored
    wanted = {args.info_metric, *more}
    settings = LatencySettings(
        batch_size=args.latency_batch_size,
        threads=args.latency_threads,
        seconds=args.latency_seconds,
    )
    table = load_costs(space, sorted(wanted), args.cache_dir, args.lookup_table, device, settings)
    return distributed.from_main(table)  # a latency that each rank measured would be another


def save_costs(args: Namespace, folder: Path, space: SearchSpace, table: LookupTable) -> None:
    """Numbers that cannot be counted again belong to the run; its config then names them."""
    if table.sources and not args.resume:
        args.lookup_table = folder / "lookup_table.yaml"
        write_text(args.lookup_table, user_table_text(space, table, next(iter(table.sources))))


def resolve_budget(args: Namespace, counts: BudgetCounts) -> Budget:
    """The budget in single MACs or params; `median` becomes a number in `args`.

    Raises:
        ValueError: no architecture is inside.
    """
    if args.target_hc == "median":
        args.target_hc = counts.median / MILLION
    if args.min_hc == "median":
        args.min_hc = counts.median / MILLION
    bounds = [None if hc is None else round(hc * MILLION) for hc in (args.min_hc, args.target_hc)]
    return Budget(counts, *bounds)
