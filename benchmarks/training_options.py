"""Training steps with channels_last, mixed precision, compiled blocks, side by side.

python -m benchmarks.training_options                     # without --compile: that takes minutes
python -m benchmarks.training_options --compile --rounds 20

All sides train on the same paths and take turns; ratios are medians over the rounds.
`python -m benchmarks.gpu` measures more of a GPU.
"""

from __future__ import annotations

import argparse
import statistics
from itertools import cycle, islice

import numpy as np
import torch

from benchmarks._common import device, hardware, interleaved, print_ratios
from benchmarks._training import Kind, Training
from config_file.arg_config.fields import Parser
from model import SearchSpace, build_supernet, load_space
from utils.device import tune_malloc


def compare(space: SearchSpace, batch: int, kinds: list[Kind], args: argparse.Namespace) -> None:
    """Train in turns with batches of one size, and print what it took."""
    images = torch.randn(batch, 3, space.input_size, space.input_size, device=args.device)
    labels = torch.randint(0, space.num_classes, (batch,), device=args.device)
    paths = np.random.default_rng(0).integers(0, space.num_choices, (args.paths, space.num_layers))
    steps = max(args.steps, args.paths)  # the first round meets every path

    def training(kind: Kind) -> Training:
        torch.manual_seed(0)
        return Training(build_supernet(space), args.device, kind)

    def turn(side: Training) -> None:
        for path in islice(cycle(paths), steps):
            side.step(images, labels, path)

    sides = {kind.name: training(kind) for kind in kinds}
    runs = {name: (lambda side=side: turn(side)) for name, side in sides.items()}
    measured = interleaved(runs, args.rounds)
    seconds = {name: [t / steps for t in times] for name, times in measured.items()}
    print_ratios(f"{space.name}, {space.input_size} px, batch {batch}: one step", seconds, "NCHW")
    for name, times in seconds.items():
        print(f"  {name:<32}{batch / statistics.median(times):>10.0f} images/s")


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--space", default="proxylessnas")
    parser.add_argument("--input-size", type=int, default=32)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[64])
    parser.add_argument("--compile", action="store_true", help="also compiled blocks")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--paths", type=int, default=1, help="paths that take turns")
    parser.add_argument("--steps", type=int, default=1, help="in a row per turn")
    parser.add_argument("--device", type=device, default="cpu")
    args = parser.parse_args()
    tune_malloc()
    space = load_space(args.space, args.input_size, 10)
    kinds = [Kind(layout="contiguous_format")]
    for amp in ("off", "bf16"):
        kinds += [Kind(amp=amp)]
        kinds += [Kind(amp=amp, compiled=True)] if args.compile else []
    print(hardware())
    for batch in args.batch_sizes:
        compare(space, batch, kinds, args)


if __name__ == "__main__":
    main()
