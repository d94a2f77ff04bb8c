"""Processes of this machine that average gradients after a pause in place of a GPU's step.

python -m benchmarks.scaling_processes
python -m benchmarks.scaling_processes --processes 2 4 --sleep-ms 50 --rounds 10

The product's own all-reduce (gloo, loopback) of real gradient sizes: those of the paths' active
parameters, as training sends them, and those of all parameters, by turns. A process only sleeps
while its GPU would compute, so few cores do for many. Efficiency: the pause's share of a step.
"""

from __future__ import annotations

import os
import socket
import statistics
import time

import numpy as np
import torch
import torch.multiprocessing as mp

from benchmarks._common import hardware
from config_file.arg_config.fields import Parser
from model import Supernet, build_supernet, load_space
from utils import distributed

PATHS = 5  # in a row, of active and of all parameters


def steps(supernet: Supernet, rounds: int, pause: float) -> dict[str, tuple[float, float]]:
    """Return median seconds of a step, and mean bytes of gradients in it, of each kind."""
    rng = np.random.default_rng(0)
    parameters = list(supernet.parameters())
    seconds: dict[str, list[float]] = {"active": [], "all": []}
    sizes: dict[str, list[int]] = {"active": [], "all": []}
    choices = supernet.space.num_choices
    for path in rng.integers(0, choices, (rounds * PATHS, len(choices))):
        active = {p for part in supernet.path_modules(path) for p in part.parameters()}
        for kind, used in (("active", active), ("all", set(parameters))):
            for p in parameters:
                p.grad = torch.ones_like(p) if p in used else None
            distributed.add_up(torch.zeros(1))  # all start together
            start = time.perf_counter()
            time.sleep(pause)
            distributed.average_gradients(parameters, 0.0)
            seconds[kind].append(time.perf_counter() - start)
            sizes[kind].append(sum(p.numel() * p.element_size() for p in used))
    return {k: (statistics.median(seconds[k]), statistics.mean(sizes[k])) for k in seconds}


def child(rank: int, size: int, port: int, supernet: Supernet, rounds: int, pause: float) -> None:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": port}
    os.environ.update({k: str(v) for k, v in place.items()}, MASTER_ADDR="127.0.0.1")
    distributed.join(torch.device("cpu"))
    results = steps(supernet, rounds, pause)
    if rank == 0:
        for kind, (taken, sent) in results.items():
            print(
                f"{size:>10} {kind:>8} {sent / 1e6:>8.1f} MB {1e3 * taken:>8.1f} ms a step, "
                f"efficiency {pause / taken:.1%}",
                flush=True,
            )


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--space", default="proxylessnas")
    parser.add_argument("--sleep-ms", type=float, default=50.0, help="in place of computing")
    parser.add_argument("--rounds", type=int, default=4)
    args = parser.parse_args()
    torch.set_num_threads(1)
    supernet = build_supernet(load_space(args.space, 32, 10))
    print(f"{hardware()}; {args.space}, 32 px, 10 classes, a pause of {args.sleep_ms:g} ms")
    for size in args.processes:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        work = (size, port, supernet, args.rounds, args.sleep_ms / 1e3)
        mp.start_processes(child, work, size, start_method="fork")


if __name__ == "__main__":
    main()
