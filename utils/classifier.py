"""The training of a classifier on its own: loss, step and validation, for `utils.training.fit`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from utils.acceleration import Precision
from utils.evaluation import Batches, evaluate
from utils.finite import LossGuard
from utils.training import Epoch, Pass, Step

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Mixing = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def build_mixing(mixup: float, cutmix: float, num_classes: int) -> Mixing:
    """(images [B, 3, H, W], labels [B]) -> (images, targets: [B] or soft [B, K]).

    mixup: https://arxiv.org/abs/1710.09412; cutmix: https://arxiv.org/abs/1905.04899. With both,
    each batch takes one at random; with neither, batches pass as they are. Random numbers come from
    torch's global generator.
    """
    if not mixup and not cutmix:
        return lambda images, labels: (images, labels)
    from torchvision.transforms import v2

    kinds = ((v2.MixUp, mixup), (v2.CutMix, cutmix))
    return v2.RandomChoice([mix(alpha=a, num_classes=num_classes) for mix, a in kinds if a])


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher / T || student / T), mean over the batch; logits [B, K].

    https://arxiv.org/abs/1503.02531; T^2 keeps the gradients' size whatever the temperature.
    """
    target = F.log_softmax(teacher / temperature, dim=1)
    answer = F.log_softmax(student / temperature, dim=1)
    return temperature**2 * F.kl_div(answer, target, reduction="batchmean", log_target=True)


@dataclass(frozen=True)
class Objective:
    """(net, images [B, 3, H, W], labels [B]) -> (loss, logits [B, K]) of a training step.

    Attributes:
        mixing: of images and labels.
        criterion: of logits and the mixed labels.
        teacher: a network in eval mode whose logits have `weight` of the loss.
    """

    mixing: Mixing
    criterion: nn.Module
    teacher: nn.Module | None = None
    weight: float = 0.5
    temperature: float = 2.0

    def __call__(self, net: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        images, targets = self.mixing(images, labels)
        logits = net(images)
        loss = self.criterion(logits, targets)
        if self.teacher is not None:
            with torch.no_grad():
                answer = self.teacher(images)
            distilled = distillation_loss(logits, answer, self.temperature)
            loss = (1 - self.weight) * loss + self.weight * distilled
        return loss, logits


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
        self.net, self.objective = net, objective
        self.validation, self.num_classes = validation, num_classes
        self.writer = writer
        self.averaged = None
        if ema_decay:
            average = get_ema_multi_avg_fn(ema_decay)
            # buffers too: the average of weights needs batch statistics of about the same steps
            self.averaged = AveragedModel(net, multi_avg_fn=average, use_buffers=True)
        self.best: dict[str, float] = {"top1": -1.0, "loss": 0.0}  # below any first epoch
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
        # few validation images tie often: the loss decides then
        if (scores.top1, -scores.loss) > (self.best["top1"], -self.best["loss"]):
            self.best = {"top1": scores.top1, "loss": scores.loss, "epoch": done}
            self.save_best(done)

    def end_epoch(self, epoch: Epoch) -> dict[str, str]:
        epoch.write(self.writer, "loss", "top1", "lr", "clipped")
        self.validate(epoch.done)
        best = f"{self.best['top1']:.2f} %"
        return {"loss": f"{epoch.loss:.3f}", "best validation top-1": best}
