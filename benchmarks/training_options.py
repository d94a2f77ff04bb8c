"""A training step with channels_last, mixed precision and compiled blocks, against plain eager.

python benchmarks/training_options.py                     # without --compile: that takes minutes
python benchmarks/training_options.py --compile --rounds 20
python benchmarks/training_options.py --device cuda --batch-size 256 --compile

Each round draws a path, the same for all sides, which take turns; ratios are medians. On CUDA the
share of the step in which the GPU is busy is printed too, from torch.profiler.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from _common import hardware, interleaved, print_ratios

from model import SearchSpace, build_supernet, load_space
from utils.acceleration import Precision, compile_blocks
from utils.device import keep_freed_memory
from utils.optim import build_optimizer


class Side:
    """A supernet trained in one way."""

    def __init__(
        self, space: SearchSpace, device: torch.device, layout: str, amp: str, compiled: bool
    ) -> None:
        torch.manual_seed(0)
        self.layout = getattr(torch, layout)
        self.net = build_supernet(space).to(device, memory_format=self.layout).train()
        if compiled:
            compile_blocks(self.net.blocks())
        self.parameters = list(self.net.parameters())
        self.optimizer = build_optimizer("sgd", self.parameters, 1e-3, 0.9, 1e-4)
        self.precision = Precision(amp, device)

    def step(self, images: torch.Tensor, labels: torch.Tensor, path: np.ndarray) -> None:
        images = images.contiguous(memory_format=self.layout)
        self.optimizer.zero_grad(set_to_none=True)
        with self.precision.autocast():
            loss = nn.functional.cross_entropy(self.net(images, path), labels)
        self.precision.backward(loss)
        self.precision.unscale(self.optimizer)
        self.precision.step(self.optimizer)


def busy_share(side: Side, *batch: object) -> float:
    """Kernel time over wall time of ten steps on a GPU."""
    kinds = [torch.profiler.ProfilerActivity.CUDA]
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    with torch.profiler.profile(activities=kinds) as profile:
        start.record()
        for _ in range(10):
            side.step(*batch)
        end.record()
        torch.cuda.synchronize()
    kernels = sum(event.self_device_time_total for event in profile.key_averages())
    return kernels / (1e3 * start.elapsed_time(end))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", default="proxylessnas")
    parser.add_argument("--input-size", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true", help="also compiled blocks")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--paths", type=int, default=1, help="paths that take turns")
    args = parser.parse_args()
    keep_freed_memory()
    device = torch.device(args.device)
    space = load_space(args.space, args.input_size, 10)
    images = torch.randn(args.batch_size, 3, args.input_size, args.input_size, device=device)
    labels = torch.randint(0, 10, (args.batch_size,), device=device)
    rng = np.random.default_rng(0)
    paths = rng.integers(0, space.num_choices, (args.paths, space.num_layers))
    kinds = {
        "NCHW": ("contiguous_format", "off", False),
        "channels_last": ("channels_last", "off", False),
        "channels_last, bf16": ("channels_last", "bf16", False),
    }
    if args.compile:
        kinds["channels_last, compiled"] = ("channels_last", "off", True)
        kinds["channels_last, bf16, compiled"] = ("channels_last", "bf16", True)
    sides = {name: Side(space, device, *kind) for name, kind in kinds.items()}

    def steps(side: Side) -> None:
        for path in paths:
            side.step(images, labels, path)

    print(hardware())
    seconds = interleaved(
        {name: (lambda side=side: steps(side)) for name, side in sides.items()}, args.rounds
    )
    print_ratios(f"{space.name}, {args.input_size} px, batch {args.batch_size}", seconds, "NCHW")
    if device.type == "cuda":
        for name, side in sides.items():
            print(f"  {name}: GPU busy {busy_share(side, images, labels, paths[0]):.0%}")


if __name__ == "__main__":
    main()
