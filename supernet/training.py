"""The training of a supernet: sampled paths, one update per step."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from config_file.arg_config.fields import plain
from config_file.arg_config.supernet_config import SupernetCommand
from data import Loader
from lookup_table import Budget
from model import Supernet
from sampler import SAMPLERS
from sampler.alpha import write_architecture
from supernet.inputs import supernet_facts
from utils import distributed
from utils.acceleration import Precision, compile_blocks
from utils.device import SAMPLER_STREAM, stream
from utils.finite import LossGuard
from utils.memory import memory_hint
from utils.training import Epoch, Optimisation, Pass, Step, TrainingFile, fit

SAVING_SHARE = 0.05  # of the time of a training, at most, for checkpoints between epochs


class SupernetTask:
    """A supernet's training step: the sampler's paths, then the architecture parameters.

    Args:
        architecture_loader: batches that the architecture parameters are trained on.
        budget: for --sample-in-budget and a differentiable sampler's hardware loss.
    """

    def __init__(
        self,
        supernet: Supernet,
        config: SupernetCommand,
        architecture_loader: Loader | None,
        budget: Budget | None,
        writer: SummaryWriter,
    ) -> None:
        self.supernet = supernet
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
        """Write the epoch's numbers to TensorBoard."""
        epoch.write(self.writer, "loss", "top1", "lr", "images_per_s")
        if self.architecture:
            space = self.supernet.space
            write_architecture(self.architecture, self.budget, space, self.writer, epoch.done)
            self.architecture.end_epoch()
        return {"loss": f"{epoch.loss:.3f}", "top-1": f"{epoch.top1:.1f} %"}


def train(
    supernet: Supernet,
    loader: Loader,
    config: SupernetCommand,
    path: Path,
    writer: SummaryWriter,
    architecture_loader: Loader | None = None,
    budget: Budget | None = None,
) -> None:
    """Train a supernet in place and leave its checkpoint at `path`; resume one that is there.

    It is written after an epoch, but of short epochs not after every one: at most SAVING_SHARE of
    the time goes into it.

    Args:
        architecture_loader, budget: see `SupernetTask`.

    Raises:
        ValueError: the checkpoint is damaged or of another supernet; the loss is not finite;
            memory ran out.
        Interrupted: a signal came, and the checkpoint is written.
    """
    training = config.training
    task = SupernetTask(supernet, config, architecture_loader, budget, writer)
    run = Optimisation(supernet, supernet.parameters(), loader, training)
    if training.compile:
        compile_blocks(supernet.blocks())
    parts = {"sampler": task.architecture or task.sampler, "loader": loader}
    stateful = {"supernet": supernet, **run.stateful(), **parts}
    facts = supernet_facts(config.data, supernet.space)
    file = TrainingFile(path, "supernet", facts, plain(config), stateful, SAVING_SHARE)
    hint = f"--batch-size {training.batch_size}: lower it, or --input-size or --widths"
    with memory_hint(hint):
        fit(task, run, loader, training.epochs, file, file.read(), "supernet")
