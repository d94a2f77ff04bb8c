"""A training step of the supernet against one of the standalone network of the same path.

python -m benchmarks.supernet_step                          # all five spaces at 32 px
python -m benchmarks.supernet_step --spaces fbnet --batch-size 256 --rounds 20

A step is zero_grad, forward, loss, backward, clipping and the optimiser. Goal: at most 1.05 times.
Each round draws a new path, the same for both; sides take turns, ratios are medians.
"""

from __future__ import annotations

import argparse
import statistics

import numpy as np
import torch

from benchmarks._common import hardware, interleaved, ratio
from benchmarks._training import Kind, Training
from config_file.arg_config.fields import Parser
from config_file.arg_config.training_config import OPTIMIZERS
from model import SearchSpace, Subnet, build_supernet, inherit_weights, load_space
from utils.device import tune_malloc

SPACES = ("proxylessnas", "fbnet", "spos", "singlepath", "nas_bench_macro")


def compare(space: SearchSpace, args: argparse.Namespace) -> tuple[float, float, float]:
    """Median seconds of the subnet's and the supernet's step, and the median of their ratios."""
    rng = np.random.default_rng(0)
    images = torch.randn(args.batch_size, 3, space.input_size, space.input_size)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, space.num_classes, (args.batch_size,))
    device, kind = torch.device("cpu"), Kind()
    whole = build_supernet(space)
    supernet = Training(whole, device, kind, args.optimizer)
    seconds: dict[str, list[float]] = {"supernet": [], "subnet": []}
    for _ in range(args.paths):
        path = rng.integers(0, space.num_choices)
        net = Subnet(space, path, space.training_style)
        inherit_weights(net, whole, path)
        subnet = Training(net, device, kind, args.optimizer)
        sides = {
            "supernet": lambda path=path: supernet.step(images, labels, path),
            "subnet": lambda subnet=subnet: subnet.step(images, labels),
        }
        for name, times in interleaved(sides, args.rounds).items():
            seconds[name] += times
    medians = (statistics.median(seconds[name]) for name in ("subnet", "supernet"))
    return *medians, ratio(seconds, "supernet", "subnet")


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--spaces", nargs="+", default=SPACES)
    parser.add_argument("--input-size", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="sgd")
    parser.add_argument("--paths", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=7, help="turns per path")
    args = parser.parse_args()
    tune_malloc()
    print(hardware())
    print(f"{args.input_size} px, batch {args.batch_size}, {args.optimizer}")
    for name in args.spaces:
        size = 32 if name == "nas_bench_macro" else args.input_size
        subnet, supernet, times = compare(load_space(name, size, 10), args)
        print(
            f"  {name:<16} subnet {1e3 * subnet:8.1f} ms  supernet {1e3 * supernet:8.1f} ms  "
            f"ratio {times:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
