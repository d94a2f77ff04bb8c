"""Training steps side by side: a supernet's against its subnet's, or options against none.

python -m benchmarks.training_steps supernet              # all five spaces at 32 px
python -m benchmarks.training_steps supernet --spaces fbnet --batch-size 256 --rounds 20
python -m benchmarks.training_steps options               # without --compile: that takes minutes
python -m benchmarks.training_steps options --compile --device cuda

A step is zero_grad, forward, loss, backward, clipping and the optimiser. Sides take the same paths
by turns; ratios are medians over the rounds.

supernet: the step of the supernet over that of the standalone network of the same path, on several
paths. Goal: at most 1.05. options: channels_last, mixed precision, compiled blocks over float32 in
NCHW, on one path. `python -m benchmarks.gpu` measures more of a GPU.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks._common import device, hardware, interleaved, print_ratios, ratio
from config_file.arg_config.fields import Parser
from model import SearchSpace, Subnet, Supernet, build_supernet, inherit_weights, load_space
from utils.acceleration import Precision, compile_blocks
from utils.device import tune_malloc
from utils.optim import build_optimizer

SPACES = ("proxylessnas", "fbnet", "spos", "singlepath", "nas_bench_macro")
GRAD_CLIP = 5.0  # the default of training


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One way to train."""

    layout: torch.memory_format = torch.channels_last
    amp: str = "off"
    compiled: bool = False

    @property
    def name(self) -> str:
        layout = "channels_last" if self.layout == torch.channels_last else "NCHW"
        options = {self.amp: self.amp != "off", "compiled": self.compiled}
        return ", ".join([layout, *(name for name, given in options.items() if given)])


def blocks_of(net: Supernet | Subnet) -> dict[str, nn.Module]:
    """Return the blocks that `--compile` compiles, as the training scripts name them."""
    if isinstance(net, Subnet):
        return {str(i): m for i, m in enumerate([net.stem, net.first, *net.layers, net.head])}
    return net.blocks()


class Training:
    """One network, its optimiser, and a step of them, as training does it.

    Args:
        backend: of torch.compile, where `kind` compiles.
    """

    def __init__(
        self, net: Supernet | Subnet, device: torch.device, kind: Kind, backend: str = "inductor"
    ) -> None:
        self.layout = kind.layout
        self.net = net.to(device, memory_format=self.layout).train()
        if kind.compiled:
            compile_blocks(blocks_of(net), backend)
        self.parameters = list(net.parameters())
        self.optimizer = build_optimizer("sgd", self.parameters, 1e-3, 0.9, 1e-4)
        self.precision = Precision(kind.amp, device)

    def step(self, images: Tensor, labels: Tensor, *path: np.ndarray) -> None:
        """Update the weights once; a supernet is also given the path."""
        images = images.contiguous(memory_format=self.layout)
        self.optimizer.zero_grad(set_to_none=True)
        with self.precision.autocast():
            loss = nn.functional.cross_entropy(self.net(images, *path), labels)
        self.precision.backward(loss)
        self.precision.unscale(self.optimizer)
        nn.utils.clip_grad_norm_(self.parameters, GRAD_CLIP)
        self.precision.step(self.optimizer)


def batch_of(space: SearchSpace, args: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Draw images [B, 3, H, W] and labels [B] on the device."""
    size = args.batch_size, 3, space.input_size, space.input_size
    labels = torch.randint(0, space.num_classes, size[:1], device=args.device)
    return torch.randn(size, device=args.device), labels


def compare_supernet(space: SearchSpace, args: argparse.Namespace) -> None:
    """Print the steps of the supernet and of the standalone networks of its paths."""
    rng, (images, labels) = np.random.default_rng(0), batch_of(space, args)
    batch = images.contiguous(memory_format=torch.channels_last), labels
    whole = build_supernet(space)
    supernet = Training(whole, args.device, Kind())
    seconds: dict[str, list[float]] = {"supernet": [], "subnet": []}
    for _ in range(args.paths):
        path = rng.integers(0, space.num_choices)
        net = Subnet(space, path, space.training_style)
        inherit_weights(net, whole, path)
        subnet = Training(net, args.device, Kind())
        sides = {
            "supernet": lambda path=path: supernet.step(*batch, path),
            "subnet": lambda subnet=subnet: subnet.step(*batch),
        }
        for name, times in interleaved(sides, args.rounds).items():
            seconds[name] += times
    ms = {name: 1e3 * statistics.median(times) for name, times in seconds.items()}
    print(
        f"  {space.name:<16} subnet {ms['subnet']:8.1f} ms  supernet {ms['supernet']:8.1f} ms  "
        f"ratio {ratio(seconds, 'supernet', 'subnet'):.3f}",
        flush=True,
    )


def compare_options(space: SearchSpace, args: argparse.Namespace) -> None:
    """Print the steps of each way to train."""
    kinds = [Kind(layout=torch.contiguous_format)]
    for amp in ("off", "bf16"):
        kinds += [Kind(amp=amp)]
        kinds += [Kind(amp=amp, compiled=True)] if args.compile else []
    path, batch = np.random.default_rng(0).integers(0, space.num_choices), batch_of(space, args)
    sides = {}
    for kind in kinds:
        torch.manual_seed(0)
        training = Training(build_supernet(space), args.device, kind)
        sides[kind.name] = lambda training=training: training.step(*batch, path)
    seconds = interleaved(sides, args.rounds)
    print_ratios(f"{space.name}: one step", seconds, "NCHW")
    for name, times in seconds.items():
        print(f"  {name:<32}{args.batch_size / statistics.median(times):>10.0f} images/s")


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("part", choices=("supernet", "options"))
    parser.add_argument("--spaces", nargs="+", help="(default: all; for options proxylessnas)")
    parser.add_argument("--input-size", type=int, default=32, metavar="PX")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7, help="turns, for supernet per path")
    parser.add_argument("--paths", type=int, default=3, help="of supernet (default: 3)")
    parser.add_argument("--compile", action="store_true", help="options: also compiled blocks")
    parser.add_argument("--device", type=device, default="cpu")
    args = parser.parse_args()
    tune_malloc()
    print(f"{hardware()}\n{args.input_size} px, batch {args.batch_size}")
    compare = {"supernet": compare_supernet, "options": compare_options}[args.part]
    for name in args.spaces or (SPACES if args.part == "supernet" else SPACES[:1]):
        size = 32 if name == "nas_bench_macro" else args.input_size
        compare(load_space(name, size, 10), args)


if __name__ == "__main__":
    main()
