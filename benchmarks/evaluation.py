"""Scoring a population with the evaluator against one candidate at a time.

python -m benchmarks.evaluation                            # evolution, generation 10, 60 networks
python -m benchmarks.evaluation --population random
python -m benchmarks.evaluation --space nas_bench_macro --population all --networks 200
python -m benchmarks.evaluation --networks 12 --images 512 --rounds 1

The baseline builds each candidate's standalone network and runs it in float32 NCHW under
inference_mode at batch 256, calibration of its batch norms included. All see the same images and
take turns; ratios are medians. What runs one by one is timed on --sample networks and scaled to all
by MACs. Accuracy: the largest difference between the logits.

The population comes from the toolkit's own evolution on a score that is a random weight per layer
and choice, so nothing is trained; what matters here is how many prefixes its candidates share.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks._common import hardware, interleaved, print_ratios
from config_file.arg_config.fields import Parser
from lookup_table import Budget, BudgetCounts
from lookup_table.builder import load_table
from model import SearchSpace, Subnet, Supernet, build_supernet, inherit_weights, load_space
from search_strategy.evaluator import Evaluator, branching_points, common_prefix
from search_strategy.evolution import EvolutionConfig, EvolutionSearch
from search_strategy.scores import Key
from utils.device import tune_malloc

BATCH = 256
ALONE, NO_COMPANY = "one by one, fp32 NCHW", "evaluator, no company"


def evolved(space: SearchSpace, population: int, generation: int) -> np.ndarray:
    """Return the population of a generation (from 1) within the median budget, int [N, L]."""
    counts = BudgetCounts(load_table(space), "flops")
    rng = np.random.default_rng(0)
    worth = rng.normal(size=(space.num_layers, space.max_choices))
    config = EvolutionConfig(generation_num=generation, population=population)
    search = EvolutionSearch(config, Budget(counts, None, counts.median), rng)
    for _ in range(generation):
        architectures = search.ask()
        search.tell(architectures, worth[np.arange(space.num_layers), architectures].sum(1))
    return architectures


def choose_population(space: SearchSpace, args: argparse.Namespace) -> np.ndarray:
    """Return the first --networks of --population, int [N, L]."""
    if args.population == "evolution":
        architectures = evolved(space, 60, args.generation)
    elif args.population == "random":
        rng = np.random.default_rng(0)
        architectures = rng.integers(0, space.num_choices, (60, space.num_layers))
    else:
        architectures = np.array(list(itertools.product(*map(range, space.num_choices))))
    return architectures[: args.networks]


@torch.inference_mode()
def standalone_logits(
    supernet: Supernet, architecture: np.ndarray, calibration: list[Tensor], images: list[Tensor]
) -> Tensor:
    """Build, calibrate and run one candidate alone: the baseline."""
    net = Subnet(supernet.space, architecture)
    inherit_weights(net, supernet, architecture)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.reset_running_stats()
            m.momentum = None
    net.train()
    net.head.dropout.eval()
    for x in calibration:
        net(x)
    net.eval()
    return torch.cat([net(x) for x in images])


def trie_share(space: SearchSpace, architectures: np.ndarray) -> float:
    """Return the MACs that the trie computes over those of all candidates one by one."""
    table = load_table(space)
    costs, fixed = table.costs["flops"], table.fixed["flops"]
    keys = sorted(map(tuple, architectures.tolist()))
    shared = [0, *(common_prefix(a, b) for a, b in itertools.pairwise(keys))]
    layers = [costs[np.arange(len(key)), key] for key in keys]
    done = sum(c[s:].sum() for c, s in zip(layers, shared, strict=True))
    return float(done + fixed) / float(sum(c.sum() + fixed for c in layers))


def sides_of(
    supernet: Supernet, architectures: np.ndarray, sample: np.ndarray, args: argparse.Namespace
) -> dict[str, Callable[[], dict[Key, Tensor]]]:
    """Return ways to compute the logits [images, K] of networks, by their keys."""
    space, generator = supernet.space, torch.Generator().manual_seed(0)
    size = space.input_size

    def batches(n: int) -> list[Tensor]:
        return list(torch.randn(n, 3, size, size, generator=generator).split(BATCH))

    calibration, images = batches(args.calibration_images), batches(args.images)
    validation = [(x, torch.randint(0, space.num_classes, (len(x),))) for x in images]

    def evaluate(groups: Iterable[np.ndarray], precision: str = "fp32") -> dict[Key, Tensor]:
        logits = {}
        for group in groups:
            evaluator = Evaluator(supernet, calibration, validation, precision)
            keys = sorted(map(tuple, group.tolist()))
            nodes = evaluator.calibrate(keys)
            with torch.inference_mode():
                parts = [dict(evaluator.walk(x, keys, nodes, calibrate=False)) for x in images]
                classify = evaluator.parts.classifier
                logits |= {key: classify(torch.cat([x[key] for x in parts])) for key in keys}
        return logits

    def baseline() -> dict[Key, Tensor]:
        return {
            tuple(a.tolist()): standalone_logits(supernet, a, calibration, images) for a in sample
        }

    return {
        ALONE: baseline,
        NO_COMPANY: lambda: evaluate(sample[:, None]),
        "evaluator, fp32": lambda: evaluate([architectures]),
        "evaluator, bf16": lambda: evaluate([architectures], "bf16"),
    }


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--space", default="proxylessnas")
    parser.add_argument("--population", choices=("evolution", "random", "all"), default="evolution")
    parser.add_argument("--generation", type=int, default=10)
    parser.add_argument("--networks", type=int, help="only the first so many (default: all)")
    parser.add_argument("--input-size", type=int, default=32)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--calibration-images", type=int, default=256)
    parser.add_argument("--sample", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm-up", type=int, default=1, help="rounds that do not count")
    args = parser.parse_args()
    tune_malloc()
    torch.manual_seed(0)
    space = load_space(args.space, args.input_size, 10)
    supernet = build_supernet(space).to(memory_format=torch.channels_last)
    architectures = choose_population(space, args)
    rng = np.random.default_rng(1)
    sample = rng.permutation(architectures)[: args.sample]
    keys = sorted(map(tuple, architectures.tolist()))
    print(hardware())
    print(
        f"{len(keys)} networks of {space.name} ({args.population}) at {args.input_size} px, "
        f"{args.calibration_images} + {args.images} images, "
        f"{len(sample)} one by one; the trie computes "
        f"{trie_share(space, architectures):.3f} of the MACs, and keeps up to "
        f"{max(map(len, branching_points(keys)))} activations"
    )
    results: dict[str, dict[Key, Tensor]] = {}

    def run(name: str) -> None:
        results[name] = sides[name]()

    sides = sides_of(supernet, architectures, sample, args)
    seconds = interleaved({name: partial(run, name) for name in sides}, args.rounds, args.warm_up)
    macs = [load_table(space).cost(rows, "flops").sum() for rows in (architectures, sample)]
    for name in (ALONE, NO_COMPANY):
        seconds[name] = [macs[0] / macs[1] * s for s in seconds[name]]
    print_ratios("speed against one by one", seconds, ALONE)
    for name, logits in results.items():
        error = max((logits[k] - x).abs().max().item() for k, x in results[ALONE].items())
        print(f"  {name}: logits differ by at most {error:.2g}")


if __name__ == "__main__":
    main()
