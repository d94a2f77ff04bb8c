"""Train a supernet alone.

python train_supernet.py                                  # proxylessnas on the embedded digits
python train_supernet.py --search-space fbnet --dataset cifar10 --title fbnet_c10
python train_supernet.py --title fbnet_c10 --resume       # go on after an interruption
python search.py --checkpoint runs/fbnet_c10/supernet.pt  # search it
"""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from pathlib import Path

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from config_file.arg_config.layers import config_values, parse, write_config
from config_file.arg_config.supernet_config import supernet_parser
from data import Loader, Splits, load_splits
from model import SearchSpace, Supernet, build_supernet, load_space
from model.initialization import align_choices
from sampler import SAMPLERS
from utils.checkpoint import check_facts, load_checkpoint, restore_generators, save_checkpoint
from utils.device import (
    SAMPLER_STREAM,
    keep_freed_memory,
    pick_device,
    seed_everything,
    stream,
)
from utils.errors import user_errors
from utils.optim import build_optimizer, build_scheduler
from utils.run_folder import check_run_folder, log, make_run_folder, start_log
from utils.timing import Meter


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
    )


def load_inputs(args: Namespace, device: torch.device) -> tuple[Splits, SearchSpace]:
    """The dataset's splits on the device, and the space at its input size and class count."""
    splits = load_data(args, device)
    space = load_space(args.search_space, args.input_size, splits.num_classes, args.widths)
    return splits, space


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


def train(
    supernet: Supernet,
    loader: Loader,
    args: Namespace,
    config: dict,
    path: Path,
    writer: SummaryWriter,
) -> None:
    """Train a supernet in place and leave its checkpoint at `path`, written after every epoch.

    A checkpoint that is there already is gone on with: weights, optimiser, schedule, and all
    random states are as they were, so the result is that of an uninterrupted run.

    Raises:
        ValueError: the checkpoint is damaged or of another supernet; the loss is not finite.
    """
    facts = supernet_facts(args, supernet.space)
    device = loader.device
    sampler = SAMPLERS[args.sample_strategy](
        supernet.space.num_choices, stream(args.random_seed, SAMPLER_STREAM)
    )
    optimizer = build_optimizer(
        args.optimizer, supernet.parameters(), args.lr, args.momentum, args.weight_decay
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
        "sampler": sampler,
        "loader": loader,
    }
    first = 0
    if path.exists():
        state = load_checkpoint(path)
        check_facts(path, state["facts"], facts)
        for name, thing in stateful.items():
            thing.load_state_dict(state[name])
        restore_generators(state)
        first = state["epoch"]
        log.info(f"supernet: {first} of {args.epochs} epochs are done")

    criterion = nn.CrossEntropyLoss(label_smoothing=args.label_smoothing)
    bar = tqdm(
        total=args.epochs * len(loader),
        initial=first * len(loader),
        desc="supernet",
        unit="step",
        dynamic_ncols=True,
        mininterval=0.5,
    )
    for epoch in range(first, args.epochs):
        supernet.train()
        meter, start = Meter(device), time.perf_counter()
        for images, labels in loader:
            optimizer.zero_grad(set_to_none=True)  # what no path used is not decayed either
            for path_choices in sampler.step_paths():
                logits = supernet(images, path_choices)
                loss = criterion(logits, labels)
                loss.backward()
                meter.update(loss, logits, labels)
            if args.grad_clip:
                nn.utils.clip_grad_norm_(supernet.parameters(), args.grad_clip)
            optimizer.step()
            scheduler.step()
            bar.update()
        loss_value, top1 = meter.read()
        rate = meter.images / (time.perf_counter() - start)
        if not torch.isfinite(torch.tensor(loss_value)):
            raise ValueError(
                f"the loss became {loss_value} in epoch {epoch + 1}; lower --lr, or set --grad-clip"
            )
        done = epoch + 1
        for tag, value in {
            "train/loss": loss_value,
            "train/top1": top1,
            "train/lr": scheduler.get_last_lr()[0],
            "train/images_per_s": rate,
        }.items():
            writer.add_scalar(tag, value, done)
        bar.set_postfix(epoch=f"{done}/{args.epochs}", loss=f"{loss_value:.3f}", top1=f"{top1:.1f}")
        states = {name: thing.state_dict() for name, thing in stateful.items()}
        save_checkpoint(path, **states, epoch=done, facts=facts, config=config)
    bar.close()


@user_errors
def main() -> None:
    start_log()
    parser = supernet_parser(__doc__)
    args = parse(parser, sys.argv[1:])
    check_run_folder(args.run_dir, args.title, args.resume)
    keep_freed_memory()
    device = pick_device(args.device)
    seed_everything(args.random_seed)
    splits, space = load_inputs(args, device)

    name = f"supernet_{Path(args.search_space).stem}_{args.dataset}"
    folder = make_run_folder(args.run_dir, args.title, args.resume, name)
    start_log(folder)
    config = config_values(parser, args)
    if not args.resume:
        write_config(folder / "config.yaml", config)
    log.info(f"run folder {folder}, device {device}")
    with SummaryWriter(str(folder / "tensorboard")) as writer:
        supernet = new_supernet(args, space, device)
        train(supernet, splits.train, args, config, folder / "supernet.pt", writer)
    log.info(f"search it: python search.py --checkpoint {folder / 'supernet.pt'}")


if __name__ == "__main__":
    main()
