"""Train one architecture, evaluate it, export it.

python train_subnet.py --arch runs/digits/best_architecture.yaml --title digits_net
python train_subnet.py --title digits_net --resume        # go on after an interruption
python train_subnet.py --arch A.yaml --init-from runs/digits/supernet.pt --epochs 0
python train_subnet.py --arch proxyless_mobile --dataset cifar10 --export-onnx net.onnx
python train_subnet.py --arch A.yaml --evaluate runs/digits_net/weights.safetensors
python train_subnet.py --arch fbnet_c --benchmark
python train_subnet.py --list-architectures
torchrun --nproc_per_node 4 train_subnet.py --arch A.yaml --dataset cifar10  # see docs/scaling.md
"""

from __future__ import annotations

from config_file.arg_config.subnet_config import parse_subnet, subnet_parser
from utils.startup import answer_help, wait_without_spinning

if __name__ == "__main__":  # before the imports that take seconds
    answer_help(subnet_parser, __doc__)
    wait_without_spinning()

import sys
import time
from argparse import Namespace
from pathlib import Path

import torch
from config_file.arg_config.layers import config_values, write_config
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.tensorboard import SummaryWriter

from data import Splits
from lookup_table import in_millions
from lookup_table.builder import load_table
from model import Subnet, load_architecture
from subnet.export import check_exports
from subnet.objective import build_objective
from subnet.report import (
    benchmark_text,
    published_text,
    save_architecture,
    save_files,
    write_card,
)
from subnet.weights import load_trained, new_network
from supernet import load_data, save_splits, set_threads, supernet_facts
from utils import distributed, ranks
from utils.acceleration import Precision, compile_blocks, uncompile_blocks
from utils.checkpoint import (
    check_facts,
    load_checkpoint,
    restore,
    restore_generators,
    save_checkpoint,
)
from utils.device import pick_device, seed_everything, tune_malloc
from utils.draw import plot_confusion
from utils.errors import user_errors
from utils.evaluation import Scores, evaluate
from utils.finite import LossGuard, mend_batch_norms
from utils.interruption import deferred
from utils.memory import memory_hint
from utils.optim import build_optimizer, build_scheduler, decay_groups
from utils.progress import progress_bar
from utils.report import clock
from utils.run_folder import check_run_folder, log, make_run_folder, start_log
from utils.threads import threads_text
from utils.timing import Meter


def train(
    net: Subnet,
    splits: Splits,
    args: Namespace,
    config: dict,
    facts: dict,
    folder: Path,
    writer: SummaryWriter,
) -> None:
    """Train a network; last.pt and, at every epoch that validates best so far, best.pt are written.

    What is validated is the average of the weights, with --ema-decay. A last.pt that is there
    already is gone on with, and the result is that of an uninterrupted run. SIGTERM and Ctrl-C
    write one in the middle of an epoch, whose first batches are then drawn again and left out.

    Raises:
        ValueError: the checkpoint is damaged or of another network; the loss is not finite;
            memory ran out.
        Interrupted: a signal came, and last.pt is written.
    """
    loader = splits.train
    objective = build_objective(args, splits.num_classes, loader.device)
    averaged = None
    if args.ema_decay:
        averaged = AveragedModel(
            net, multi_avg_fn=get_ema_multi_avg_fn(args.ema_decay), use_buffers=True
        )
    optimizer = build_optimizer(
        args.optimizer, decay_groups(net), args.lr, args.momentum, args.weight_decay
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
    stateful = {"subnet": net, "optimizer": optimizer, "scheduler": scheduler, "loader": loader}
    stateful |= {"averaged": averaged} if averaged is not None else {}
    precision = Precision(args.amp, loader.device)
    if precision.scales:
        stateful["scaler"] = precision.scaler
    parts = [net.stem, net.first, *net.layers, net.head]
    blocks = {str(i): block for i, block in enumerate(parts)} if args.compile else {}
    compile_blocks(blocks)
    last, best, state = folder / "last.pt", {"top1": -1.0, "loss": 0.0}, None
    first = skip = 0  # epochs that are done, and steps of the next one
    meter, guard = Meter(loader.device), LossGuard(args.on_nan, loader.device)

    def save(path: Path, epoch: int, step: int, loader_state: dict) -> None:
        guard.flush()
        states = {name: thing.state_dict() for name, thing in stateful.items()}
        states = {"averaged": {}, **states, "loader": loader_state, "meter": meter.state_dict()}
        states |= {"best": best, "epoch": epoch, "step": step}
        save_checkpoint(path, "subnet", **states, facts=facts, config=config)

    def validate(done: int) -> None:
        nonlocal best
        used = net if averaged is None else averaged.module
        scores = evaluate(used, splits.validation, splits.num_classes)
        writer.add_scalar("validation/top1", scores.top1, done)
        writer.add_scalar("validation/loss", scores.loss, done)
        better = (scores.top1, -scores.loss) > (best["top1"], -best["loss"])
        if better:
            best = {"top1": scores.top1, "loss": scores.loss, "epoch": done}
        for path in [folder / "best.pt"] * better + [last]:
            save(path, done, 0, loader.state_dict())

    if distributed.from_main(last.exists()):
        state = distributed.from_main(load_checkpoint(last, "subnet") if last.exists() else None)
        check_facts(last, state["facts"], facts)
        restore(last, state, stateful)
        first, skip, best = state["epoch"], state.get("step", 0), state["best"]
        steps = f" and {skip} steps" if skip else ""
        log.info(f"{first} of {args.epochs} epochs{steps} are done")
        if skip:
            meter.load_state_dict(state["meter"])
    elif args.init_from:
        validate(0)
        log.info(f"weights of {args.init_from}: validation top-1 {best['top1']:.2f} %")

    done_before = first * len(loader) + skip
    bar = progress_bar(args.epochs * len(loader), "training", "step", done_before)
    parameters = list(net.parameters())
    with deferred() as signals:
        for epoch in range(first, args.epochs):
            net.train()
            epoch_start, batches = loader.state_dict(), iter(loader)
            for _ in range(skip):
                next(batches)
            if state is not None:
                restore_generators(state)
                state = None
            for step, (images, labels) in enumerate(batches, skip + 1):
                lr, number = scheduler.get_last_lr()[0], epoch * len(loader) + step
                optimizer.zero_grad(set_to_none=True)
                with precision.autocast():
                    loss, logits = objective(net, images, labels)
                precision.backward(loss)
                watched, stop = distributed.average_gradients(
                    parameters, loss, float(signals.asked)
                )
                guard.watch(watched, number, lr)
                precision.unscale(optimizer)
                if args.grad_clip:
                    norm = nn.utils.clip_grad_norm_(parameters, args.grad_clip)
                    if not precision.scales:  # fp16 leaves such steps out by itself
                        guard.watch(norm, number, lr, what="gradient norm")
                if guard.keep_step():
                    precision.step(optimizer)
                    meter.update(loss, logits, labels)
                    if averaged is not None:
                        averaged.update_parameters(net)
                else:
                    mend_batch_norms(net)
                scheduler.step()
                bar.update()
                if distributed.any_asked(stop, signals.asked, number):
                    save(last, epoch, step, epoch_start)
                    signals.stop()
            skip = 0
            guard.flush()
            meter.add_ranks()
            loss_value, top1 = meter.read()
            writer.add_scalar("train/loss", loss_value, epoch + 1)
            writer.add_scalar("train/top1", top1, epoch + 1)
            writer.add_scalar("train/lr", scheduler.get_last_lr()[0], epoch + 1)
            meter = Meter(loader.device)
            validate(epoch + 1)
            bar.set_postfix(loss=f"{loss_value:.3f}", best=f"{best['top1']:.2f}")
            log.info(
                f"epoch {epoch + 1} of {args.epochs}: loss {loss_value:.3f}, best validation top-1 "
                f"{best['top1']:.2f} %"
            )
    bar.close()
    uncompile_blocks(blocks)


def finish(net: Subnet, splits: Splits, args: Namespace, folder: Path) -> tuple[dict, Scores]:
    """Take the best epoch's weights and test them, the only use of the test set."""
    best = load_checkpoint(folder / "best.pt", "subnet")["best"]
    load_trained(net, folder / "best.pt")
    test = evaluate(net, splits.test, splits.num_classes)
    if splits.num_classes <= 100:
        title = f"{folder.name} on {args.dataset}: test top-1 {test.top1:.2f} %"
        plot_confusion(folder / "confusion.png", test.confusion.numpy(), splits.classes, title)
    return best, test


def use(args: Namespace, device: torch.device) -> None:
    """--benchmark and --evaluate: no training, no run folder."""
    if args.benchmark:
        space, architecture = load_architecture(args.arch, args.input_size)
        net = Subnet(space, architecture).to(device, memory_format=torch.channels_last)
        table, batch = load_table(space, args.cache_dir), args.eval_batch_size
        log.info(benchmark_text(net, architecture, table, space.input_size, batch, device))
    if args.evaluate:
        splits = load_data(args, device)
        space, architecture = load_architecture(args.arch, args.input_size, splits.num_classes)
        net = Subnet(space, architecture).to(device, memory_format=torch.channels_last)
        load_trained(net, args.evaluate)
        for name, part in (("validation", splits.validation), ("test", splits.test)):
            scores = evaluate(net, part, splits.num_classes)
            log.info(
                f"{name}: top-1 {scores.top1:.2f} %, loss {scores.loss:.4f}, {scores.images} images"
            )
        save_files(net, splits, args, weights=None)


@user_errors
def main() -> None:
    start_log()
    parser = subnet_parser(__doc__)
    args = parse_subnet(parser, sys.argv[1:])
    start_log(quiet=args.quiet)
    if args.list_architectures:
        print(published_text())
        return
    check_exports(args.export_onnx, args.export_torch)
    tune_malloc()
    device = pick_device(args.device)
    seed_everything(args.random_seed)
    if args.evaluate or args.benchmark:
        use(args, device)
        return

    check_run_folder(args.run_dir, args.title, args.resume)
    splits = load_data(args, device)
    arch = args.run_dir / args.title / "best_architecture.yaml" if args.resume else args.arch
    space, architecture = load_architecture(arch, args.input_size, splits.num_classes)
    table = load_table(space, args.cache_dir)
    resumed = args.resume and (arch.parent / "last.pt").exists()
    facts = supernet_facts(args, space)
    net = new_network(space, architecture, splits, args, facts, resumed)
    set_threads(args, net)
    facts["arch"] = space.decode(architecture)
    folder = make_run_folder(args.run_dir, args.title, args.resume, f"subnet_{args.dataset}")
    start_log(folder, quiet=args.quiet)
    config = config_values(parser, args)
    known = {"dataset": args.dataset, "source": f"train_subnet.py --arch {args.arch}"}
    if not args.resume:
        save_architecture(folder, space, architecture, table, known)
        write_config(folder / "config.yaml", config)
    save_splits(folder, splits)
    macs = in_millions(int(table.cost(architecture, "flops")))
    log.info(
        f"run folder {folder}, device {device}{threads_text(device)}, {macs} M MACs at "
        f"{space.input_size} px"
    )

    start = time.perf_counter()
    hint = f"--batch-size {args.batch_size}: lower it, or --input-size"
    with SummaryWriter(str(folder / "tensorboard")) as writer, memory_hint(hint):
        train(net, splits, args, config, facts, folder, writer)
        if not ranks.is_main():
            return
        spent = clock(time.perf_counter() - start)
        best, test = finish(net, splits, args, folder)
        writer.add_scalar("test/top1", test.top1, args.epochs)
    known |= {"top1": best["top1"], "test_top1": test.top1}
    save_architecture(folder, space, architecture, table, known)
    write_card(folder, space, architecture, table, splits, args, best, test)
    save_files(net, splits, args, folder / "weights.safetensors")
    log.info(
        f"test top-1 {test.top1:.2f} %, validation {best['top1']:.2f} % (epoch {best['epoch']}); "
        f"trained in {spent}; see {folder / 'README.md'}"
    )


if __name__ == "__main__":
    main()
