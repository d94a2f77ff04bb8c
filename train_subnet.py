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
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
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
from supernet import fit_to_data, load_data, save_splits, set_threads, supernet_facts
from utils import ranks
from utils.acceleration import Precision, compile_blocks, uncompile_blocks
from utils.checkpoint import load_checkpoint
from utils.device import pick_device, seed_everything, tune_malloc
from utils.draw import plot_confusion
from utils.environment import note_environment
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

    def __init__(
        self, net: Subnet, splits: Splits, config: SubnetConfig, writer: SummaryWriter
    ) -> None:
        self.net = net
        self.splits = splits
        self.writer = writer
        self.objective = build_objective(config, splits.num_classes, splits.train.device)
        self.averaged = None
        if decay := config.regularisation.ema_decay:
            average = get_ema_multi_avg_fn(decay)
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
        epoch.write(self.writer, "loss", "top1", "lr")
        self.validate(epoch.done)
        best = f"{self.best['top1']:.2f} %"
        return {"loss": f"{epoch.loss:.3f}", "best validation top-1": best}


def train(
    net: Subnet,
    splits: Splits,
    config: SubnetConfig,
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
    task = SubnetTask(net, splits, config, writer)
    run = Optimisation(net, decay_groups(net), loader, config.training)
    stateful = {"subnet": net, **run.stateful(), "loader": loader}
    stateful |= {"averaged": task.averaged} if task.averaged is not None else {}
    parts = [net.stem, net.first, *net.layers, net.head]
    blocks = {str(i): block for i, block in enumerate(parts)} if config.training.compile else {}
    compile_blocks(blocks)
    last = folder / "last.pt"
    file = TrainingFile(
        last,
        "subnet",
        facts,
        plain(config),
        stateful,
        extra=lambda: {"averaged": {}, "best": task.best},
    )

    def save_best(done: int) -> None:
        file.write(run, done, 0, loader.state_dict(), folder / "best.pt")

    task.save_best = save_best
    state = file.read()
    if state is not None:
        task.best = state["best"]
    elif config.init_from:
        task.validate(0)
        file.write(run, 0, 0, loader.state_dict(), last)
        log.info(f"weights of {config.init_from}: validation top-1 {task.best['top1']:.2f} %")
    fit(task, run, loader, config.training.epochs, file, state, "training")
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
    config = fit_to_data(config, splits)
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
    note_environment(folder, device, run.config)
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
