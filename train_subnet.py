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
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.tensorboard import SummaryWriter

from config_file.arg_config.layers import config_values, write_config
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
from utils import ranks
from utils.acceleration import Precision, compile_blocks, uncompile_blocks
from utils.checkpoint import load_checkpoint
from utils.device import pick_device, seed_everything, tune_malloc
from utils.draw import plot_confusion
from utils.errors import user_errors
from utils.evaluation import Scores, evaluate
from utils.finite import LossGuard
from utils.memory import memory_hint
from utils.optim import decay_groups
from utils.report import clock
from utils.run_folder import check_run_folder, log, make_run_folder, start_log
from utils.threads import threads_text
from utils.training import Epoch, Optimisation, Pass, Step, TrainingFile, fit


class SubnetTask:
    """A network's training step: the objective, then the average of the weights (--ema-decay).

    The average is what is validated; best.pt is written at every epoch that validates best so far:
    by top-1, then by loss.
    """

    def __init__(self, net: Subnet, splits: Splits, args: Namespace, writer: SummaryWriter) -> None:
        self.net = net
        self.splits = splits
        self.writer = writer
        self.objective = build_objective(args, splits.num_classes, splits.train.device)
        self.averaged = None
        if args.ema_decay:
            average = get_ema_multi_avg_fn(args.ema_decay)
            self.averaged = AveragedModel(net, multi_avg_fn=average, use_buffers=True)
        self.best: dict[str, float] = {"top1": -1.0, "loss": 0.0}
        self.save_best: Callable[[int], None] = lambda done: None

    def start_epoch(self, epoch: int) -> None:
        pass

    def backward(self, images: Tensor, labels: Tensor, precision: Precision) -> list[Pass]:
        with precision.autocast():
            loss, logits = self.objective(self.net, images, labels)
        precision.backward(loss)
        return [Pass(loss, logits)]

    def after_step(self, step: Step, guard: LossGuard) -> None:
        if step.kept and self.averaged is not None:
            self.averaged.update_parameters(self.net)

    def validate(self, done: int) -> None:
        """Validate after `done` epochs; write best.pt if it is the best so far."""
        used = self.net if self.averaged is None else self.averaged.module
        scores = evaluate(used, self.splits.validation, self.splits.num_classes)
        self.writer.add_scalar("validation/top1", scores.top1, done)
        self.writer.add_scalar("validation/loss", scores.loss, done)
        if (scores.top1, -scores.loss) > (self.best["top1"], -self.best["loss"]):
            self.best = {"top1": scores.top1, "loss": scores.loss, "epoch": done}
            self.save_best(done)

    def end_epoch(self, epoch: Epoch) -> dict[str, str]:
        for name in ("loss", "top1", "lr"):
            self.writer.add_scalar(f"train/{name}", getattr(epoch, name), epoch.done)
        self.validate(epoch.done)
        best = f"{self.best['top1']:.2f} %"
        return {"loss": f"{epoch.loss:.3f}", "best validation top-1": best}


def train(
    net: Subnet,
    splits: Splits,
    args: Namespace,
    config: dict,
    facts: dict,
    folder: Path,
    writer: SummaryWriter,
) -> None:
    """Train a network, leaving last.pt and best.pt; a last.pt that is there is resumed.

    Raises:
        ValueError: the checkpoint is damaged or of another network; the loss is not finite;
            memory ran out.
        Interrupted: a signal came, and last.pt is written.
    """
    loader = splits.train
    task = SubnetTask(net, splits, args, writer)
    run = Optimisation(net, decay_groups(net), loader, args)
    stateful = {"subnet": net, **run.stateful(), "loader": loader}
    stateful |= {"averaged": task.averaged} if task.averaged is not None else {}
    parts = [net.stem, net.first, *net.layers, net.head]
    blocks = {str(i): block for i, block in enumerate(parts)} if args.compile else {}
    compile_blocks(blocks)
    last = folder / "last.pt"
    file = TrainingFile(
        last, "subnet", facts, config, stateful, extra=lambda: {"averaged": {}, "best": task.best}
    )

    def save_best(done: int) -> None:
        file.write(run, done, 0, loader.state_dict(), folder / "best.pt")

    task.save_best = save_best
    state = file.read()
    if state is not None:
        task.best = state["best"]
    elif args.init_from:
        task.validate(0)
        file.write(run, 0, 0, loader.state_dict(), last)
        log.info(f"weights of {args.init_from}: validation top-1 {task.best['top1']:.2f} %")
    fit(task, run, loader, args.epochs, file, state, "training")
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
