"""The training of a supernet: sampled paths, one update per step, a checkpoint per epoch."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

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
from utils.checkpoint import (
    check_facts,
    load_checkpoint,
    restore,
    restore_generators,
    save_checkpoint,
)
from utils.device import SAMPLER_STREAM, stream
from utils.finite import LossGuard, mend_batch_norms
from utils.interruption import deferred
from utils.memory import memory_hint
from utils.optim import build_optimizer, build_scheduler
from utils.progress import progress_bar
from utils.run_folder import log
from utils.timing import Meter

SAVING_SHARE = 0.05  # of the time of a training, at most, for checkpoints between epochs


class SupernetTraining:
    """What a training step uses and a checkpoint holds.

    Args:
        loader, architecture_loader: what the weights and architecture parameters are trained on.
        budget: what --sample-in-budget and a differentiable sampler's hardware loss need.
    """

    def __init__(
        self,
        supernet: Supernet,
        loader: Loader,
        config: SupernetCommand,
        architecture_loader: Loader | None,
        budget: Budget | None,
    ) -> None:
        training, self.supernet = config.training, supernet
        self.loader = loader
        self.budget = budget
        self.grad_clip = training.grad_clip
        self.checkpoint = config.sampling.checkpoint_activations
        rng = stream(config.run.random_seed, SAMPLER_STREAM)
        kind = SAMPLERS[config.sampling.sample_strategy or "uniform"]
        self.sampler = kind.from_config(config, supernet, rng, budget)
        self.architecture = self.sampler.architecture_training(
            config, supernet, architecture_loader, budget
        )
        self.parameters = list(supernet.parameters())  # listing thousands takes milliseconds
        self.optimizer = build_optimizer(
            training.optimizer,
            self.parameters,
            training.lr,
            training.momentum,
            training.weight_decay,
        )
        self.scheduler = build_scheduler(
            self.optimizer,
            training.lr_scheduler,
            training.epochs,
            len(loader),
            training.warmup_epochs,
            training.decay_step,
            training.decay_ratio,
        )
        self.precision = Precision(training.amp, loader.device)
        self.criterion = nn.CrossEntropyLoss(label_smoothing=training.label_smoothing)
        self.guard = LossGuard(training.on_nan, loader.device)
        self.check_path = distributed.PathCheck()
        self.meter = Meter(loader.device)
        self.stateful = {
            "supernet": supernet,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "sampler": self.architecture or self.sampler,
            "loader": loader,
        }
        if self.precision.scales:
            self.stateful["scaler"] = self.precision.scaler

    @property
    def lr(self) -> float:
        return self.scheduler.get_last_lr()[0]

    def step(self, images: Tensor, labels: Tensor, epoch: int, number: int, asked: bool) -> float:
        """One update of the weights, and one of the architecture parameters if there are any.

        Args:
            number: of the step, for messages.
            asked: whether a signal asked this process to stop.

        Returns:
            The mean of `asked` over all ranks.
        """
        self.optimizer.zero_grad(set_to_none=True)  # what no path used is not decayed either
        seen = self._backward(images, labels)
        *losses, stop = distributed.average_gradients(
            self.parameters, *(loss for loss, _, _ in seen), float(asked)
        )
        for loss, (_, _, route) in zip(losses, seen, strict=True):
            self.guard.watch(loss, number, self.lr, route)
        self.precision.unscale(self.optimizer)
        if self.grad_clip:
            norm = nn.utils.clip_grad_norm_(self.parameters, self.grad_clip)
            if not self.precision.scales:  # fp16 leaves such steps out by itself
                self.guard.watch(norm, number, self.lr, what="gradient norm")
        if self.guard.keep_step():
            self.precision.step(self.optimizer)
            for loss, logits, _ in seen:
                self.meter.update(loss, logits, labels)
        else:
            mend_batch_norms(self.supernet)
        lr = self.lr
        self.scheduler.step()
        if self.architecture:
            self.architecture.step(epoch, number, (images, labels))
            total = self.architecture.sampler.alpha.detach().sum()
            self.guard.watch(total, number, lr, what="sum of the architecture parameters")
        return stop

    def _backward(self, images: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor, Any]]:
        """Gradients of all paths of a step, summed; the loss, logits and path of each."""
        seen, target = [], labels
        for route in self.sampler.step_paths():
            self.check_path(route)
            with self.precision.autocast():
                logits = self.supernet(images, route, checkpoint=self.checkpoint)
                # a teacher's outputs are soft already; smoothing is for labels
                criterion = self.criterion if target is labels else F.cross_entropy
                loss = criterion(logits, target)
            if self.architecture:
                loss = self.architecture.weight_loss(loss)
            self.precision.backward(loss)
            seen.append((loss, logits, route))
            if self.sampler.distills and target is labels:  # the first teaches the others
                target = logits.detach().softmax(1)
        return seen

    def write_epoch(self, writer: SummaryWriter, done: int, images_per_s: float) -> dict[str, str]:
        """The epoch's numbers to TensorBoard; those for the progress bar."""
        self.meter.add_ranks()
        loss, top1 = self.meter.read()
        scalars = {"loss": loss, "top1": top1, "lr": self.lr, "images_per_s": images_per_s}
        for name, value in scalars.items():
            writer.add_scalar(f"train/{name}", value, done)
        if self.architecture:
            write_architecture(self.architecture, self.budget, self.supernet.space, writer, done)
            self.architecture.end_epoch()
        return {"loss": f"{loss:.3f}", "top1": f"{top1:.1f}"}


def train(
    supernet: Supernet,
    loader: Loader,
    config: SupernetCommand,
    path: Path,
    writer: SummaryWriter,
    architecture_loader: Loader | None = None,
    budget: Budget | None = None,
) -> None:
    """Train a supernet in place and leave its checkpoint at `path`.

    It is written after an epoch, but of short epochs not after every one: at most SAVING_SHARE of
    the time goes into it.

    A checkpoint that is there already is gone on with: weights, optimiser, schedule, and all
    random states are as they were, so the result is that of an uninterrupted run. SIGTERM and
    Ctrl-C write one in the middle of an epoch, whose first batches are then drawn again and left
    out.

    Args:
        loader, architecture_loader, budget: see `SupernetTraining`.

    Raises:
        ValueError: the checkpoint is damaged or of another supernet; the loss is not finite;
            memory ran out.
        Interrupted: a signal came, and the checkpoint is written.
    """
    facts = supernet_facts(config.data, supernet.space)
    training = config.training
    run = SupernetTraining(supernet, loader, config, architecture_loader, budget)
    if training.compile:
        compile_blocks(supernet.blocks())
    first = skip = 0  # epochs that are done, and steps of the next one
    state = None
    if distributed.from_main(path.exists()):
        state = distributed.from_main(load_checkpoint(path) if path.exists() else None)
        check_facts(path, state["facts"], facts)
        restore(path, state, run.stateful)
        first, skip = state["epoch"], state.get("step", 0)
        steps = f" and {skip} steps" if skip else ""
        log.info(f"supernet: {first} of {training.epochs} epochs{steps} are done")
        if skip:
            run.meter.load_state_dict(state["meter"])

    hint = f"--batch-size {training.batch_size}: lower it, or --input-size or --widths"
    done_before = first * len(loader) + skip
    bar = progress_bar(training.epochs * len(loader), "supernet", "step", done_before)

    due = 0.0  # when the next checkpoint between two epochs is

    def save(epoch: int, step: int, loader_state: dict) -> None:
        nonlocal due
        start = time.perf_counter()
        run.guard.flush()
        states = {name: thing.state_dict() for name, thing in run.stateful.items()}
        states |= {"loader": loader_state, "meter": run.meter.state_dict()}
        save_checkpoint(path, **states, epoch=epoch, step=step, facts=facts, config=plain(config))
        now = time.perf_counter()
        due = now + (now - start) / SAVING_SHARE

    with deferred() as signals, memory_hint(hint):
        for epoch in range(first, training.epochs):
            supernet.train()
            if run.architecture:
                run.architecture.start_epoch(epoch)
            start, images_before = time.perf_counter(), run.meter.images
            epoch_start, batches = loader.state_dict(), iter(loader)
            for _ in range(skip):
                next(batches)
            if state is not None:
                restore_generators(state)
                state = None
            for step, (images, labels) in enumerate(batches, skip + 1):
                number = epoch * len(loader) + step
                stop = run.step(images, labels, epoch, number, signals.asked)
                bar.update()
                if distributed.any_asked(stop, signals.asked, number):
                    save(epoch, step, epoch_start)
                    signals.stop()
            skip, done = 0, epoch + 1
            run.guard.flush()
            rate = (run.meter.images - images_before) / (time.perf_counter() - start)
            numbers = run.write_epoch(writer, done, rate)
            bar.set_postfix(epoch=f"{done}/{training.epochs}", **numbers)
            log.info(
                f"epoch {done} of {training.epochs}: loss {numbers['loss']}, "
                f"top-1 {numbers['top1']} %"
            )
            run.meter = Meter(loader.device)
            if done == training.epochs or time.perf_counter() >= due:
                save(done, 0, loader.state_dict())
    bar.close()
    if run.guard.skipped:
        log.info(f"--on-nan skip: {run.guard.skipped} of the steps of this start were left out")
