"""What is sent between processes, per space, and what that costs on 8 to 512 GPUs.

python benchmarks/scaling.py                                  # InfiniBand of 50 GB/s per GPU
python benchmarks/scaling.py --bandwidth 12.5 --latency 15    # 100 Gbit/s Ethernet
python benchmarks/scaling.py --step-ms 25 --gpus 8 64 512 --spaces fbnet

Efficiency is the computation's share of a step, with the same images per GPU: by a formula, in
which all ranks and hops are alike, and by a Monte-Carlo simulation, message by message, in which
they are not. No measurement: for that, on one machine, see scaling_processes.py.

    ring    all GPUs in one ring: 2 (n - 1) rounds, each of a hop and 1/n of the buffer
    nodes   rings of 8 GPUs by NVLink, and between machines one ring per GPU of a machine

Nothing overlaps with the backward pass, as one flat all-reduce follows it. NCCL also has trees,
with a latency of log n, which are not modelled.
"""

from __future__ import annotations

import argparse
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lookup_table.builder import load_table
from model import SearchSpace, build_supernet, count_params, load_space

SPACES = ("proxylessnas", "fbnet", "spos", "singlepath", "nas_bench_macro")
FLOAT = 4  # bytes of a gradient
LOCAL = 8  # GPUs of a machine
RUNS, STEPS = 16, 6  # of the simulation: independent runs, and steps that follow each other


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


def phases(kind: str, size: float, n: int, args: Namespace) -> list[tuple[int, int, float, float]]:
    """What an all-reduce of `size` bytes is made of: rounds of hops along an axis of the GPUs.

    Returns:
        (axis, rounds, latency of a hop, ms to send its bytes), one after another; axis 1 is that
        of machines, or of all GPUs in a ring, and axis 2 that of the GPUs of a machine.
    """
    across = args.latency / 1e3
    if kind == "ring":
        return [(1, 2 * (n - 1), across, size / n / args.bandwidth / 1e6)]
    machines = n // LOCAL
    inside = (2, LOCAL - 1, args.nvlink_latency / 1e3, size / LOCAL / args.nvlink / 1e6)
    share = size / LOCAL / machines / args.bandwidth / 1e6
    return [inside, (1, 2 * (machines - 1), across, share), inside]  # scatter, reduce, gather


def by_formula(kind: str, size: float, n: int, args: Namespace) -> float:
    spent = sum(k * (latency + sending) for _, k, latency, sending in phases(kind, size, n, args))
    return args.step_ms / (args.step_ms + spent)


def jittered(shape: tuple[int, ...], spread: float, rng: np.random.Generator) -> np.ndarray:
    """Factors of mean 1, lognormal."""
    return rng.lognormal(-(spread**2) / 2, spread, shape)


def by_simulation(
    kind: str, size: float, n: int, args: Namespace, rng: np.random.Generator
) -> float:
    """The same with a clock per rank: its step takes its time, its messages take theirs.

    A rank sends in round k what it and its predecessor have finished in round k - 1, so that one
    late rank holds up its successors, and in the end all.
    """
    local = 1 if kind == "ring" else LOCAL
    clock = np.zeros((RUNS, n // local, local))  # ms
    for _ in range(STEPS):
        slow = 1 + args.straggler * (rng.random(clock.shape) < args.straggler_share)
        clock += args.step_ms * slow * jittered(clock.shape, args.step_jitter, rng)
        for axis, rounds, latency, sending in phases(kind, size, n, args):
            for _ in range(rounds):
                hop = latency * jittered(clock.shape, args.latency_jitter, rng) + sending
                clock = np.maximum(clock, np.roll(clock, 1, axis)) + hop
    return float(args.step_ms * STEPS / clock.max((1, 2)).mean())


def search_by_simulation(
    space: SearchSpace, group: int, n: int, args: Namespace, rng: np.random.Generator
) -> float:
    """Busy share of n GPUs that score groups of candidates, as `utils.distributed.SharedScores`.

    A candidate's time goes with its MACs. Sorted, they are cut into equal parts, and the slowest
    rank ends a group; its keys and scores cross log2 n hops each, with their sizes before them.
    """
    table, shares = load_table(space), []
    for _ in range(RUNS):
        candidates = rng.integers(0, space.num_choices, (group, space.num_layers))
        candidates = candidates[np.lexsort(candidates.T[::-1])]
        cost = table.cost(candidates, "flops").astype(float)
        cost *= args.candidate_ms / cost.mean() * jittered(cost.shape, args.step_jitter, rng)
        part = -(-group // n)
        slowest = np.add.reduceat(cost, np.arange(0, group, part)).max()
        hops = 4 * np.ceil(np.log2(n)) * args.latency / 1e3
        shares.append(cost.sum() / n / (slowest + hops))
    return float(np.mean(shares))


def parse() -> Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--gpus", type=int, nargs="+", default=[8, 16, 32, 64, 128, 256, 512])
    add("--spaces", nargs="+", default=SPACES)
    add("--latency", type=float, default=5.0, help="us per hop between machines")
    add("--bandwidth", type=float, default=50.0, help="GB/s per GPU between machines")
    add("--nvlink-latency", type=float, default=2.0, help="us per hop within a machine")
    add("--nvlink", type=float, default=300.0, help="GB/s per GPU within a machine")
    add("--step-ms", type=float, default=50.0, help="of computation")
    add("--step-jitter", type=float, default=0.03, help="lognormal spread of a rank's step")
    add("--latency-jitter", type=float, default=0.3, help="lognormal spread of a hop's latency")
    add("--straggler-share", type=float, default=1e-4, help="of all steps of all ranks")
    add("--straggler", type=float, default=0.5, help="by how much longer such a step takes")
    add("--candidate-ms", type=float, default=1000.0, help="to score one candidate on a GPU")
    add("--groups", type=int, nargs="+", default=[60, 480, 4096], help="candidates asked at once")
    add("--input-size", type=int, default=224)
    add("--classes", type=int, default=1000)
    args = parser.parse_args()
    if wrong := [n for n in args.gpus if n % LOCAL or n < LOCAL]:
        parser.error(f"--gpus {wrong}: give multiples of {LOCAL}, the GPUs of a machine")
    return args


def main() -> None:
    args = parse()
    rng = np.random.default_rng(0)
    print(
        f"step {args.step_ms:g} ms, {args.latency:g} us per hop, {args.bandwidth:g} GB/s; active: "
        f"the gradients of one uniform path on average; all: what reducing every parameter sends"
    )
    counts = "".join(f"{n:>8}" for n in args.gpus) + "  GPUs"
    print(f"{'':<16}{'':>6}{'MB':>8}  efficiency on     {counts}")
    for name in args.spaces:
        small = name == "nas_bench_macro"  # a space of 32 px images
        space = load_space(name, 32 if small else args.input_size, 10 if small else args.classes)
        for what, size in zip(("active", "all"), bytes_per_step(space), strict=True):
            print(f"{name:<16}{what:>6}{size / 1e6:>8.1f}", flush=True)
            for kind in ("ring", "nodes"):
                formula = [by_formula(kind, size, n, args) for n in args.gpus]
                simulated = [by_simulation(kind, size, n, args, rng) for n in args.gpus]
                for label, values in (("formula", formula), ("simulated", simulated)):
                    print(f"{'':32}{kind:>6} {label:<10}" + "".join(f"{v:>8.1%}" for v in values))
    space = load_space(args.spaces[0], args.input_size, args.classes)
    print(f"\nsearch: busy share of the GPUs ({space.name}, {args.candidate_ms:g} ms a candidate)")
    for group in args.groups:
        shares = [search_by_simulation(space, group, n, args, rng) for n in args.gpus]
        print(f"{group:>28} at once, simulated " + "".join(f"{v:>8.1%}" for v in shares))


if __name__ == "__main__":
    main()
