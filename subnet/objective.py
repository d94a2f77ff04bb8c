"""The loss of a step: mixed images with soft labels, and learning from a teacher."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from config_file.arg_config.subnet_config import SubnetConfig
from model import Subnet, load_architecture
from subnet.weights import load_trained

Objective = Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Tensor]]
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


def build_objective(config: SubnetConfig, num_classes: int, device: torch.device) -> Objective:
    """(net, images [B, 3, H, W], labels [B]) -> (loss, logits [B, K]).

    Raises:
        ValueError: the teacher's files are not usable, or do not fit.
    """
    mix = build_mixing(config.regularisation.mixup, config.regularisation.cutmix, num_classes)
    criterion = nn.CrossEntropyLoss(label_smoothing=config.training.label_smoothing)
    teacher, weight = None, config.distillation.distill_weight
    if config.distillation.teacher:
        space, choices = load_architecture(
            config.distillation.teacher, config.data.input_size, num_classes
        )
        teacher = Subnet(space, choices)
        load_trained(teacher, config.distillation.teacher_weights)
        teacher.eval().to(device, memory_format=torch.channels_last)

    def objective(net: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        images, targets = mix(images, labels)
        logits = net(images)
        loss = criterion(logits, targets)
        if teacher is not None:
            with torch.no_grad():
                answer = teacher(images)
            distilled = distillation_loss(logits, answer, config.distillation.distill_temperature)
            loss = (1 - weight) * loss + weight * distilled
        return loss, logits

    return objective
