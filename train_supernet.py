"""Train a supernet; search.py trains its own with `train` from here.

python train_supernet.py                                  # proxylessnas on the embedded digits
python train_supernet.py --search-space fbnet --dataset cifar10 --title fbnet_c10
python train_supernet.py --sample-strategy gumbel --target-hc 5 --hc-weight 0.5
python train_supernet.py --title fbnet_c10 --resume       # go on after an interruption
torchrun --nproc_per_node 4 train_supernet.py --dataset cifar10  # see docs/scaling.md
python search.py --checkpoint runs/fbnet_c10/supernet.pt  # search it
"""

from __future__ import annotations

from utils.startup import start_up

if __name__ == "__main__":  # before the imports that take a while
    start_up()

from config_file.arg_config.fields import answer_help, plain
from config_file.arg_config.supernet_config import (
    SupernetCommand,
    SupernetConfig,
    TrainSupernetConfig,
)

if __name__ == "__main__":  # before those that take seconds
    answer_help(TrainSupernetConfig, __doc__)

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from config_file.arg_config.sources import load_config
from config_file.arg_config.start import open_run, record_run, set_up
from data import Loader, Splits, load_splits
from lookup_table import Budget, LookupTable, build_budget
from lookup_table.builder import load_costs
from lookup_table.user_table import TABLE_FILE, keep_costs
from model import SearchSpace, Supernet, build_supernet, count_params, keep_space, load_space
from model.align import align_choices
from model.blocks import zero_residuals
from model.supernet_file import load_supernet, supernet_facts
from model.timm_weights import PREFIX, start_supernet, timm_network
from sampler import SAMPLERS
from sampler.alpha import write_architecture
from utils import distributed
from utils.acceleration import Precision, compile_blocks
from utils.device import SAMPLER_STREAM, stream
from utils.errors import memory_hint, user_errors
from utils.finite import LossGuard
from utils.optim import state_size
from utils.report import TRAINING_FILES, plan_text
from utils.run_files import TRAINING_FILE, add_epoch
from utils.run_folder import log, start_log
from utils.threads import set_threads
from utils.tracker import Tracker, load_callback
from utils.training import Epoch, Optimisation, Pass, Step, TrainingFile, fit

SAVING_SHARE = 0.05  # of the time of a training, at most, for checkpoints between epochs


def load_inputs(config: SupernetCommand, device: torch.device) -> tuple[Splits, SearchSpace]:
    """Load the dataset's splits and the space at their input size and class count."""
    data, run = config.data, config.run
    batch_size = config.training.batch_size
    splits = load_splits(data, config.augment, batch_size, run.random_seed, device, run.cache)
    name, widths = config.space.search_space, config.space.widths
    return splits, load_space(name, data.input_size, splits.num_classes, widths)


def build_costs(
    config: SupernetCommand, space: SearchSpace, metrics: Sequence[str], device: torch.device
) -> LookupTable:
    """Load, count or measure the costs of the space; a resumed run has kept its own."""
    run, latency = config.run, config.latency
    file = latency.lookup_table
    if run.resume and run.folder and (run.folder / TABLE_FILE).exists():
        file = run.folder / TABLE_FILE
    dtype = config.budget.memory_dtype
    table = load_costs(space, metrics, run.cache, file, latency.settings(device), dtype)
    return distributed.from_main(table)  # a latency that each rank measured would be another


def new_supernet(config: SupernetCommand, space: SearchSpace, device: torch.device) -> Supernet:
    """Build a supernet with starting weights, on the device.

    Raises:
        ValueError: --init-from does not fit.
    """
    training, data = config.training, config.data
    supernet = build_supernet(space)
    if training.supernet_init == "aligned":
        align_choices(supernet)
    if training.zeroes_residuals:
        zero_residuals(supernet)
    source = str(training.init_from or "")
    if source.startswith(PREFIX) and not config.begun:
        name = source.removeprefix(PREFIX)
        start_supernet(supernet, timm_network(name), name)
    elif training.init_from and not config.begun:  # else a checkpoint's weights follow
        facts = supernet_facts(space, data.dataset, data.train_portion)
        del facts["input_size"], facts["fingerprint"]  # other images; the weights tell if they fit
        load_supernet(training.init_from, supernet, facts)
    supernet = supernet.to(device).to(memory_format=torch.channels_last)
    return distributed.synchronise_batch_norms(supernet, device) if training.sync_bn else supernet


class SupernetTask:
    """A supernet's training step: the sampler's paths, then the architecture parameters.

    Args:
        architecture_loader: batches that the architecture parameters are trained on.
        budget: for --sample-in-budget and a differentiable sampler's hardware loss.
        folder: where training.csv is written.
    """

    def __init__(
        self,
        supernet: Supernet,
        config: SupernetCommand,
        architecture_loader: Loader | None,
        budget: Budget | None,
        writer: SummaryWriter,
        folder: Path,
    ) -> None:
        self.supernet = supernet
        self.folder = folder
        self.budget = budget
        self.writer = writer
        self.checkpoint = config.sampling.checkpoint_activations
        rng = stream(config.run.random_seed, SAMPLER_STREAM)
        kind = SAMPLERS[config.sampling.sample_strategy or "uniform"]
        self.sampler = kind.from_config(config, supernet, rng, budget)
        self.architecture = self.sampler.architecture_training(
            config, supernet, architecture_loader, budget
        )
        self.criterion = nn.CrossEntropyLoss(label_smoothing=config.training.label_smoothing)
        self.check_path = distributed.PathCheck()

    def start_epoch(self, epoch: int) -> None:
        if self.architecture:
            self.architecture.start_epoch(epoch)

    def backward(self, images: Tensor, labels: Tensor, precision: Precision) -> list[Pass]:
        """Add up the gradients of all paths of a step."""
        passes, target = [], labels
        for path in self.sampler.step_paths():
            self.check_path(path)
            with precision.autocast():
                logits = self.supernet(images, path, checkpoint=self.checkpoint)
                # a teacher's outputs are soft already; smoothing is for labels
                criterion = self.criterion if target is labels else F.cross_entropy
                loss = criterion(logits, target)
            if self.architecture:
                loss = self.architecture.weight_loss(loss)
            precision.backward(loss)
            passes.append(Pass(loss, logits, path))
            if self.sampler.distills and target is labels:  # the first teaches the others
                target = logits.detach().softmax(1)
        return passes

    def after_step(self, step: Step, guard: LossGuard) -> None:
        """Update the architecture parameters, if there are any."""
        if self.architecture:
            self.architecture.step(step.epoch, step.number, (step.images, step.labels))
            total = self.architecture.sampler.alpha.detach().sum()
            guard.watch(total, step.number, step.lr, what="sum of the architecture parameters")

    def end_epoch(self, epoch: Epoch) -> dict[str, str]:
        """Write the epoch's numbers to TensorBoard and training.csv."""
        epoch.write(self.writer, "loss", "top1", "lr", "images_per_s", "clipped")
        numbers = {"loss": epoch.loss, "top1": epoch.top1, "lr": epoch.lr}
        if self.architecture and self.budget:
            space = self.supernet.space
            learned = self.architecture.sampler.probabilities().tolist()
            numbers |= self.architecture.summary()
            numbers |= {
                f"{number}:{name}": p
                for number, (layer, row) in enumerate(zip(space.layers, learned, strict=True), 1)
                for name, p in zip(layer.choices, row, strict=False)
            }
            write_architecture(self.architecture, self.budget, space, self.writer, epoch.done)
            self.architecture.end_epoch()
        add_epoch(self.folder / TRAINING_FILE, epoch.done, numbers)
        return {"loss": f"{epoch.loss:.3f}", "top-1": f"{epoch.top1:.1f} %"}


def train(
    supernet: Supernet,
    loader: Loader,
    config: SupernetCommand,
    path: Path,
    writer: SummaryWriter,
    architecture_loader: Loader | None = None,
    budget: Budget | None = None,
    images: str | None = None,
) -> None:
    """Train a supernet in place and leave its checkpoint at `path`; resume one that is there.

    It is written after an epoch, but of short epochs not after every one: at most SAVING_SHARE of
    the time goes into it.

    Args:
        architecture_loader, budget: see `SupernetTask`.
        images: fingerprint of the splits, for the checkpoint: a search looks at the others.

    Raises:
        ValueError: the checkpoint is damaged or of another supernet; the loss is not finite;
            memory ran out.
        Interrupted: a signal came, and the checkpoint is written.
    """
    training = config.training
    task = SupernetTask(supernet, config, architecture_loader, budget, writer, path.parent)
    run = Optimisation(supernet, loader, training)
    if training.compile:
        compile_blocks(supernet.blocks())
    parts = {"sampler": task.architecture or task.sampler, "loader": loader}
    stateful = {"supernet": supernet, **run.stateful(), **parts}
    data = config.data
    facts = supernet_facts(supernet.space, data.dataset, data.train_portion, images)
    file = TrainingFile(path, "supernet", facts, plain(config), stateful, SAVING_SHARE)
    hint = f"--batch-size {training.batch_size}: lower it, or --input-size or --widths"
    with memory_hint(hint):
        fit(task, run, loader, training.epochs, file, file.read(), "supernet")


def supernet_rows(supernet: Supernet, loader: Loader, training: SupernetConfig) -> dict[str, str]:
    """Rows of a plan about the training."""
    epochs, weights = training.epochs, count_params(supernet)
    copies = 1 + state_size(training.optimizer, training.momentum)
    return {
        "training": f"{epochs * len(loader):,} steps of {loader.batch_size} images ({epochs} "
        f"epochs of {loader.num_images:,} images)",
        "supernet": f"{weights:,} parameters, {4 * weights / 1e6:,.1f} MB of weights; supernet.pt "
        f"takes {4 * copies * weights / 1e6:,.1f} MB with the optimiser's state",
    }


@user_errors
def main() -> None:
    start_log()
    config = load_config(TrainSupernetConfig, __doc__)
    run, data = config.run, config.data
    tracker = load_callback(run.tracker)
    device = set_up(run)
    splits, space = load_inputs(config, device)
    config = splits.fitted(config)
    table = None
    if config.needs_budget:
        table = build_costs(config, space, config.budget.metrics, device)
    supernet, training = new_supernet(config, space, device), config.training
    middle, threads = space.num_choices // 2, run.threads
    if not run.dry_run:  # it would time steps
        threads = set_threads(threads, supernet, training.batch_size, data.input_size, middle)
    config = config.resolve(space, table, threads)
    budget = None if table is None else build_budget(table, config.budget.limits(table))
    name = f"{Path(config.space.search_space).stem}_{data.dataset}"
    if run.dry_run:
        rows = supernet_rows(supernet, splits.train, training)
        rows["files"] = f"{run.run_dir}/{run.title or '<title>'}/: {TRAINING_FILES}"
        print(plan_text(f"supernet of {space.name} on {data.dataset}", rows))
        return

    folder = open_run(run, f"supernet_{name}")
    kept = None if table is None else keep_costs(folder, space, table)
    keep_space(folder, space)
    record_run(folder, config, device, kept)
    splits.keep(folder)
    path = folder / "supernet.pt"
    with Tracker(folder / "tensorboard", tracker) as writer:
        more = splits.alpha_train, budget, splits.fingerprint
        train(supernet, splits.train, config, path, writer, *more)
    log.info(f"search it: python search.py --checkpoint {path}")


if __name__ == "__main__":
    main()
