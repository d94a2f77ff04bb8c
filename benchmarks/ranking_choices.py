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
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from config_file.arg_config.data_config import AugmentConfig
from config_file.arg_config.fields import flag
from config_file.arg_config.ranking_config import RankingConfig
from config_file.arg_config.sources import load_config
from config_file.arg_config.types import integer, widths
from data import Splits, load_splits
from evaluate_ranking import choose_networks, draw_images
from lookup_table import SKIPS_FIRST, SKIPS_LAST, Equivalence
from model import Supernet, build_supernet, load_space
from model.supernet_file import load_supernet, supernet_facts
from search_strategy.benchmark import Benchmark
from search_strategy.evaluator import Batches, Evaluator
from utils.device import pick_device, seed_everything, tune_malloc
from utils.errors import user_errors
from utils.run_folder import start_log
from utils.statistics import rank_agreement, without_nan


@dataclass(frozen=True, kw_only=True)
class ChoicesConfig(RankingConfig):
    title: ClassVar[str] = "choices"

    sizes: tuple[int, ...] = flag((1, 2, 4), widths, "calibration batches", "N,N,...")
    reference: int = flag(20, integer(1), "batches to agree with", "N")


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
    supernet: Supernet,
    splits: Splits,
    validation: Batches,
    benchmark: Benchmark,
    config: ChoicesConfig,
) -> list[dict]:
    """One row per rule: mean |top-1 - reference's| in points, τ and its interval."""
    plain = first_images(splits.calibration, max(*config.sizes, config.reference))
    largest = max(config.sizes)
    rules = {f"{n} batches": plain[:n] for n in (*config.sizes, config.reference)}
    rules[f"{largest} batches, augmented"] = first_images(splits.train, largest)
    paths = benchmark.architectures
    scores = {name: Evaluator(supernet, x, validation)(paths) for name, x in rules.items()}
    scores = {"none": np.array(uncalibrated_top1(supernet, paths, validation)), **scores}
    reference = scores[f"{config.reference} batches"]
    rng = np.random.default_rng(config.run.random_seed)
    rows = []
    for name, score in scores.items():
        found = rank_agreement(score, benchmark.accuracy, {}, (), config.bootstrap, rng)
        gap = float(np.abs(score - reference).mean())
        row = {"calibration": name, "mean_gap": gap, "mean_top1": float(score.mean())}
        rows.append(row | {key: found[key] for key in ("kendall_tau", "kendall_tau_interval")})
    return rows


def compare_representatives(
    supernet: Supernet,
    splits: Splits,
    validation: Batches,
    benchmark: Benchmark,
    config: ChoicesConfig,
) -> dict:
    """τ over the networks that have several codes, by the code that is scored."""
    space = supernet.space
    last, first = (
        Equivalence(space, skips).canonical(benchmark.architectures)
        for skips in (SKIPS_LAST, SKIPS_FIRST)
    )
    several = np.flatnonzero((last != first).any(axis=1))
    evaluator = Evaluator(supernet, first_images(splits.calibration, config.sizes[-1]), validation)
    by_last, by_first = evaluator(last[several]), evaluator(first[several])
    found = rank_agreement(
        by_last,
        benchmark.accuracy[several],
        {"skips_first": by_first, "mean_of_both": (by_last + by_first) / 2},
        (),
        config.bootstrap,
        np.random.default_rng(config.run.random_seed),
    )
    return {
        "networks": len(several),
        "mean_top1": {"skips_last": by_last.mean(), "skips_first": by_first.mean()},
        "skips_last": {key: found[key] for key in ("kendall_tau", "kendall_tau_interval")},
        **found["baselines"],  # ahead_interval: by how much skips_last is ahead of it
    }


@torch.inference_mode()
def compare_scores(
    supernet: Supernet,
    splits: Splits,
    validation: Batches,
    benchmark: Benchmark,
    config: ChoicesConfig,
) -> dict:
    """τ of what could be maximised instead of top-1; ahead_interval: by how much top-1 leads."""
    evaluator = Evaluator(supernet, first_images(splits.calibration, config.sizes[-1]), validation)
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
        config.bootstrap,
        np.random.default_rng(config.run.random_seed),
    )
    top1_row = {key: found[key] for key in ("kendall_tau", "kendall_tau_interval")}
    return {"top1": top1_row, **found["baselines"]}


@user_errors
def main() -> None:
    start_log(stream=sys.stderr)
    config = load_config(ChoicesConfig, __doc__)
    data = config.data
    tune_malloc()
    seed_everything(config.run.random_seed)
    device = pick_device(config.run.device)
    # augmented batches are as large as plain ones
    augment = AugmentConfig(augment=True)
    run, named = config.run, config.space
    splits = load_splits(data, augment, data.eval_batch_size, run.random_seed, device, run.cache)
    space = load_space(named.search_space, data.input_size, splits.num_classes, named.widths)
    benchmark = choose_networks(Benchmark.read(config.benchmark, space), config)
    supernet = build_supernet(space).to(device, memory_format=torch.channels_last)
    facts = supernet_facts(space, data.dataset, data.train_portion)
    load_supernet(config.checkpoint[0], supernet, facts)
    validation = draw_images(splits.validation, config.validation_images, config.run.random_seed)
    found = {
        "images_per_batch": data.eval_batch_size,
        "num_architectures": len(benchmark.accuracy),
        "calibration": compare_calibrations(supernet, splits, validation, benchmark, config),
        "representatives": compare_representatives(supernet, splits, validation, benchmark, config),
        "scores": compare_scores(supernet, splits, validation, benchmark, config),
    }
    print(json.dumps(without_nan(found), indent=2))


if __name__ == "__main__":
    main()
