"""Training steps on small images against those of an earlier commit, on the CPU.

python -m benchmarks.small_maps                       # every case against commit 68b736b
python -m benchmarks.small_maps --cases digits --rounds 30
python -m benchmarks.small_maps --layers 2 8 32       # single convolutions against F.conv2d
python -m benchmarks.small_maps --threads             # one and two threads, also beside a busy core
ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 \\
    python -m benchmarks.small_maps                   # a larger core as a smaller one

Each side is a process in a checkout of its own; they take turns step by step, on the same paths,
and the ratio is the median over rounds. One thread unless OMP_NUM_THREADS says otherwise. `floor`
is the time of the step's matrix products alone: for every convolution three products with as many
MACs, of its own pixels and channels.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks._common import BASE, ROOT, checkout, hardware, interleaved, ratio
from config_file.arg_config.fields import Parser
from config_file.arg_config.types import count
from model import Subnet, load_space
from model.small_maps import conv2d

FLOOR_PATHS = 5  # random paths whose matrix products are timed


@dataclass(frozen=True)
class Case:
    """A training step, and the ratio to the earlier commit's that it is to have at most."""

    group: str
    space: str
    size: int  # px
    batch: int
    sampler: str = "uniform"
    goal: float = 1.03


CASES = (
    Case("digits", "proxylessnas", 8, 32, goal=0.4),
    Case("digits", "proxylessnas", 8, 32, "softmax", 0.4),
    Case("digits", "proxylessnas", 8, 32, "gumbel", 0.4),
    Case("digits", "proxylessnas", 8, 360, "score"),
    Case("macro", "nas_bench_macro", 16, 64, goal=0.6),
    Case("spaces", "fbnet", 8, 32),
    Case("spaces", "spos", 8, 32),
    Case("spaces", "singlepath", 8, 32),
    Case("large", "proxylessnas", 32, 32),
    Case("large", "nas_bench_macro", 32, 64),
    Case("large", "proxylessnas", 224, 8),
)
LAYERS = (  # channels, kernel, stride, map: depthwise
    *((144, k, 1, 8) for k in (3, 5, 7)),
    *((240, k, 1, m) for m in (4, 6) for k in (3, 5, 7)),
    (240, 5, 2, 8),
    *((480, k, 1, 2) for k in (3, 5, 7)),
    *((1152, k, 1, 1) for k in (3, 5, 7)),
)
POINTWISE = ((24, 144, 8), (40, 240, 4), (96, 576, 2), (192, 1152, 1), (1152, 192, 1))


@contextlib.contextmanager
def side(root: Path, case: Case, **environment: str) -> Iterator[Callable[[], float]]:
    """Start a worker in a checkout; calling it does one step and gives its seconds."""
    words = [sys.executable, str(ROOT / "benchmarks" / "_step.py"), str(root), case.space]
    words += [str(case.size), str(case.batch), case.sampler]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    env = os.environ | environment
    with subprocess.Popen(words, **pipes, text=True, cwd=root, env=env) as worker:
        assert worker.stdin and worker.stdout
        stdin, stdout = worker.stdin, worker.stdout

        def step() -> float:
            stdin.write("\n")
            stdin.flush()
            return float(stdout.readline())

        try:
            yield step
        finally:
            stdin.close()


def compare(root: Path, case: Case, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of steps of the earlier commit and of this one, in turns."""
    with side(root, case) as before, side(ROOT, case) as now:
        turns = [(before(), now()) for _ in range(2 + rounds)][2:]
    return {"before": [b for b, _ in turns], "now": [n for _, n in turns]}


@contextlib.contextmanager
def competitor(busy: bool) -> Iterator[None]:
    """Keep one core busy inside, if asked to."""
    with contextlib.ExitStack() as stack:
        if busy:
            words = [sys.executable, "-c", "while True: pass"]
            stack.callback(stack.enter_context(subprocess.Popen(words)).kill)
        yield


def compare_threads(rounds: int) -> None:
    """Print steps with one thread and with two, on this machine as it is and with a busy core."""
    ways: dict[str, dict[str, str]] = {
        "1 thread": {"OMP_NUM_THREADS": "1"},
        "2 threads, asleep soon (here)": {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "3000"},
        "2 threads, asleep at once": {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"},
        "2 threads, spinning (PyTorch's default)": {"OMP_NUM_THREADS": "2"},
    }
    print("| space | px | threads | as it is, ms | one core busy, ms |\n" + "|---" * 5 + "|")
    for case in (c for c in CASES if c.sampler == "uniform" and c.group in ("digits", "large")):
        for name, environment in ways.items():
            cells = []
            for busy in (False, True):
                with competitor(busy), side(ROOT, case, **environment) as step:
                    seconds = [step() for _ in range(2 + rounds)][2:]
                cells.append(f"{1e3 * statistics.median(seconds):.0f}")
            print(f"| {case.space} | {case.size} | {name} | {' | '.join(cells)} |", flush=True)


def products(case: Case) -> list[list[tuple[int, int, int]]]:
    """Return sizes (rows, inner, columns) of convolutions as matrix products, for random paths.

    A depthwise one counts as a product of its pixels' taps with as many MACs.
    """
    space = load_space(case.space, case.size, 10)
    found: list[tuple[int, int, int]] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], y: Tensor) -> None:
        if isinstance(module, nn.Linear):
            found.append((case.batch, module.in_features, module.out_features))
        elif isinstance(module, nn.Conv2d):
            inner = module.weight[0].numel()  # taps and channels behind one output value
            found.append((case.batch * y.shape[2] * y.shape[3], inner, module.out_channels))

    rng, paths = np.random.default_rng(0), []
    for _ in range(FLOOR_PATHS):
        net, found = Subnet(space, rng.integers(0, space.num_choices)).eval(), []
        for module in net.modules():
            module.register_forward_hook(note)
        with torch.inference_mode():
            net(torch.zeros(1, 3, case.size, case.size))
        paths.append(found)
    return paths


def floor(case: Case) -> float:
    """Time the matrix products of one step, the mean over paths.

    Scoring has a forward pass only, training a backward pass too.
    """
    train = case.sampler != "score"
    total = 0.0
    for path in products(case):
        for rows, inner, columns in path:
            x, w, g = torch.ones(rows, inner), torch.ones(inner, columns), torch.ones(rows, columns)
            times = []
            for _ in range(3):
                start = time.perf_counter()
                _ = (x @ w, g @ w.t(), x.t() @ g) if train else x @ w
                times.append(time.perf_counter() - start)
            total += min(times)
    return total / FLOOR_PATHS


def both_passes(conv: Callable[..., Tensor], x: Tensor, w: Tensor, stride: int) -> None:
    """Run a convolution forward and backward."""
    y = conv(x, w, None, stride, w.shape[2] // 2, groups=x.shape[1] // w.shape[1])
    torch.autograd.grad(y, (x, w), torch.ones_like(y))


def compare_layers(batches: Sequence[int], rounds: int) -> None:
    """Print forward and backward of single convolutions over F.conv2d's, with the latter's time."""
    shapes = [(c, c, k, s, m) for c, k, s, m in LAYERS] + [(i, o, 1, 1, m) for i, o, m in POINTWISE]
    columns = ("channels", "kernel", "stride", "map", *(f"batch {batch}" for batch in batches))
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for in_chs, out_chs, kernel, stride, size in shapes:
        cells = [str(in_chs) if in_chs == out_chs else f"{in_chs} to {out_chs}"]
        cells += [str(kernel), str(stride), str(size)]
        w = torch.randn(out_chs, 1 if kernel > 1 else in_chs, kernel, kernel, requires_grad=True)
        for batch in batches:
            x = torch.randn(batch, in_chs, size, size).contiguous(memory_format=torch.channels_last)
            x.requires_grad_()
            ways = {"stock": F.conv2d, "here": conv2d}
            runs = {name: partial(both_passes, conv, x, w, stride) for name, conv in ways.items()}
            seconds = interleaved(runs, rounds, warm_up=3)
            stock_ms = 1e3 * statistics.median(seconds["stock"])
            cells.append(f"{ratio(seconds, 'here', 'stock'):.2f} of {stock_ms:.2f} ms")
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = Parser(__doc__)
    groups = sorted({case.group for case in CASES})
    parser.add_argument("--against", default=BASE, metavar="COMMIT")
    parser.add_argument("--cases", nargs="+", choices=groups, default=groups)
    parser.add_argument("--rounds", type=count, default=15)
    parser.add_argument("--threads", action="store_true", help="one and two threads, no layers")
    parser.add_argument(
        "--layers",
        type=count,
        nargs="*",
        metavar="BATCH",
        help="single convolutions, no steps; batches of which to time them (32)",
    )
    args = parser.parse_args()
    print(f"{hardware()}, {torch.backends.cpu.get_cpu_capability()}")
    if args.threads:
        compare_threads(args.rounds)
        return
    if args.layers is not None:
        compare_layers(args.layers or [32], args.rounds)
        return
    print("| space | px | batch | sampler | before, ms | now, ms | ratio | goal | floor, ms |")
    print("|---|---|---|---|---|---|---|---|---|")
    with checkout(args.against) as root:
        for case in (case for case in CASES if case.group in args.cases):
            seconds = compare(root, case, args.rounds)
            before, now = (1e3 * statistics.median(seconds[name]) for name in ("before", "now"))
            sums = case.sampler in ("softmax", "gumbel")  # of all choices, not along a path
            least = "" if sums else f"{1e3 * floor(case):.1f}"
            print(
                f"| {case.space} | {case.size} | {case.batch} | {case.sampler} | {before:.1f} | "
                f"{now:.1f} | {ratio(seconds, 'now', 'before'):.2f} | {case.goal} | {least} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
