"""The training step of a classifier on its own, for `utils.training.fit`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from utils.acceleration import Precision
from utils.evaluation import Batches, evaluate
from utils.finite import LossGuard
from utils.losses import Objective
from utils.training import Epoch, Pass, Step

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class ClassifierTask:
    """Train by an objective, and average the weights after each step (--ema-decay).

    The average is what is validated; `save_best` is called at every epoch that validates best so
    far: by top-1, then by loss.

    Args:
        ema_decay: of the average per step; 0 is no average.
        validation: batches that decide which epoch is best.
    """

    def __init__(
        self,
        net: nn.Module,
        objective: Objective,
        ema_decay: float,
        validation: Batches,
        num_classes: int,
        writer: SummaryWriter,
    ) -> None:
        self.net = net
        self.objective = objective
        self.validation = validation
        self.num_classes = num_classes
        self.writer = writer
        self.averaged = None
        if ema_decay:
            average = get_ema_multi_avg_fn(ema_decay)
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
        scores = evaluate(used, self.validation, self.num_classes)
        self.writer.add_scalar("validation/top1", scores.top1, done)
        self.writer.add_scalar("validation/loss", scores.loss, done)
        if (scores.top1, -scores.loss) > (self.best["top1"], -self.best["loss"]):
            self.best = {"top1": scores.top1, "loss": scores.loss, "epoch": done}
            self.save_best(done)

    def end_epoch(self, epoch: Epoch) -> dict[str, str]:
        epoch.write(self.writer, "loss", "top1", "lr", "clipped")
        self.validate(epoch.done)
        best = f"{self.best['top1']:.2f} %"
        return {"loss": f"{epoch.loss:.3f}", "best validation top-1": best}
