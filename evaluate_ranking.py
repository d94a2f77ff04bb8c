"""Judge a supernet by its ranking of networks whose true accuracy is known.

python evaluate_ranking.py --checkpoint runs/macro/supernet.pt --benchmark nas_bench_macro.json
python evaluate_ranking.py ... --num-architectures 500 --budgets 48,55,63,86
python evaluate_ranking.py --checkpoint runs/{a,b,c}/supernet.pt ...   # mean and spread of three
python evaluate_ranking.py --title ranking --resume      # go on after an interruption

The last thing printed, and all that goes to standard output, is one JSON object: kendall_tau,
spearman_rho, num_architectures and more, each described in docs/results.md.
"""

from __future__ import annotations

from utils.startup import start_up

if __name__ == "__main__":  # before the imports that take a while
    start_up()

from config_file.arg_config.fields import answer_help
from config_file.arg_config.ranking_config import RankingConfig

if __name__ == "__main__":  # before those that take seconds
    answer_help(RankingConfig, __doc__)

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from config_file.arg_config.data_config import NO_AUGMENTATION, AugmentConfig
from config_file.arg_config.sources import load_config
from config_file.arg_config.start import open_run, record_run, set_up
from data import Loader, Splits, load_splits
from lookup_table import LookupTable
from lookup_table.builder import load_table
from lookup_table.table import MILLION
from model import SearchSpace, Supernet, build_supernet, keep_space, load_space
from model.supernet_file import load_supernet, supernet_facts
from search_strategy.additive import smoothed
from search_strategy.benchmark import (
    Benchmark,
    budget_regret,
    over_supernets,
    ranking_csv,
    trivial_scores,
)
from search_strategy.evaluator import Batches
from search_strategy.scores import ScoreLog
from search_strategy.tallies import SCORES
from search_strategy.workers import LocalWorkers, build_evaluator, scoring_processes
from utils.device import SEARCH_STREAM, stream
from utils.errors import user_errors
from utils.files import write_text
from utils.plots import plot_ranking
from utils.report import Phases
from utils.run_folder import log, start_log
from utils.statistics import kendall_tau, rank_agreement, training_agreement, without_nan
from utils.threads import set_threads

TOP_K = (10, 50, 100)  # k of `top_k_overlap`
AGREEMENT_DRAWS = 20  # sets of three trainings, averaged


def choose_networks(benchmark: Benchmark, config: RankingConfig) -> Benchmark:
    """Take all networks of the benchmark, or --num-architectures of them at random.

    Raises:
        ValueError: it has fewer.
    """
    n, wanted = len(benchmark.accuracy), config.num_architectures
    if wanted is None:
        return benchmark
    if wanted > n:
        raise ValueError(
            f"--num-architectures {wanted}: {config.benchmark} has {n} distinct networks; "
            f"take fewer"
        )
    rows = stream(config.run.random_seed, SEARCH_STREAM).permutation(n)[:wanted]
    return benchmark.take(np.sort(rows))  # lexicographic order again


def draw_images(loader: Loader, n: int | None, seed: int) -> Batches:
    """Return all batches of a loader, or batches of n of its images, drawn without replacement.

    Raises:
        ValueError: it has fewer images.
    """
    if n is None:
        return loader
    if n > loader.num_images:
        raise ValueError(
            f"--validation-images {n}: the validation part has {loader.num_images}; take fewer"
        )
    chosen = torch.zeros(loader.num_images, dtype=torch.bool)  # a mask: images keep their order
    chosen[torch.from_numpy(np.random.default_rng(seed).permutation(loader.num_images)[:n])] = True
    kept, start = [], 0
    for images, labels in loader:
        rows = chosen[start : start + len(labels)].to(labels.device)
        kept.append((images[rows], labels[rows]))
        start += len(labels)
    batches = (torch.cat(parts).split(loader.batch_size) for parts in zip(*kept, strict=True))
    return list(zip(*batches, strict=True))


@dataclass(frozen=True)
class Inputs:
    """Supernets of one space, the networks that they rank, and the images; `config` fits these."""

    config: RankingConfig
    splits: Splits
    space: SearchSpace
    table: LookupTable
    benchmark: Benchmark
    supernets: list[Supernet]
    images: Batches

    @classmethod
    def load(
        cls, config: RankingConfig, augment: AugmentConfig, batch_size: int, device: torch.device
    ) -> Inputs:
        """Load them by the flags; `augment` and `batch_size` are of training images.

        Raises:
            ValueError: a file is not usable, or not of this space and data.
        """
        run, data, named = config.run, config.data, config.space
        splits = load_splits(data, augment, batch_size, run.random_seed, device, run.cache)
        config = splits.fitted(config)
        space, costed = (  # costs may be those of another input size
            load_space(named.search_space, size, splits.num_classes, named.widths)
            for size in (data.input_size, config.cost_input_size or data.input_size)
        )
        table = load_table(costed, run.cache_dir)
        benchmark = choose_networks(Benchmark.read(config.benchmark, space), config)
        cost = table.cost(benchmark.architectures, config.info_metric)
        # for its error: a budget that none keeps is refused before anything is scored
        budget_regret(benchmark, benchmark.accuracy, cost, config.budgets or ())
        facts = supernet_facts(space, data.dataset, data.train_portion, splits.fingerprint)
        supernets = []
        for path in config.checkpoint:
            net = build_supernet(space).to(device).to(memory_format=torch.channels_last)
            load_supernet(path, net, facts)
            supernets.append(net)
        images = draw_images(splits.validation, config.validation_images, run.random_seed)
        return cls(config, splits, space, table, benchmark, supernets, images)

    @property
    def cost(self) -> np.ndarray:
        """Costs of the networks by --info-metric, int64 [N]."""
        return self.table.cost(self.benchmark.architectures, self.config.info_metric)

    def result(self, scores: dict[str, np.ndarray]) -> dict:
        """Compute what is printed of one supernet; float [N] score, smoothed and top1 of each."""
        config, benchmark, cost = self.config, self.benchmark, self.cost
        rng = np.random.default_rng(config.run.random_seed)
        # by default the quartiles; the last one holds all networks
        budgets = config.budgets or (np.quantile(cost, [0.25, 0.5, 0.75, 1]) / MILLION).tolist()
        others = trivial_scores(benchmark.architectures, self.space, self.table)
        others["smoothed"] = scores["smoothed"]
        agreement = rank_agreement(
            scores["score"], benchmark.accuracy, others, TOP_K, config.bootstrap, rng
        )
        smooth = agreement["baselines"].pop("smoothed")  # reported beside the score
        smooth["regret"] = budget_regret(benchmark, scores["smoothed"], cost, budgets)
        trainings = None
        if benchmark.std is not None:
            trainings = training_agreement(benchmark.accuracy, benchmark.std, AGREEMENT_DRAWS, rng)
        return {
            "score": config.evaluation.score,
            **agreement,
            "smoothed": smooth,
            "num_architectures": len(benchmark.accuracy),
            "num_codes": benchmark.num_codes,
            "training_agreement": trainings,
            "info_metric": config.info_metric,
            "regret": budget_regret(benchmark, scores["score"], cost, budgets),
            "mean_top1": float(scores["top1"].mean()),
        }

    def plot(self, path: Path, score: np.ndarray) -> None:
        """Draw scores over true accuracies, coloured by cost."""
        config, accuracy = self.config, self.benchmark.accuracy
        plot_ranking(
            path,
            score,
            accuracy,
            self.cost / MILLION,
            self.table.metric(config.info_metric).label,
            SCORES[config.evaluation.score],
            f"{Path(config.space.search_space).stem} on {config.data.dataset}, {len(score)} "
            f"networks: τ = {kendall_tau(score, accuracy):.3f}",
        )


@user_errors
def main() -> None:
    start_log(stream=sys.stderr)
    phases = Phases()
    config = load_config(RankingConfig, __doc__)
    run, data = config.run, config.data
    device = set_up(run, sys.stderr)
    with phases("data and lookup table"):
        inputs = Inputs.load(config, NO_AUGMENTATION, 2, device)  # 2: no training
        config, space, splits = inputs.config, inputs.space, inputs.splits
        middle, first = space.num_choices // 2, inputs.supernets[0]  # a path to time
        threads = set_threads(run.threads, first, data.eval_batch_size, data.input_size, middle)
        evaluators = [
            build_evaluator(net, splits.calibration, inputs.images, config.evaluation)
            for net in inputs.supernets
        ]

    name = f"ranking_{Path(config.space.search_space).stem}_{data.dataset}"
    folder = open_run(run, name, sys.stderr)
    keep_space(folder, space)
    record_run(folder, config.with_threads(threads), device)
    benchmark, networks = inputs.benchmark, inputs.benchmark.architectures
    log.info(
        f"{len(networks)} distinct networks ({benchmark.num_codes} codes in {config.benchmark})"
    )
    columns: dict[str, np.ndarray] = {}
    results: list[dict] = []
    for number, (path, evaluator) in enumerate(zip(config.checkpoint, evaluators, strict=True), 1):
        suffix = f"_{number}" if len(evaluators) > 1 else ""
        workers = LocalWorkers(evaluator, scoring_processes(splits.validation))
        logged = ScoreLog(workers, folder / f"candidates{suffix}.log", space)
        with phases("scoring"), logged.progress(len(networks), f"ranking{suffix}"):
            scores = {"score": logged(networks)}  # what an interrupted run has logged is reused
            scores["smoothed"] = smoothed(networks, scores["score"], space.num_choices)
            scores["top1"] = logged.top1(networks)
        workers.close()  # before the next supernet forks its own
        columns |= {f"{name}{suffix}": values for name, values in scores.items()}
        with phases("statistics"):
            results.append({"checkpoint": str(path), **inputs.result(scores)})
        inputs.plot(folder / f"ranking{suffix}.png", scores["score"])
    write_text(folder / "ranking.csv", ranking_csv(space, inputs.table, benchmark, columns))
    found = results[0] if len(results) == 1 else over_supernets(results)
    found |= {"seconds": phases.seconds, "folder": str(folder)}
    text = json.dumps(without_nan(found), indent=2)
    write_text(folder / "ranking.json", text + "\n")
    print(text)


if __name__ == "__main__":
    main()
