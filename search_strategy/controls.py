"""What a search's answer is compared with."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from model import Supernet


def uncalibrated_top1(
    supernet: Supernet, architecture: np.ndarray, batches: Iterable[tuple[Tensor, Tensor]]
) -> float:
    """Top-1 in percent of a path with the batch-norm statistics that training left it.

    Args:
        batches: (images [B, 3, H, W], labels [B]).
    """
    training = supernet.training
    supernet.eval()
    correct, seen = 0, 0
    with torch.inference_mode():
        for images, labels in batches:
            correct += (supernet(images, architecture).argmax(1) == labels).sum().item()
            seen += len(labels)
    supernet.train(training)
    return 100 * correct / seen
