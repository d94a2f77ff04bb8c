"""Three choices behind every score, measured on one trained supernet.

python -m benchmarks.ranking_choices --checkpoint runs/macro/supernet.pt --benchmark FILE.json
    --num-architectures 100 --sizes 1,2,4 --reference 20

calibration: top-1 after calibrating batch norms on few batches against that on many (--reference),
and the τ that each gives. representatives: where several codes are one network, the τ of scoring
the code with its skips last, the one with its skips first, or the mean of the two. scores: the τ of
top-1, of the mean probability of the true class, and of the mean loss. Prints JSON.
"""

from __future__ import annotations

import itertools
import json
import sys
from argparse import Namespace

import numpy as np
import torch
from torch import Tensor

from config_file.arg_config.common import Parser
from config_file.arg_config.layers import parse
from config_file.arg_config.ranking_config import ranking_parser
from config_file.arg_config.types import integer, widths
from data import Splits
from evaluate_ranking import choose_networks, draw_images
from lookup_table import SKIPS_FIRST, SKIPS_LAST, Equivalence
from model import Supernet, build_supernet
from search_strategy.evaluator import Batches, Evaluator
from search_strategy.ranking import Benchmark, read_benchmark
from supernet import load_inputs, load_supernet, supernet_facts
from utils.device import pick_device, seed_everything, tune_malloc
from utils.errors import user_errors
from utils.run_folder import start_log
from utils.statistics import rank_agreement, without_nan


def choices_parser(description: str) -> Parser:
    parser = ranking_parser(description)
    group = parser.add_argument_group("choices")
    group.add_argument(
        "--sizes", type=widths, default=[1, 2, 4], metavar="N,N,...", help="calibration batches"
    )
    group.add_argument(
        "--reference", type=integer(1), default=20, metavar="N", help="batches to agree with"
    )
    parser.set_defaults(augment=True)
    return parser


def first_images(batches: Batches, n: int) -> list[Tensor]:
    """The images of the first n batches. Raises ValueError where there are fewer."""
    images = [x for x, _ in itertools.islice(batches, n)]
    if len(images) < n:
        raise ValueError(f"the training images fill only {len(images)} batches, not {n}")
    return images


@torch.inference_mode()
def uncalibrated_top1(supernet: Supernet, architectures: np.ndarray, batches: Batches) -> list:
    """Top-1 in percent with the running statistics that training left behind."""
    supernet.eval()
    scores = []
    for path in architectures:
        hits = torch.cat([supernet(x, path).argmax(1) == y for x, y in batches])
        scores.append(100 * hits.double().mean().item())
    return scores


def compare_calibrations(
    supernet: Supernet, splits: Splits, validation: Batches, benchmark: Benchmark, args: Namespace
) -> list[dict]:
    """One row per rule: mean |top-1 - reference's| in points, τ and its interval."""
    plain = first_images(splits.calibration, max(*args.sizes, args.reference))
    largest = max(args.sizes)
    rules = {f"{n} batches": plain[:n] for n in (*args.sizes, args.reference)}
    rules[f"{largest} batches, augmented"] = first_images(splits.train, largest)
    paths = benchmark.architectures
    scores = {name: Evaluator(supernet, x, validation)(paths) for name, x in rules.items()}
    scores = {"none": np.array(uncalibrated_top1(supernet, paths, validation)), **scores}
    reference = scores[f"{args.reference} batches"]
    rng = np.random.default_rng(args.random_seed)
    rows = []
    for name, score in scores.items():
        found = rank_agreement(score, benchmark.accuracy, {}, (), args.bootstrap, rng)
        gap = float(np.abs(score - reference).mean())
        row = {"calibration": name, "mean_gap": gap, "mean_top1": float(score.mean())}
        rows.append(row | {key: found[key] for key in ("kendall_tau", "kendall_tau_interval")})
    return rows


def compare_representatives(
    supernet: Supernet, splits: Splits, validation: Batches, benchmark: Benchmark, args: Namespace
) -> dict:
    """τ over the networks that have several codes, by the code that is scored."""
    space = supernet.space
    last, first = (
        Equivalence(space, skips).canonical(benchmark.architectures)
        for skips in (SKIPS_LAST, SKIPS_FIRST)
    )
    several = np.flatnonzero((last != first).any(axis=1))
    evaluator = Evaluator(supernet, first_images(splits.calibration, args.sizes[-1]), validation)
    by_last, by_first = evaluator(last[several]), evaluator(first[several])
    found = rank_agreement(
        by_last,
        benchmark.accuracy[several],
        {"skips_first": by_first, "mean_of_both": (by_last + by_first) / 2},
        (),
        args.bootstrap,
        np.random.default_rng(args.random_seed),
    )
    return {
        "networks": len(several),
        "mean_top1": {"skips_last": by_last.mean(), "skips_first": by_first.mean()},
        "skips_last": {key: found[key] for key in ("kendall_tau", "kendall_tau_interval")},
        **found["baselines"],  # ahead_interval: by how much skips_last is ahead of it
    }


@torch.inference_mode()
def compare_scores(
    supernet: Supernet, splits: Splits, validation: Batches, benchmark: Benchmark, args: Namespace
) -> dict:
    """τ of what could be maximised instead of top-1; ahead_interval: by how much top-1 leads."""
    evaluator = Evaluator(supernet, first_images(splits.calibration, args.sizes[-1]), validation)
    keys = sorted(map(tuple, benchmark.architectures.tolist()))
    nodes = evaluator.calibrate(keys)
    sums = {key: torch.zeros(3, dtype=torch.float64) for key in keys}
    for images, labels in validation:
        for key, logits in evaluator.walk(images, keys, nodes, calibrate=False):
            log_p = logits.double().log_softmax(1).gather(1, labels[:, None])
            hits = logits.argmax(1) == labels
            sums[key] += torch.stack([hits.sum(), log_p.exp().sum(), log_p.sum()]).cpu()
    columns = torch.stack([sums[tuple(a)] for a in benchmark.architectures.tolist()], dim=1)
    top1, probability, log_likelihood = columns.numpy()
    found = rank_agreement(
        top1,
        benchmark.accuracy,
        {"probability": probability, "negative_loss": log_likelihood},
        (),
        args.bootstrap,
        np.random.default_rng(args.random_seed),
    )
    top1_row = {key: found[key] for key in ("kendall_tau", "kendall_tau_interval")}
    return {"top1": top1_row, **found["baselines"]}


@user_errors
def main() -> None:
    start_log(stream=sys.stderr)
    parser = choices_parser(__doc__)
    args = parse(parser, sys.argv[1:])
    for name in ("checkpoint", "benchmark"):
        if getattr(args, name) is None:
            raise ValueError(f"--{name} FILE is missing; see --help")
    tune_malloc()
    seed_everything(args.random_seed)
    device = pick_device(args.device)
    args.batch_size = args.eval_batch_size  # so that augmented batches are as large as plain ones
    splits, space = load_inputs(args, device)
    benchmark = choose_networks(read_benchmark(args.benchmark, space), args)
    supernet = build_supernet(space).to(device, memory_format=torch.channels_last)
    load_supernet(args.checkpoint, supernet, supernet_facts(args, space))
    validation = draw_images(splits.validation, args.validation_images, args.random_seed)
    found = {
        "images_per_batch": args.eval_batch_size,
        "num_architectures": len(benchmark.accuracy),
        "calibration": compare_calibrations(supernet, splits, validation, benchmark, args),
        "representatives": compare_representatives(supernet, splits, validation, benchmark, args),
        "scores": compare_scores(supernet, splits, validation, benchmark, args),
    }
    print(json.dumps(without_nan(found), indent=2))


if __name__ == "__main__":
    main()
