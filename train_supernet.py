"""Train a supernet alone.

python train_supernet.py                                  # proxylessnas on the embedded digits
python train_supernet.py --search-space fbnet --dataset cifar10 --title fbnet_c10
python train_supernet.py --sample-strategy gumbel --target-hc 5 --hc-weight 0.5
python train_supernet.py --title fbnet_c10 --resume       # go on after an interruption
torchrun --nproc_per_node 4 train_supernet.py --dataset cifar10  # see docs/scaling.md
python search.py --checkpoint runs/fbnet_c10/supernet.pt  # search it
"""

from __future__ import annotations

from config_file.arg_config.supernet_config import supernet_parser
from utils.startup import answer_help

if __name__ == "__main__":  # before the imports that take seconds
    answer_help(supernet_parser, __doc__)

import sys
import time
from argparse import Namespace
from pathlib import Path

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from config_file.arg_config.layers import config_values, parse, unused_flags, write_config
from config_file.arg_config.sampling_config import DIFFERENTIABLE, idle_groups, resolve_sampling
from data import Loader, Splits, load_splits
from lookup_table import (
    Budget,
    BudgetCounts,
    LatencySettings,
    LookupTable,
    load_costs,
    user_table_text,
)
from model import SearchSpace, Supernet, build_supernet, load_space
from model.initialization import align_choices
from sampler import (
    SAMPLERS,
    ArchitectureSampler,
    GumbelSampler,
    SandwichSampler,
    ThresholdSampler,
    UniformSampler,
)
from search_strategy import ArchitectureTraining, HardwareLoss
from utils import distributed, ranks
from utils.acceleration import Precision, compile_blocks
from utils.checkpoint import (
    check_facts,
    load_checkpoint,
    restore,
    restore_generators,
    save_checkpoint,
)
from utils.device import (
    SAMPLER_STREAM,
    keep_freed_memory,
    pick_device,
    seed_everything,
    stream,
)
from utils.errors import user_errors
from utils.files import atomic_path, write_text
from utils.finite import LossGuard, mend_batch_norms
from utils.interruption import deferred
from utils.memory import memory_hint
from utils.optim import build_optimizer, build_scheduler
from utils.plan import FirstBatches, check_plan, in_bytes, peak_memory, plan_text, plan_training
from utils.plots import probability_map
from utils.run_folder import check_run_folder, log, make_run_folder, start_log
from utils.timing import Meter

MILLION = 1e6


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


TRAINING_FILES = "config.yaml, log.txt, splits.npz, supernet.pt, tensorboard/"


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
    """A supernet with starting weights, on the device."""
    supernet = build_supernet(space)
    if args.supernet_init == "aligned":
        align_choices(supernet)
    return supernet.to(device, memory_format=torch.channels_last)


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


def build_sampler(args: Namespace, supernet: Supernet, budget: Budget | None):
    """The sampler of --sample-strategy. `budget` is for --sample-in-budget."""
    num_choices = supernet.space.num_choices
    rng = stream(args.random_seed, SAMPLER_STREAM)
    if args.sandwich:
        return SandwichSampler(supernet.space, rng)
    if args.sample_strategy == "gumbel":
        return GumbelSampler(num_choices, rng, args.gumbel_hard, args.gumbel_sampled_gradient)
    if args.sample_strategy == "threshold":
        return ThresholdSampler(supernet, num_choices, rng)
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
    )


def train(
    supernet: Supernet,
    loader: Loader,
    args: Namespace,
    config: dict,
    path: Path,
    writer: SummaryWriter,
    architecture_loader: Loader | None = None,
    budget: Budget | None = None,
) -> None:
    """Train a supernet in place and leave its checkpoint at `path`, written after every epoch.

    A checkpoint that is there already is gone on with: weights, optimiser, schedule, and all
    random states are as they were, so the result is that of an uninterrupted run. SIGTERM and
    Ctrl-C write one in the middle of an epoch, whose first batches are then drawn again and left
    out.

    Args:
        loader, architecture_loader: what the weights and architecture parameters are trained on.
        budget: what --sample-in-budget and a differentiable sampler's hardware loss need.

    Raises:
        ValueError: the checkpoint is damaged or of another supernet; the loss is not finite;
            memory ran out.
        Interrupted: a signal came, and the checkpoint is written.
    """
    facts = supernet_facts(args, supernet.space)
    device = loader.device
    sampler = build_sampler(args, supernet, budget)
    architecture = None
    if isinstance(sampler, ArchitectureSampler):
        architecture = build_architecture_training(
            args, sampler, supernet, architecture_loader, budget
        )
    parameters = list(supernet.parameters())  # listing thousands of them takes milliseconds
    optimizer = build_optimizer(
        args.optimizer, parameters, args.lr, args.momentum, args.weight_decay
    )
    scheduler = build_scheduler(
        optimizer,
        args.lr_scheduler,
        args.epochs,
        len(loader),
        args.warmup_epochs,
        args.decay_step,
        args.decay_ratio,
    )
    stateful = {
        "supernet": supernet,
        "optimizer": optimizer,
        "scheduler": scheduler,
        "sampler": architecture or sampler,
        "loader": loader,
    }
    precision = Precision(args.amp, device)
    if precision.scales:
        stateful["scaler"] = precision.scaler
    if args.compile:
        compile_blocks(supernet.blocks())
    first = skip = 0  # epochs that are done, and steps of the next one
    meter, state = Meter(device), None
    if distributed.from_main(path.exists()):
        state = distributed.from_main(load_checkpoint(path) if path.exists() else None)
        check_facts(path, state["facts"], facts)
        restore(path, state, stateful)
        first, skip = state["epoch"], state.get("step", 0)
        steps = f" and {skip} steps" if skip else ""
        log.info(f"supernet: {first} of {args.epochs} epochs{steps} are done")
        if skip:
            meter.load_state_dict(state["meter"])

    criterion = nn.CrossEntropyLoss(label_smoothing=args.label_smoothing)
    guard, check_path = LossGuard(args.on_nan, device), distributed.PathCheck()
    hint = f"--batch-size {args.batch_size}: lower it, or --input-size or --widths"
    bar = tqdm(
        total=args.epochs * len(loader),
        initial=first * len(loader) + skip,
        desc="supernet",
        unit="step",
        dynamic_ncols=True,
        mininterval=0.5,
    )

    def save(epoch: int, step: int, loader_state: dict) -> None:
        guard.flush()
        states = {name: thing.state_dict() for name, thing in stateful.items()}
        states |= {"loader": loader_state, "meter": meter.state_dict()}
        save_checkpoint(path, **states, epoch=epoch, step=step, facts=facts, config=config)

    with deferred() as signals, memory_hint(hint):
        for epoch in range(first, args.epochs):
            supernet.train()
            if architecture:
                architecture.start_epoch(epoch)
            start, images_before = time.perf_counter(), meter.images
            epoch_start = loader.state_dict()
            batches = iter(loader)
            for _ in range(skip):
                next(batches)
            if state is not None:
                restore_generators(state)
                state = None
            for step, (images, labels) in enumerate(batches, skip + 1):
                optimizer.zero_grad(set_to_none=True)  # what no path used is not decayed either
                seen, target = [], labels
                lr, number = scheduler.get_last_lr()[0], epoch * len(loader) + step
                for route in sampler.step_paths():
                    check_path(route)
                    with precision.autocast():
                        logits = supernet(images, route, checkpoint=args.checkpoint_activations)
                        loss = criterion(logits, target)
                    if architecture:
                        loss = architecture.weight_loss(loss)
                    precision.backward(loss)
                    seen.append((loss, logits, labels, route))
                    if sampler.distills and target is labels:  # the first teaches the others
                        target = logits.detach().softmax(1)
                *losses, stop = distributed.average_gradients(
                    parameters, *(parts[0] for parts in seen), float(signals.asked)
                )
                for loss, parts in zip(losses, seen, strict=True):
                    guard.watch(loss, number, lr, parts[3])
                precision.unscale(optimizer)
                if args.grad_clip:
                    norm = nn.utils.clip_grad_norm_(parameters, args.grad_clip)
                    if not precision.scales:  # fp16 leaves such steps out by itself
                        guard.watch(norm, number, lr, what="gradient norm")
                if guard.keep_step():
                    precision.step(optimizer)
                    for parts in seen:
                        meter.update(*parts[:3])
                else:
                    mend_batch_norms(supernet)
                scheduler.step()
                if architecture:
                    architecture.step(epoch)
                    total = architecture.sampler.alpha.detach().sum()
                    guard.watch(total, number, lr, what="sum of the architecture parameters")
                bar.update()
                if distributed.any_asked(stop, signals.asked, number):
                    save(epoch, step, epoch_start)
                    signals.stop()
            skip = 0
            done = epoch + 1
            guard.flush()
            meter.add_ranks()
            loss_value, top1 = meter.read()
            for tag, value in {
                "train/loss": loss_value,
                "train/top1": top1,
                "train/lr": scheduler.get_last_lr()[0],
                "train/images_per_s": (meter.images - images_before)
                / (time.perf_counter() - start),
            }.items():
                writer.add_scalar(tag, value, done)
            if architecture:
                write_architecture(architecture, writer, done)
            bar.set_postfix(
                epoch=f"{done}/{args.epochs}", loss=f"{loss_value:.3f}", top1=f"{top1:.1f}"
            )
            meter = Meter(device)
            save(done, 0, loader.state_dict())
    bar.close()
    if guard.skipped:
        log.info(f"--on-nan skip: {guard.skipped} of the steps of this start were left out")


def training_plan(
    supernet: Supernet, splits: Splits, args: Namespace, budget: Budget | None
) -> dict[str, str]:
    """What the training will take, by doing some steps of it."""
    short = Namespace(**{**vars(args), "epochs": 1})

    def probe(batches: FirstBatches, folder: Path) -> None:
        path = folder / "supernet.pt"
        with SummaryWriter(str(folder)) as writer:
            train(supernet, batches, short, {}, path, writer, splits.architecture, budget)

    return plan_training(probe, splits.train, args.epochs)


def supernet_rows(supernet: Supernet, device: torch.device) -> dict[str, str]:
    """The last rows of a plan; after the others, so that memory is known."""
    params = sum(p.numel() for p in supernet.parameters())
    return {
        "supernet": f"{params:,} parameters, {in_bytes(4 * params)}",
        "memory": f"about {in_bytes(peak_memory(device))} on {device} (the most of this trial)",
    }


def write_architecture(
    architecture: ArchitectureTraining, writer: SummaryWriter, done: int
) -> None:
    """Numbers and the heat map of the choice probabilities after `done` epochs."""
    for tag, value in architecture.summary().items():
        writer.add_scalar(f"arch/{tag}", value, done)
    sampler = architecture.sampler
    probabilities = sampler.probabilities().detach().numpy()
    figure = probability_map(probabilities, sampler.num_choices)
    writer.add_figure("arch/probabilities", figure, done)


def build_costs(args: Namespace, space: SearchSpace, device: torch.device) -> LookupTable:
    """The lookup table with every metric that the run uses; of a resumed run, the same one."""
    stored = args.run_dir / (args.title or "") / "lookup_table.yaml"
    if args.resume and stored.exists():
        args.lookup_table = stored
    wanted = {args.info_metric}
    if getattr(args, "search_strategy", None) == "pareto":
        wanted |= set(args.objectives)
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


@user_errors
def main() -> None:
    start_log()
    parser = supernet_parser(__doc__)
    args = parse(parser, sys.argv[1:])
    start_log(quiet=args.quiet)
    check_plan(args)
    check_run_folder(args.run_dir, args.title, args.resume)
    keep_freed_memory()
    device = pick_device(args.device)
    seed_everything(args.random_seed)
    splits, space = load_inputs(args, device)
    resolve_sampling(args, space)
    budget = None
    if args.sample_in_budget or args.sample_strategy in DIFFERENTIABLE:
        table = build_costs(args, space, device)
        budget = resolve_budget(args, BudgetCounts(table, args.info_metric))
    if args.dry_run:
        supernet = new_supernet(args, space, device)
        rows = training_plan(supernet, splits, args, budget) | supernet_rows(supernet, device)
        rows["files"] = f"{args.run_dir}/{args.title or '<title>'}/: {TRAINING_FILES}"
        print(plan_text(f"supernet of {space.name} on {args.dataset}", rows))
        return

    name = f"supernet_{Path(args.search_space).stem}_{args.dataset}"
    folder = make_run_folder(args.run_dir, args.title, args.resume, name)
    start_log(folder, quiet=args.quiet)
    if budget is not None:
        save_costs(args, folder, space, table)
    config = config_values(parser, args)
    if not args.resume:
        write_config(folder / "config.yaml", config)
    save_splits(folder, splits)
    log.info(f"run folder {folder}, device {device}")
    idle = idle_groups(args) | ({"budget"} if budget is None else set())
    if unused := unused_flags(parser, sys.argv[1:], idle):
        log.info(f"note: without effect in this run: {', '.join(unused)}")
    with SummaryWriter(str(folder / "tensorboard")) as writer:
        supernet = new_supernet(args, space, device)
        path = folder / "supernet.pt"
        train(supernet, splits.train, args, config, path, writer, splits.architecture, budget)
    log.info(f"search it: python search.py --checkpoint {folder / 'supernet.pt'}")


if __name__ == "__main__":
    main()
