"""What a training step sends between processes, per space, and what that costs on 8 to 512 GPUs.

python benchmarks/scaling.py                                  # InfiniBand of 50 GB/s per GPU
python benchmarks/scaling.py --bandwidth 12.5 --latency 15    # 100 Gbit/s Ethernet
python benchmarks/scaling.py --step-ms 25 --gpus 8 64 512

A simulation, no measurement: a ring all-reduce of B bytes among n takes
2 (n - 1) latency + 2 (n - 1) / n B / bandwidth; nothing overlaps with the backward pass, as one
flat all-reduce follows it. NCCL's trees have a latency of log n and do better for large n.
Efficiency is step / (step + all-reduce), with the same images per GPU.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from model import SearchSpace, build_supernet, count_params, load_space

SPACES = ("proxylessnas", "fbnet", "spos", "singlepath", "nas_bench_macro")
FLOAT = 4  # bytes of a gradient


def bytes_per_step(space: SearchSpace, draws: int = 200) -> tuple[float, int]:
    """Of gradients: of the active parameters, mean over uniform paths, and of all parameters."""
    supernet = build_supernet(space)
    rng = np.random.default_rng(0)
    sizes = {}
    total = 0
    for path in rng.integers(0, space.num_choices, (draws, space.num_layers)):
        for part in supernet.path_modules(path):
            if part not in sizes:
                sizes[part] = count_params(part)
            total += sizes[part]
    return FLOAT * total / draws, FLOAT * count_params(supernet)


def all_reduce_ms(size: float, n: int, latency_us: float, gigabytes_per_s: float) -> float:
    return 2 * (n - 1) * latency_us / 1e3 + 2 * (n - 1) / n * size / gigabytes_per_s / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gpus", type=int, nargs="+", default=[8, 16, 32, 64, 128, 256, 512])
    parser.add_argument("--latency", type=float, default=5.0, help="us per hop")
    parser.add_argument("--bandwidth", type=float, default=50.0, help="GB/s per GPU")
    parser.add_argument("--step-ms", type=float, default=50.0, help="of computation")
    parser.add_argument("--input-size", type=int, default=224)
    parser.add_argument("--classes", type=int, default=1000)
    args = parser.parse_args()
    print(
        f"step {args.step_ms:g} ms, {args.latency:g} us per hop, {args.bandwidth:g} GB/s; active: "
        f"the gradients of one uniform path on average; all: what reducing every parameter sends"
    )
    print(f"{'':<18}{'MB':>8}  efficiency on " + "".join(f"{n:>8}" for n in args.gpus) + "  GPUs")
    for name in SPACES:
        small = name == "nas_bench_macro"  # a space of 32 px images
        space = load_space(name, 32 if small else args.input_size, 10 if small else args.classes)
        for kind, size in zip(("active", "all"), bytes_per_step(space), strict=True):
            times = [all_reduce_ms(size, n, args.latency, args.bandwidth) for n in args.gpus]
            shares = "".join(f"{args.step_ms / (args.step_ms + t):>8.1%}" for t in times)
            label = name if kind == "active" else ""
            print(f"{label:<16}{kind:>6}{size / 1e6:>8.1f}" + " " * 12 + shares)


if __name__ == "__main__":
    main()
