"""Wall time by phase, and the loss and accuracy of an epoch."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import torch
from torch import Tensor

from utils.distributed import add_up
from utils.ranks import world_size


class Phases:
    """Seconds per named phase, in order of first use."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + spent


class Meter:
    """Mean loss and top-1 over the images seen, and the share of steps whose gradient was clipped.

    Summed on the device: read once, synced once.
    """

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(2, device=device)
        self.images = 0
        self.clipped = torch.zeros(2, device=device)  # steps clipped, steps

    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        correct = (logits.detach().argmax(1) == labels).sum()
        self.sums += torch.stack([loss.detach() * len(labels), correct.to(self.sums.dtype)])
        self.images += len(labels)

    def count_clipped(self, clipped: Tensor) -> None:
        """Count a step; every process says the same."""
        self.clipped += torch.stack([clipped, torch.ones_like(clipped)])

    def add_ranks(self) -> None:
        """Add what the other processes have seen, as much as this one."""
        add_up(self.sums)
        self.images *= world_size()

    def read(self) -> tuple[float, float, float]:
        """Return mean loss, top-1 and clipped steps in percent. On a GPU this waits for it."""
        loss, correct = (self.sums / max(1, self.images)).tolist()
        clipped, steps = self.clipped.tolist()
        return loss, 100 * correct, 100 * clipped / max(1, steps)

    def state_dict(self) -> dict:
        return {
            "sums": self.sums.clone(),
            "images": self.images,
            "clipped": self.clipped.clone(),
        }

    def load_state_dict(self, state: dict) -> None:
        self.sums.copy_(state["sums"])
        self.images = state["images"]
        self.clipped.copy_(state.get("clipped", self.clipped))  # older checkpoints have none
