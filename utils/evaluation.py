"""Accuracy and BN calibration of one network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Batches = Iterable[tuple[Tensor, Tensor]]  # images [B, 3, H, W], labels [B]


@dataclass(frozen=True)
class Scores:
    """Loss and confusion matrix of a network on a set of images.

    Attributes:
        loss: mean cross entropy, without label smoothing.
        confusion: int64 [K, K], images by true class (row) and by answer (column).
    """

    loss: float
    confusion: Tensor

    @property
    def images(self) -> int:
        return int(self.confusion.sum())

    @property
    def top1(self) -> float:
        """Percent."""
        return 100 * self.confusion.diagonal().sum().item() / self.images


@torch.inference_mode()
def evaluate(net: nn.Module, batches: Batches, num_classes: int) -> Scores:
    """Score a network [B, 3, H, W] -> [B, K] in eval mode on all batches."""
    net.eval()
    loss: Tensor | float = 0.0
    counts: Tensor | int = 0
    for images, labels in batches:
        logits = net(images)
        loss += F.cross_entropy(logits, labels, reduction="sum").double()
        pairs = labels * num_classes + logits.argmax(1)
        counts += torch.bincount(pairs, minlength=num_classes**2)
    confusion = torch.as_tensor(counts).reshape(num_classes, num_classes).cpu()
    return Scores(float(loss) / int(confusion.sum()), confusion)


@torch.no_grad()
def calibrate_batch_norms(net: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set BN statistics to their cumulative mean over batches of images, in place.

    Unlike torch.optim.swa_utils.update_bn, without dropout and drop-path: the statistics are those
    of the network that is used. As the search does it (SPOS, 1904.00420, section 3.3).
    """
    net.eval()
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [m.momentum for m in norms]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None
        m.train()
    for images in batches:
        net(images)
    for m, momentum in zip(norms, momenta, strict=True):
        m.momentum = momentum
        m.eval()
