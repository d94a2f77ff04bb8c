"""Accuracy and loss of one network, while it trains and after; BN calibration."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.distributed import add_up
from utils.ranks import world_size

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
    losses = []
    counts: Tensor | int = 0
    for images, labels in batches:
        logits = net(images)
        losses.append(F.cross_entropy(logits, labels, reduction="sum"))
        pairs = labels * num_classes + logits.argmax(1)  # index of a cell of [K, K]
        counts += torch.bincount(pairs, minlength=num_classes**2)
    confusion = torch.as_tensor(counts).reshape(num_classes, num_classes).cpu()
    loss = sum(torch.stack(losses).tolist())  # in float64, which not every device has
    return Scores(loss / int(confusion.sum()), confusion)


@torch.no_grad()
def calibrate_batch_norms(net: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set BN statistics to their cumulative mean over batches of images, in place.

    Unlike torch.optim.swa_utils.update_bn, it runs without dropout and drop-path: the statistics
    are those of the network that is used. The search does the same (SPOS, 1904.00420, section 3.3).
    """
    net.eval()
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [m.momentum for m in norms]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None  # cumulative mean
        m.train()  # the norms alone: dropout stays off
    for images in batches:
        net(images)
    for m, momentum in zip(norms, momenta, strict=True):
        m.momentum = momentum
        m.eval()


class Meter:
    """Mean loss and top-1 over the images of an epoch, and the share of steps that were clipped.

    Sums stay on the device, so only `read` waits for it.
    """

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(2, device=device)  # loss, correct answers
        self.images = 0
        self.clipped = torch.zeros(2, device=device)  # steps clipped, steps

    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        correct = (logits.detach().argmax(1) == labels).sum()
        self.sums += torch.stack([loss.detach() * len(labels), correct.to(self.sums.dtype)])
        self.images += len(labels)

    def count_clipped(self, clipped: Tensor) -> None:
        """Count a step; every process says the same."""
        self.clipped += torch.stack([clipped, torch.ones_like(clipped)])

    def read(self) -> tuple[float, float, float]:
        """Return mean loss, top-1 and clipped steps (both in percent), over all ranks.

        The other ranks have seen as many images as this one. On a GPU this waits for it.
        """
        add_up(self.sums)
        loss, correct = (self.sums / max(1, self.images * world_size())).tolist()
        clipped, steps = self.clipped.tolist()
        return loss, 100 * correct, 100 * clipped / max(1, steps)

    def state_dict(self) -> dict:
        return {"sums": self.sums.clone(), "images": self.images, "clipped": self.clipped.clone()}

    def load_state_dict(self, state: dict) -> None:
        self.sums.copy_(state["sums"])
        self.images = state["images"]
        self.clipped.copy_(state.get("clipped", self.clipped))  # older checkpoints have none
