"""The training loop of supernets and networks: steps, epochs, checkpoints, signals, ranks.

`fit` does what both have in common. What differs is the `Task`: how a step makes gradients, what it
does after the update, what is written after an epoch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from utils import checkpoint, distributed
from utils.acceleration import Precision
from utils.checkpoint import Stateful
from utils.evaluation import Meter
from utils.finite import LossGuard, reset_nonfinite_bn
from utils.interruption import deferred
from utils.optim import Recipe, build_optimizer, build_scheduler, decay_groups
from utils.run_folder import log, progress_bar

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Batches(Stateful, Protocol):
    """A loader whose order of images is part of its state."""

    device: torch.device

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]: ...


class Pass(NamedTuple):
    """A forward and backward pass of a step: its loss, logits [B, K], and the supernet's path."""

    loss: Tensor
    logits: Tensor
    path: distributed.AnyPath | None = None


class Step(NamedTuple):
    """A step that was taken: `number` counts from the first epoch; `kept`: weights were updated."""

    images: Tensor
    labels: Tensor
    epoch: int
    number: int
    lr: float
    kept: bool


class Epoch(NamedTuple):
    """Numbers of a finished epoch; `done` counts from 1, `top1` and `clipped` are in percent."""

    done: int
    loss: float
    top1: float
    lr: float
    images_per_s: float
    clipped: float  # steps whose gradient was longer than --grad-clip

    def write(self, writer: SummaryWriter, *names: str) -> None:
        """Write some of the numbers to TensorBoard, as train/NAME."""
        for name in names:
            writer.add_scalar(f"train/{name}", getattr(self, name), self.done)


class Task(Protocol):
    """The parts of a training that differ between supernets and networks."""

    def start_epoch(self, epoch: int) -> None: ...

    def backward(self, images: Tensor, labels: Tensor, precision: Precision) -> list[Pass]:
        """Add the gradients of one step."""

    def after_step(self, step: Step, guard: LossGuard) -> None: ...

    def end_epoch(self, epoch: Epoch) -> dict[str, str]:
        """Write the epoch's numbers; what the progress bar shows."""


class Optimisation:
    """The optimiser of a net with its schedule, precision, clipping and guard, from a recipe.

    Args:
        recipe: --optimizer, --lr and the other flags of a training.
    """

    def __init__(self, net: nn.Module, loader: Batches, recipe: Recipe) -> None:
        self.net = net
        self.parameters = list(net.parameters())  # listing thousands takes milliseconds
        self.grad_clip = recipe.grad_clip or 0.0
        self.optimizer = build_optimizer(
            recipe.optimizer,
            decay_groups(net, recipe.decay_all),
            recipe.lr,
            recipe.momentum,
            recipe.weight_decay,
            nesterov=recipe.nesterov,
            alpha=recipe.rmsprop_alpha,
            eps=recipe.rmsprop_eps,
        )
        self.scheduler = build_scheduler(self.optimizer, recipe, len(loader))
        if 0 < recipe.epochs <= (warmup := recipe.warmup_epochs):
            log.info(f"note: a warm-up of {warmup} epochs fills all {recipe.epochs}")
        self.precision = Precision(recipe.amp, loader.device)
        self.guard = LossGuard(recipe.on_nan, loader.device)
        self.meter = Meter(loader.device)

    @property
    def lr(self) -> float:
        return float(self.scheduler.get_last_lr()[0])

    def stateful(self) -> dict[str, Stateful]:
        """Its parts whose state a checkpoint holds."""
        parts: dict[str, Stateful] = {"optimizer": self.optimizer, "scheduler": self.scheduler}
        return parts | ({"scaler": self.precision.scaler} if self.precision.scales else {})

    def step(
        self, passes: list[Pass], labels: Tensor, number: int, asked: bool
    ) -> tuple[bool, Tensor]:
        """Update the weights with the gradients there are.

        Returns:
            True if the step was kept, and the mean over ranks of `asked`.
        """
        *losses, stop = distributed.average_gradients(
            self.parameters, *(p.loss for p in passes), float(asked)
        )
        for loss, (_, _, path) in zip(losses, passes, strict=True):
            self.guard.watch(loss, number, self.lr, path)
        self.precision.unscale(self.optimizer)
        if self.grad_clip:
            norm = nn.utils.clip_grad_norm_(self.parameters, self.grad_clip)
            self.meter.count_clipped(norm > self.grad_clip)
            if not self.precision.scales:  # fp16 leaves such steps out by itself
                self.guard.watch(norm, number, self.lr, what="gradient norm")
        if kept := self.guard.keep_step():
            self.precision.step(self.optimizer)
            for loss, logits, _ in passes:
                self.meter.update(loss, logits, labels)
        else:
            self.precision.skip()
            reset_nonfinite_bn(self.net)
        self.scheduler.step()
        return kept, stop


@dataclass
class TrainingFile:
    """The checkpoint of a training: what it holds, where, and how often it is written.

    Args:
        stateful: name in the checkpoint -> what has that state.
        share: of the time, at most, that writing between epochs takes; None: after every epoch.
        extra: further entries, asked for at each write.
    """

    path: Path
    kind: str
    facts: dict
    config: dict
    stateful: dict[str, Stateful]
    share: float | None = None
    extra: Callable[[], dict] = dict
    due: float = field(default=0.0, init=False)  # when the next one between two epochs is

    def read(self) -> dict | None:
        """Load a checkpoint that is there into its parts, on every rank; return its content.

        Raises:
            ValueError: it is damaged, or of something else.
        """
        if not distributed.from_main(self.path.exists()):
            return None
        there = self.path.exists()  # rank 0 alone may see the file
        state = checkpoint.load_checkpoint(self.path, self.kind) if there else {}
        state = distributed.from_main(state)
        checkpoint.check_facts(self.path, state["facts"], self.facts)
        checkpoint.restore(self.path, state, self.stateful)
        return state

    def write(self, run: Optimisation, epoch: int, step: int, loader: dict, path: Path) -> None:
        """Write everything after `epoch` epochs and `step` steps."""
        start = time.perf_counter()
        run.guard.flush()
        states = {name: thing.state_dict() for name, thing in self.stateful.items()}
        states = self.extra() | states | {"loader": loader, "meter": run.meter.state_dict()}
        place = {"epoch": epoch, "step": step, "facts": self.facts, "config": self.config}
        checkpoint.save_checkpoint(path, self.kind, **states, **place)
        now = time.perf_counter()
        self.due = now + (now - start) / self.share if self.share else now


def _done(state: dict | None, run: Optimisation, epochs: int, name: str) -> tuple[int, int]:
    """Return epochs, and steps of the next one, that a checkpoint has done; its meter goes on."""
    if state is None:
        return 0, 0
    first, skip = state["epoch"], state.get("step", 0)
    if skip:
        run.meter.load_state_dict(state["meter"])
    steps = f" and {skip} steps" if skip else ""
    log.info(f"{name}: {first} of {epochs} epochs{steps} are done")
    return first, skip


def fit(
    task: Task,
    run: Optimisation,
    loader: Batches,
    epochs: int,
    file: TrainingFile,
    state: dict | None,
    name: str,
) -> None:
    """Train for `epochs` epochs, resuming after `state`, what `file.read()` gave.

    The result of a resumed training is that of an uninterrupted one. SIGTERM and Ctrl-C write a
    checkpoint in the middle of an epoch, whose first batches are then drawn again and left out.

    Raises:
        ValueError: the loss is not finite.
        Interrupted: a signal came, and the checkpoint is written.
    """
    first, skip = _done(state, run, epochs, name)
    bar = progress_bar(epochs * len(loader), name, "step", first * len(loader) + skip)
    with deferred() as signals:
        for epoch in range(first, epochs):
            run.net.train()
            task.start_epoch(epoch)
            start, images_before = time.perf_counter(), run.meter.images
            epoch_start, batches = loader.state_dict(), iter(loader)
            for _ in range(skip):
                next(batches)
            if state is not None:
                checkpoint.restore_generators(state)
                state = None
            for step, (images, labels) in enumerate(batches, skip + 1):
                number, lr = epoch * len(loader) + step, run.lr
                # to None, not to zero: parameters that no path used are not decayed either
                run.optimizer.zero_grad(set_to_none=True)
                passes = task.backward(images, labels, run.precision)
                kept, stop = run.step(passes, labels, number, signals.asked)
                task.after_step(Step(images, labels, epoch, number, lr, kept), run.guard)
                bar.update()
                if distributed.any_asked(stop, signals.asked, number):
                    file.write(run, epoch, step, epoch_start, file.path)
                    signals.stop()
            skip = 0
            run.guard.flush()
            rate = (run.meter.images - images_before) / (time.perf_counter() - start)
            loss, top1, clipped = run.meter.read()
            run.meter = Meter(loader.device)
            shown = task.end_epoch(Epoch(epoch + 1, loss, top1, run.lr, rate, clipped))
            bar.set_postfix(epoch=f"{epoch + 1}/{epochs}", **shown)
            numbers = ", ".join(f"{key} {value}" for key, value in shown.items())
            log.info(f"epoch {epoch + 1} of {epochs}: {numbers}")
            if epoch + 1 == epochs or time.perf_counter() >= file.due:
                file.write(run, epoch + 1, 0, loader.state_dict(), file.path)
    bar.close()
    if run.guard.skipped:
        log.info(f"--on-nan skip: {run.guard.skipped} of the steps of this start were left out")
