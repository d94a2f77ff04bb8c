"""A training step with channels_last, mixed precision, compiled blocks, CUDA graphs, side by side.

python benchmarks/training_options.py                     # without --compile: that takes minutes
python benchmarks/training_options.py --compile --rounds 20
python benchmarks/training_options.py --device cuda --batch-sizes 64 128 256 --compile

All sides train on the same paths and take turns; ratios are medians over the rounds. On a GPU there
is a second table per batch size, with the goals beside it: how busy the GPU is, and how many times
the kernel time of eager training, which no launch overhead can be below, a step takes.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.autograd import DeviceType

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from _common import hardware, interleaved, print_ratios, ratio

from model import SearchSpace, build_supernet, load_space
from utils.acceleration import Precision, compile_blocks
from utils.cuda_graphs import graphed_blocks
from utils.device import keep_freed_memory
from utils.optim import build_optimizer

BUSY, SPEED, FLOOR = 0.9, 2.0, 1.2  # goals: more than, at least (if launch-bound), at most
Seconds = dict[str, list[float]]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One way to train."""

    layout: str = "channels_last"
    amp: str = "off"
    compiled: bool = False
    graphs: bool = False

    @property
    def name(self) -> str:
        options = {self.amp: self.amp != "off", "compiled": self.compiled, "graphs": self.graphs}
        layout = "NCHW" if self.layout == "contiguous_format" else self.layout
        return ", ".join([layout, *(name for name, given in options.items() if given)])


class Side:
    """A supernet trained in one way, until `close`."""

    def __init__(self, space: SearchSpace, device: torch.device, batch: int, kind: Kind) -> None:
        torch.manual_seed(0)
        self.layout = getattr(torch, kind.layout)
        self.net = build_supernet(space).to(device, memory_format=self.layout).train()
        if kind.compiled:
            compile_blocks(self.net.blocks())
        self.parameters = list(self.net.parameters())
        self.optimizer = build_optimizer("sgd", self.parameters, 1e-3, 0.9, 1e-4)
        self.precision = Precision(kind.amp, device)
        options = contextlib.ExitStack()
        options.enter_context(
            graphed_blocks(self.net.blocks(), batch, self.precision.enabled, kind.graphs)
        )
        self.close = options.close

    def step(self, images: torch.Tensor, labels: torch.Tensor, path: np.ndarray) -> None:
        images = images.contiguous(memory_format=self.layout)
        self.optimizer.zero_grad(set_to_none=True)
        with self.precision.autocast():
            loss = nn.functional.cross_entropy(self.net(images, path), labels)
        self.precision.backward(loss)
        self.precision.unscale(self.optimizer)
        self.precision.step(self.optimizer)


def kernels(run: object, steps: int) -> tuple[float, int]:
    """Seconds of GPU work of one of the `steps` that `run()` does, and how many kernels it is."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        run()
        torch.cuda.synchronize()
    times = [
        event.time_range.elapsed_us()
        for event in profile.events()
        if event.device_type == DeviceType.CUDA and not getattr(event, "is_user_annotation", False)
    ]
    return sum(times) / 1e6 / steps, round(len(times) / steps)


def print_gpu(kinds: dict[str, Kind], seconds: Seconds, work: dict[str, tuple[float, int]]) -> None:
    """Launch overhead of each side; `seconds` and `work`, seconds and kernels, are per step."""
    print(
        f"  {'':<32}{'kernels':>8}{'busy':>8}{'step/floor':>12}{'x eager':>9}   goals: busy > "
        f"{BUSY:.0%}, step/floor <= {FLOOR}, x eager >= {SPEED} where eager is launch-bound"
    )
    for name, kind in kinds.items():
        eager = Kind(layout=kind.layout, amp=kind.amp).name
        floor = work[eager][0]
        step = statistics.median(seconds[name])
        busy, speed = work[name][0] / step, 1 / ratio(seconds, name, eager)
        missed = [] if busy > BUSY else ["busy"]
        missed += [] if step <= FLOOR * floor else ["floor"]
        launch_bound = statistics.median(seconds[eager]) >= SPEED * floor  # so much can be gained
        missed += ["speed"] if launch_bound and name != eager and speed < SPEED else []
        verdict = f"misses {', '.join(missed)}" if missed else "reaches all"
        if name == eager:
            verdict = f"eager, {'launch-bound' if launch_bound else 'not launch-bound'}"
        print(
            f"  {name:<32}{work[name][1]:>8}{busy:>8.0%}{step / floor:>12.2f}{speed:>9.2f}   "
            f"{verdict}"
        )


def compare(
    space: SearchSpace, batch: int, kinds: dict[str, Kind], args: argparse.Namespace
) -> None:
    """Train in turns with batches of one size, and print what it took."""
    device, size = torch.device(args.device), space.input_size
    images = torch.randn(batch, 3, size, size, device=device)
    labels = torch.randint(0, 10, (batch,), device=device)
    paths = np.random.default_rng(0).integers(0, space.num_choices, (args.paths, space.num_layers))
    steps = max(args.steps, args.paths)  # the first round meets every path
    sides = {name: Side(space, device, batch, kind) for name, kind in kinds.items()}

    def turn(side: Side) -> None:
        for path in islice(cycle(paths), steps):
            side.step(images, labels, path)

    runs = {name: (lambda side=side: turn(side)) for name, side in sides.items()}
    measured = interleaved(runs, args.rounds)
    seconds = {name: [t / steps for t in times] for name, times in measured.items()}
    print_ratios(f"{space.name}, {size} px, batch {batch}: one step", seconds, "NCHW")
    for name, times in seconds.items():
        print(f"  {name:<32}{batch / statistics.median(times):>10.0f} images/s")
    if device.type == "cuda":
        print_gpu(kinds, seconds, {name: kernels(run, steps) for name, run in runs.items()})
    for side in sides.values():
        side.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", default="proxylessnas")
    parser.add_argument("--input-size", type=int, default=32)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[64])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true", help="also compiled blocks")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--paths", type=int, default=1, help="paths that take turns")
    parser.add_argument(
        "--steps", type=int, help="in a row per turn (default: 1, on a GPU 10, queued ahead)"
    )
    args = parser.parse_args()
    on_gpu = torch.device(args.device).type == "cuda"
    args.steps = args.steps or (10 if on_gpu else 1)
    keep_freed_memory()
    space = load_space(args.space, args.input_size, 10)
    sides = [Kind(layout="contiguous_format")]
    for amp in ("off", "bf16"):
        sides += [Kind(amp=amp)]
        sides += [Kind(amp=amp, compiled=True)] if args.compile else []
        sides += [Kind(amp=amp, graphs=True)] if on_gpu else []
    print(hardware())
    if not on_gpu:
        print("CUDA graphs and the GPU's busy share are left out: they need --device cuda")
    for batch in args.batch_sizes:
        compare(space, batch, {kind.name: kind for kind in sides}, args)


if __name__ == "__main__":
    main()
