"""Latency and throughput of a network on this device, by torch.utils.benchmark."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

SECONDS = 1.0  # of measuring, per batch size


@dataclass(frozen=True)
class Speed:
    """Median and interquartile range of one forward pass of a batch, ms."""

    batch: int
    median_ms: float
    iqr_ms: float

    @property
    def images_per_s(self) -> float:
        return 1000 * self.batch / self.median_ms


def measure_speed(net: nn.Module, batch: int, input_size: int, device: torch.device) -> Speed:
    """Time a forward pass in eval mode; Timer waits for the device and warms up."""
    from torch.utils.benchmark import Timer  # looks for a CUDA compiler, and says so

    images = torch.zeros(batch, 3, input_size, input_size, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        timer = Timer(
            "net(images)",
            globals={"net": net.eval(), "images": images},
            num_threads=torch.get_num_threads(),
        )
        timer.timeit(3)
        result = timer.blocked_autorange(min_run_time=SECONDS)
    return Speed(batch, 1000 * result.median, 1000 * result.iqr)
