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

from config_file.arg_config.fields import answer_help
from config_file.arg_config.subnet_config import SubnetConfig
from utils.startup import wait_without_spinning

if __name__ == "__main__":  # before the imports that take seconds
    answer_help(SubnetConfig, __doc__)
    wait_without_spinning()

import time
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.tensorboard import SummaryWriter

from config_file.arg_config.fields import changed, plain
from config_file.arg_config.sources import load_config, write_config
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
    config: SubnetConfig,
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
    objective = build_objective(config, splits.num_classes, loader.device)
    averaged = None
    if config.regularisation.ema_decay:
        averaged = AveragedModel(
            net,
            multi_avg_fn=get_ema_multi_avg_fn(config.regularisation.ema_decay),
            use_buffers=True,
        )
    optimizer = build_optimizer(
        config.training.optimizer,
        decay_groups(net),
        config.training.lr,
        config.training.momentum,
        config.training.weight_decay,
    )
    scheduler = build_scheduler(
        optimizer,
        config.training.lr_scheduler,
        config.training.epochs,
        len(loader),
        config.training.warmup_epochs,
        config.training.decay_step,
        config.training.decay_ratio,
    )
    stateful = {"subnet": net, "optimizer": optimizer, "scheduler": scheduler, "loader": loader}
    stateful |= {"averaged": averaged} if averaged is not None else {}
    precision = Precision(config.training.amp, loader.device)
    if precision.scales:
        stateful["scaler"] = precision.scaler
    parts = [net.stem, net.first, *net.layers, net.head]
    blocks = {str(i): block for i, block in enumerate(parts)} if config.training.compile else {}
    compile_blocks(blocks)
    last, best, state = folder / "last.pt", {"top1": -1.0, "loss": 0.0}, None
    first = skip = 0  # epochs that are done, and steps of the next one
    meter, guard = Meter(loader.device), LossGuard(config.training.on_nan, loader.device)

    def save(path: Path, epoch: int, step: int, loader_state: dict) -> None:
        guard.flush()
        states = {name: thing.state_dict() for name, thing in stateful.items()}
        states = {"averaged": {}, **states, "loader": loader_state, "meter": meter.state_dict()}
        states |= {"best": best, "epoch": epoch, "step": step}
        save_checkpoint(path, "subnet", **states, facts=facts, config=plain(config))

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
        log.info(f"{first} of {config.training.epochs} epochs{steps} are done")
        if skip:
            meter.load_state_dict(state["meter"])
    elif config.init_from:
        validate(0)
        log.info(f"weights of {config.init_from}: validation top-1 {best['top1']:.2f} %")

    done_before = first * len(loader) + skip
    bar = progress_bar(config.training.epochs * len(loader), "training", "step", done_before)
    parameters = list(net.parameters())
    with deferred() as signals:
        for epoch in range(first, config.training.epochs):
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
                if config.training.grad_clip:
                    norm = nn.utils.clip_grad_norm_(parameters, config.training.grad_clip)
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
                f"epoch {epoch + 1} of {config.training.epochs}: loss {loss_value:.3f}, "
                f"best validation top-1 {best['top1']:.2f} %"
            )
    bar.close()
    uncompile_blocks(blocks)


def finish(net: Subnet, splits: Splits, dataset: str, folder: Path) -> tuple[dict, Scores]:
    """Take the best epoch's weights and test them, the only use of the test set."""
    best = load_checkpoint(folder / "best.pt", "subnet")["best"]
    load_trained(net, folder / "best.pt")
    test = evaluate(net, splits.test, splits.num_classes)
    if splits.num_classes <= 100:
        title = f"{folder.name} on {dataset}: test top-1 {test.top1:.2f} %"
        plot_confusion(folder / "confusion.png", test.confusion.numpy(), splits.classes, title)
    return best, test


def use(config: SubnetConfig, device: torch.device) -> None:
    """--benchmark and --evaluate: no training, no run folder."""
    if config.use.benchmark:
        space, architecture = load_architecture(config.arch, config.data.input_size)
        net = Subnet(space, architecture).to(device, memory_format=torch.channels_last)
        table, batch = load_table(space, config.run.cache_dir), config.data.eval_batch_size
        log.info(benchmark_text(net, architecture, table, space.input_size, batch, device))
    if config.use.evaluate:
        splits = load_data(
            config.run, config.data, device, config.training.batch_size, config.augment
        )
        space, architecture = load_architecture(
            config.arch, config.data.input_size, splits.num_classes
        )
        net = Subnet(space, architecture).to(device, memory_format=torch.channels_last)
        load_trained(net, config.use.evaluate)
        for name, part in (("validation", splits.validation), ("test", splits.test)):
            scores = evaluate(net, part, splits.num_classes)
            log.info(
                f"{name}: top-1 {scores.top1:.2f} %, loss {scores.loss:.4f}, {scores.images} images"
            )
        save_files(net, splits, config.use, weights=None)


@user_errors
def main() -> None:
    start_log()
    config = load_config(SubnetConfig, __doc__)
    run, data = config.run, config.data
    start_log(quiet=run.quiet)
    if config.list_architectures:
        print(published_text())
        return
    check_exports(config.use.export_onnx, config.use.export_torch)
    tune_malloc()
    device = pick_device(run.device)
    seed_everything(run.random_seed)
    if not config.trains:
        use(config, device)
        return

    check_run_folder(run.run_dir, run.title, run.resume)
    splits = load_data(run, data, device, config.training.batch_size, config.augment)
    arch = run.run_dir / run.title / "best_architecture.yaml" if run.resume else config.arch
    space, architecture = load_architecture(arch, data.input_size, splits.num_classes)
    table = load_table(space, run.cache_dir)
    resumed = run.resume and (arch.parent / "last.pt").exists()
    facts = supernet_facts(data, space)
    net = new_network(space, architecture, splits, config, facts, resumed)
    threads = set_threads(run.threads, net, config.training.batch_size, data.input_size)
    config = changed(config, threads=threads)
    facts["arch"] = space.decode(architecture)
    folder = make_run_folder(run.run_dir, run.title, run.resume, f"subnet_{data.dataset}")
    start_log(folder, quiet=run.quiet)
    known = {"dataset": data.dataset, "source": f"train_subnet.py --arch {config.arch}"}
    if not run.resume:
        save_architecture(folder, space, architecture, table, known)
        write_config(folder / "config.yaml", config)
    save_splits(folder, splits)
    macs = in_millions(int(table.cost(architecture, "flops")))
    log.info(
        f"run folder {folder}, device {device}{threads_text(device)}, {macs} M MACs at "
        f"{space.input_size} px"
    )

    start = time.perf_counter()
    hint = f"--batch-size {config.training.batch_size}: lower it, or --input-size"
    with SummaryWriter(str(folder / "tensorboard")) as writer, memory_hint(hint):
        train(net, splits, config, facts, folder, writer)
        if not ranks.is_main():
            return
        spent = clock(time.perf_counter() - start)
        best, test = finish(net, splits, data.dataset, folder)
        writer.add_scalar("test/top1", test.top1, config.training.epochs)
    known |= {"top1": best["top1"], "test_top1": test.top1}
    save_architecture(folder, space, architecture, table, known)
    write_card(folder, space, architecture, table, splits, config, best, test)
    save_files(net, splits, config.use, folder / "weights.safetensors")
    log.info(
        f"test top-1 {test.top1:.2f} %, validation {best['top1']:.2f} % (epoch {best['epoch']}); "
        f"trained in {spent}; see {folder / 'README.md'}"
    )


if __name__ == "__main__":
    main()
