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

import itertools
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import yaml
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.tensorboard import SummaryWriter

from config_file.arg_config.fields import changed, plain, values_of
from config_file.arg_config.sources import load_config, write_config
from config_file.arg_config.start import open_run, record_run
from config_file.arg_config.subnet_config import UseConfig
from data import Splits, load_splits
from lookup_table import METRICS, LookupTable, in_millions
from lookup_table.builder import load_table
from lookup_table.speed import speed_text
from model import (
    Architecture,
    SearchSpace,
    Subnet,
    add_drop_path,
    architecture_facts,
    describe,
    load_architecture,
    save_weights,
    set_dropout,
    zero_residuals,
)
from model.architecture import published_text
from model.export import check_exports, export_files
from model.space_file import load_space_file
from model.supernet_file import supernet_facts
from model.weights import load_from_supernet, load_trained
from search_strategy.searched_run import SearchedRun
from search_strategy.verify import verify
from utils import ranks
from utils.acceleration import Precision, compile_blocks, uncompile_blocks
from utils.checkpoint import load_checkpoint
from utils.device import pick_device, seed_everything, tune_malloc
from utils.draw import draw_architecture, plot_confusion
from utils.environment import note_environment
from utils.errors import user_errors
from utils.evaluation import Scores, evaluate
from utils.files import atomic_path, write_text
from utils.finite import LossGuard
from utils.losses import build_mixing, distillation_loss
from utils.memory import memory_hint
from utils.model_card import model_card, provenance
from utils.optim import decay_groups
from utils.report import clock
from utils.run_folder import check_run_folder, log, make_run_folder, start_log
from utils.threads import set_threads, threads_text
from utils.training import Epoch, Optimisation, Pass, Step, TrainingFile, fit

SPACE_FILE = "search_space.yaml"  # a copy in the run folder, where the space is the user's own
RECIPE = """
    epochs batch_size optimizer lr momentum weight_decay lr_scheduler warmup_epochs
    label_smoothing grad_clip augment randaugment cutout mixup cutmix dropout drop_path ema_decay
    init_from teacher teacher_weights distill_weight distill_temperature train_portion
"""
Objective = Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Tensor]]


def build_objective(config: SubnetConfig, num_classes: int, device: torch.device) -> Objective:
    """Build (net, images [B, 3, H, W], labels [B]) -> (loss, logits [B, K]).

    Raises:
        ValueError: the teacher's files are not usable, or do not fit.
    """
    mix = build_mixing(config.regularisation.mixup, config.regularisation.cutmix, num_classes)
    criterion = nn.CrossEntropyLoss(label_smoothing=config.training.label_smoothing)
    distillation, size = config.distillation, config.data.input_size
    teacher = None
    if distillation.teacher:
        teacher = Subnet(*load_architecture(distillation.teacher, size, num_classes))
        load_trained(teacher, distillation.teacher_weights)
        teacher.eval().to(device, memory_format=torch.channels_last)

    def objective(net: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        images, targets = mix(images, labels)
        logits = net(images)
        loss = criterion(logits, targets)
        if teacher is not None:
            with torch.no_grad():
                answer = teacher(images)
            weight, temperature = distillation.distill_weight, distillation.distill_temperature
            distilled = distillation_loss(logits, answer, temperature)
            loss = (1 - weight) * loss + weight * distilled
        return loss, logits

    return objective


def new_network(
    space: SearchSpace,
    architecture: Architecture,
    splits: Splits,
    config: SubnetConfig,
    resumed: bool,
) -> Subnet:
    """Build the network on the device, with the weights it starts from.

    Args:
        resumed: the weights will come from the run's own checkpoint.
    """
    net = Subnet(space, architecture, space.training_style)
    zero_residuals(net)
    net.to(splits.train.device, memory_format=torch.channels_last)
    if config.init_from and not resumed:
        if config.init_from.suffix == ".safetensors":
            load_trained(net, config.init_from, new_classes=True)
        else:
            batches = itertools.islice(splits.calibration, config.calibration_batches)
            images = (images for images, _ in batches)
            data = config.data
            facts = supernet_facts(space, data.dataset, data.train_portion)
            load_from_supernet(net, space, architecture, config.init_from, facts, images)
    if config.dropout is not None:
        set_dropout(net, config.dropout)
    if config.regularisation.drop_path and not add_drop_path(net, config.regularisation.drop_path):
        log.info("note: --drop-path is without effect: this network has no residual branches")
    return net


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


def save_files(net: Subnet, splits: Splits, use: UseConfig, weights: Path | None) -> None:
    """The weights, and the exports asked for, each with the preprocessing that it needs."""
    preprocessing = {
        "input_size": splits.input_size,
        "mean": list(splits.mean),
        "std": list(splits.std),
        "classes": list(splits.classes),
    }
    if weights is not None:
        with atomic_path(weights) as temporary:
            save_weights(net, temporary, preprocessing)
    for message in export_files(net, preprocessing, use.export_onnx, use.export_torch):
        log.info(message)


def save_architecture(
    folder: Path, space: SearchSpace, architecture: Architecture, table: LookupTable, extra: dict
) -> None:
    """best_architecture.yaml of a run folder, which is then all that the network's weights need."""
    facts = architecture_facts(space, architecture)
    if space.name.endswith((".yaml", ".yml")):
        spec = load_space_file(space.name)
        del spec["user_file"]
        write_text(folder / SPACE_FILE, yaml.safe_dump(spec, sort_keys=False))
        facts["search_space"] = SPACE_FILE
    facts |= {metric: int(table.cost(architecture, metric)) for metric in METRICS}
    write_text(folder / "best_architecture.yaml", yaml.safe_dump(facts | extra, sort_keys=False))


def write_card(
    folder: Path,
    space: SearchSpace,
    architecture: Architecture,
    table: LookupTable,
    splits: Splits,
    config: SubnetConfig,
    best: dict,
    test: Scores,
) -> None:
    """README.md and architecture.png of a run folder."""
    costs = {m: in_millions(int(table.cost(architecture, m))) for m in METRICS}
    picture = f"{space.name}, {space.input_size} px: {costs['flops']} {table.unit('flops')}"
    draw_architecture(folder / "architecture.png", describe(space, architecture), picture)
    numbers = {
        "test top-1": f"{test.top1:.2f} % of {test.images:,} images",
        "validation top-1": f"{best['top1']:.2f} % (epoch {best['epoch']} of "
        f"{config.training.epochs}, the best)",
        "MACs": f"{costs['flops']} M",
        "params": f"{costs['params']} M",
        "train, validation images": f"{splits.train.num_images:,}, "
        f"{splits.validation.num_images:,}",
    }
    preprocessing = {
        "input": f"RGB, {space.input_size} × {space.input_size} px, scaled to [0, 1]",
        "mean": ", ".join(f"{v:.4f}" for v in splits.mean),
        "std": ", ".join(f"{v:.4f}" for v in splits.std),
    }
    again = f"python train_subnet.py --config {folder / 'config.yaml'} --title again"
    flags = values_of(config)
    recipe = {
        name.replace("_", " "): str(flags[name])
        for name in RECIPE.split()
        if flags[name] not in (None, 0, 0.0, False)
    }
    if config.distillation.teacher is None:
        recipe.pop("distill weight"), recipe.pop("distill temperature")
    choices = " ".join(space.decode(architecture))
    text = model_card(
        folder.name,
        f"A network of the search space {space.name}, trained on {config.data.dataset}: "
        f"`{choices}`",
        numbers,
        splits.classes,
        preprocessing,
        [
            again,
            "# as it was started:",
            shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]),
        ],
        recipe,
        provenance(config.run.random_seed, str(splits.train.device)),
        (folder / "confusion.png").exists(),
    )
    write_text(folder / "README.md", text)


def use(config: SubnetConfig, device: torch.device) -> None:
    """--benchmark and --evaluate: no training, no run folder."""
    if config.use.benchmark:
        space, architecture = load_architecture(config.arch, config.data.input_size)
        net = Subnet(space, architecture).to(device, memory_format=torch.channels_last)
        batch = config.data.eval_batch_size
        log.info(speed_text(net, space, architecture, batch, config.run.cache_dir))
    if config.use.evaluate:
        splits = load_splits(
            config.data,
            config.augment,
            config.training.batch_size,
            config.run.random_seed,
            device,
            config.run.cache,
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
    if config.verification.verify is not None:
        check_run_folder(run.run_dir, run.title, run.resume)
        searched = SearchedRun.read(config.verification.verify, device)
        folder = open_run(run, f"verify_{searched.folder.name}")
        record_run(folder, config, device)
        verify(config, searched, folder, device)
        return
    if not config.trains:
        use(config, device)
        return

    check_run_folder(run.run_dir, run.title, run.resume)
    splits = load_splits(
        data, config.augment, config.training.batch_size, run.random_seed, device, run.cache
    )
    config = splits.fitted(config)
    arch = run.run_dir / run.title / "best_architecture.yaml" if run.resume else config.arch
    space, architecture = load_architecture(arch, data.input_size, splits.num_classes)
    table = load_table(space, run.cache_dir)
    resumed = run.resume and (arch.parent / "last.pt").exists()
    facts = supernet_facts(space, data.dataset, data.train_portion)
    net = new_network(space, architecture, splits, config, resumed)
    threads = set_threads(run.threads, net, config.training.batch_size, data.input_size)
    config = changed(config, threads=threads)
    facts["arch"] = space.decode(architecture)
    folder = make_run_folder(run.run_dir, run.title, run.resume, f"subnet_{data.dataset}")
    start_log(folder, quiet=run.quiet)
    known = {"dataset": data.dataset, "source": f"train_subnet.py --arch {config.arch}"}
    if not run.resume:
        save_architecture(folder, space, architecture, table, known)
        write_config(folder / "config.yaml", config)
    splits.keep(folder)
    note_environment(folder, device, run.config)
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
