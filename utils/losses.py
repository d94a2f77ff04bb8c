"""Mixed images with soft labels, and the loss of learning from a teacher."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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

    kinds: list[nn.Module] = []
    if mixup:
        kinds.append(v2.MixUp(alpha=mixup, num_classes=num_classes))
    if cutmix:
        kinds.append(v2.CutMix(alpha=cutmix, num_classes=num_classes))
    return v2.RandomChoice(kinds)


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
