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
from torch.nn import functional as F

from config_file.arg_config.data_config import AugmentConfig
from config_file.arg_config.fields import flag
from config_file.arg_config.ranking_config import RankingConfig
from config_file.arg_config.sources import load_config
from config_file.arg_config.types import integer, widths
from evaluate_ranking import Inputs
from lookup_table import SKIPS_FIRST, SKIPS_LAST, Equivalence
from search_strategy.evaluator import Batches, Evaluator, uncalibrated_top1
from search_strategy.tallies import TALLIES
from utils.device import pick_device, seed_everything, tune_malloc
from utils.errors import user_errors
from utils.run_folder import start_log
from utils.statistics import rank_agreement, without_nan


@dataclass(frozen=True, kw_only=True)
class ChoicesConfig(RankingConfig):
    title: ClassVar[str] = "choices"

    sizes: tuple[int, ...] = flag((1, 2, 4), widths, "calibration batches", "N,N,...")
    reference: int = flag(20, integer(1), "batches to agree with", "N")


class Setting(Inputs):
    """A trained supernet, its images, and networks whose accuracy is known."""

    config: ChoicesConfig

    def evaluator(self) -> Evaluator:
        """An evaluator calibrated on the last of --sizes batches."""
        images = first_images(self.splits.calibration, self.config.sizes[-1])
        return Evaluator(self.supernets[0], images, self.images)

    def agreement(
        self,
        score: np.ndarray,
        others: dict[str, np.ndarray] | None = None,
        rows: np.ndarray | slice = slice(None),
    ) -> tuple[dict, dict]:
        """Return τ and its interval of a score of some networks, and the same of others."""
        rng = np.random.default_rng(self.config.run.random_seed)
        accuracy, draws = self.benchmark.accuracy[rows], self.config.bootstrap
        found = rank_agreement(score, accuracy, others or {}, (), draws, rng)
        own = {key: found[key] for key in ("kendall_tau", "kendall_tau_interval")}
        return own, found["baselines"]  # ahead_interval: by how much `score` is ahead of it


def first_images(batches: Batches, n: int) -> list[Tensor]:
    """Return the images of the first n batches. Raises ValueError where there are fewer."""
    images = [x for x, _ in itertools.islice(batches, n)]
    if len(images) < n:
        raise ValueError(f"the training images fill only {len(images)} batches, not {n}")
    return images


def compare_calibrations(setting: Setting) -> list[dict]:
    """Return a row per rule: mean |top-1 - reference's| in points, τ and its interval."""
    config, splits, supernet = setting.config, setting.splits, setting.supernets[0]
    plain = first_images(splits.calibration, max(*config.sizes, config.reference))
    largest, paths = max(config.sizes), setting.benchmark.architectures
    rules = {f"{n} batches": plain[:n] for n in (*config.sizes, config.reference)}
    rules[f"{largest} batches, augmented"] = first_images(splits.train, largest)
    left = [uncalibrated_top1(supernet, path, setting.images) for path in paths]
    scores = {"none": np.array(left)}  # the running statistics that training left behind
    for name, images in rules.items():
        scores[name] = Evaluator(supernet, images, setting.images)(paths)
    reference, rows = scores[f"{config.reference} batches"], []
    for name, score in scores.items():
        gap = float(np.abs(score - reference).mean())
        row = {"calibration": name, "mean_gap": gap, "mean_top1": float(score.mean())}
        rows.append(row | setting.agreement(score)[0])
    return rows


def compare_representatives(setting: Setting) -> dict:
    """Return τ over the networks that have several codes, by the code that is scored."""
    codes, space = setting.benchmark.architectures, setting.space
    last, first = (Equivalence(space, s).canonical(codes) for s in (SKIPS_LAST, SKIPS_FIRST))
    several = np.flatnonzero((last != first).any(axis=1))
    evaluator = setting.evaluator()
    by_last, by_first = evaluator(last[several]), evaluator(first[several])
    others = {"skips_first": by_first, "mean_of_both": (by_last + by_first) / 2}
    own, baselines = setting.agreement(by_last, others, several)
    return {
        "networks": len(several),
        "mean_top1": {"skips_last": by_last.mean(), "skips_first": by_first.mean()},
        "skips_last": own,
        **baselines,
    }


@torch.inference_mode()
def compare_scores(setting: Setting) -> dict:
    """Return τ of what could be maximised instead of top-1."""
    evaluator = setting.evaluator()
    paths = [tuple(path) for path in setting.benchmark.architectures.tolist()]
    keys = sorted(paths)
    nodes = evaluator.calibrate(keys)
    hits = dict.fromkeys(keys, 0)
    log_likelihood = dict.fromkeys(keys, 0.0)
    tallies = {key: {name: tally() for name, tally in TALLIES.items()} for key in keys}
    for images, labels in setting.images:
        for key, features in evaluator.walk(images, keys, nodes, calibrate=False):
            logits = evaluator.parts.classifier(features)
            hits[key] += int((logits.argmax(1) == labels).sum())
            log_likelihood[key] -= float(F.cross_entropy(logits.double(), labels, reduction="sum"))
            for tally in tallies[key].values():
                tally.add(features, logits, labels)
    others = {n: np.array([tallies[path][n].score() for path in paths]) for n in TALLIES}
    others["negative_loss"] = np.array([log_likelihood[path] for path in paths])
    top1 = np.array([hits[path] for path in paths])
    own, baselines = setting.agreement(top1, others)
    return {"top1": own, **baselines}


@user_errors
def main() -> None:
    start_log(stream=sys.stderr)
    config = load_config(ChoicesConfig, __doc__)
    tune_malloc()
    seed_everything(config.run.random_seed)
    # augmented batches are as large as plain ones
    augment, batch_size = AugmentConfig(augment=True), config.data.eval_batch_size
    setting = Setting.load(config, augment, batch_size, pick_device(config.run.device))
    found = {
        "images_per_batch": config.data.eval_batch_size,
        "num_architectures": len(setting.benchmark.accuracy),
        "calibration": compare_calibrations(setting),
        "representatives": compare_representatives(setting),
        "scores": compare_scores(setting),
    }
    print(json.dumps(without_nan(found), indent=2))


if __name__ == "__main__":
    main()
