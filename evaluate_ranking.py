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
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from config_file.arg_config.data_config import NO_AUGMENTATION
from config_file.arg_config.sources import load_config
from config_file.arg_config.start import open_run, record_run, set_up
from data import Loader, load_splits
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
from search_strategy.evaluator import SCORES
from search_strategy.scores import ScoreLog
from search_strategy.workers import LocalWorkers, build_evaluator, scoring_processes
from utils.device import SEARCH_STREAM, stream
from utils.errors import user_errors
from utils.files import write_text
from utils.plots import plot_ranking
from utils.run_folder import log, start_log
from utils.statistics import kendall_tau, rank_agreement, training_agreement, without_nan
from utils.threads import set_threads
from utils.timing import Phases

TOP_K = (10, 50, 100)
AGREEMENT_DRAWS = 20


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
    return benchmark.take(np.sort(rows))


def draw_images(loader: Loader, n: int | None, seed: int) -> Loader | list[tuple[Tensor, Tensor]]:
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
    chosen = np.zeros(loader.num_images, dtype=bool)
    chosen[np.random.default_rng(seed).permutation(loader.num_images)[:n]] = True
    images, labels, start = [], [], 0
    for x, y in loader:
        rows = torch.from_numpy(np.flatnonzero(chosen[start : start + len(y)])).to(y.device)
        images.append(x[rows])
        labels.append(y[rows])
        start += len(y)
    size = loader.batch_size
    batches = zip(torch.cat(images).split(size), torch.cat(labels).split(size), strict=True)
    return list(batches)


def result(
    config: RankingConfig,
    space: SearchSpace,
    table: LookupTable,
    benchmark: Benchmark,
    scores: dict[str, np.ndarray],
) -> dict:
    """Compute what is printed of one supernet. `scores`: float [N] score, smoothed and top1."""
    rng = np.random.default_rng(config.run.random_seed)
    cost = table.cost(benchmark.architectures, config.info_metric)
    budgets = config.budgets or (np.quantile(cost, [0.25, 0.5, 0.75, 1]) / MILLION).tolist()
    others = trivial_scores(benchmark.architectures, space, table)
    others["smoothed"] = scores["smoothed"]
    agreement = rank_agreement(
        scores["score"], benchmark.accuracy, others, TOP_K, config.bootstrap, rng
    )
    smooth = agreement["baselines"].pop("smoothed")
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


def load_supernets(
    config: RankingConfig, space: SearchSpace, device: torch.device
) -> list[Supernet]:
    """Load the supernets of all checkpoints. Raises ValueError where one is not of this space."""
    facts = supernet_facts(space, config.data.dataset, config.data.train_portion)
    supernets = []
    for path in config.checkpoint:
        net = build_supernet(space).to(device).to(memory_format=torch.channels_last)
        load_supernet(path, net, facts)
        supernets.append(net)
    return supernets


def scores_of(networks: np.ndarray, logged: ScoreLog, space: SearchSpace) -> dict[str, np.ndarray]:
    """Score networks int [N, L], but what an interrupted run has logged; columns float [N]."""
    score = logged(networks)
    return {
        "score": score,
        "smoothed": smoothed(networks, score, space.num_choices),
        "top1": logged.top1(networks),
    }


def plot(
    path: Path, config: RankingConfig, table: LookupTable, benchmark: Benchmark, score: np.ndarray
) -> None:
    """Draw scores over true accuracies, coloured by cost."""
    tau = kendall_tau(score, benchmark.accuracy)
    plot_ranking(
        path,
        score,
        benchmark.accuracy,
        table.cost(benchmark.architectures, config.info_metric) / MILLION,
        table.metric(config.info_metric).label,
        SCORES[config.evaluation.score],
        f"{Path(config.space.search_space).stem} on {config.data.dataset}, {len(score)} networks: "
        f"τ = {tau:.3f}",
    )


@user_errors
def main() -> None:
    start_log(stream=sys.stderr)
    phases = Phases()
    config = load_config(RankingConfig, __doc__)
    run, data = config.run, config.data
    device = set_up(run, sys.stderr)
    with phases("data and lookup table"):
        splits = load_splits(data, NO_AUGMENTATION, 2, run.random_seed, device, run.cache)
        config = splits.fitted(config)
        name, widths = config.space.search_space, config.space.widths
        space, costed = (
            load_space(name, size, splits.num_classes, widths)
            for size in (data.input_size, config.cost_input_size or data.input_size)
        )
        table = load_table(costed, run.cache_dir)
        benchmark = choose_networks(Benchmark.read(config.benchmark, space), config)
        supernets = load_supernets(config, space, device)
        middle = space.num_choices // 2
        threads = set_threads(run.threads, supernets[0], 2, data.input_size, middle)
        config = config.with_threads(threads)
        images = draw_images(splits.validation, config.validation_images, run.random_seed)
        evaluators = [
            build_evaluator(net, splits.calibration, images, config.evaluation) for net in supernets
        ]

    folder = open_run(run, f"ranking_{Path(name).stem}_{data.dataset}", sys.stderr)
    keep_space(folder, space)
    record_run(folder, config, device)
    networks = benchmark.architectures
    log.info(
        f"{len(networks)} distinct networks ({benchmark.num_codes} codes in {config.benchmark})"
    )
    columns: dict[str, np.ndarray] = {}
    results: list[dict] = []
    for path, evaluator in zip(config.checkpoint, evaluators, strict=True):
        suffix = f"_{len(results) + 1}" if len(evaluators) > 1 else ""
        workers = LocalWorkers(evaluator, scoring_processes(splits.validation))
        logged = ScoreLog(workers, folder / f"candidates{suffix}.log", space)
        with phases("scoring"), logged.progress(len(networks), f"ranking{suffix}"):
            scores = scores_of(networks, logged, space)
        workers.close()
        columns |= {f"{name}{suffix}": values for name, values in scores.items()}
        with phases("statistics"):
            found = result(config, space, table, benchmark, scores)
        results.append({"checkpoint": str(path), **found})
        plot(folder / f"ranking{suffix}.png", config, table, benchmark, scores["score"])
    write_text(folder / "ranking.csv", ranking_csv(space, table, benchmark, columns))
    found = results[0] if len(results) == 1 else over_supernets(results)
    found |= {"seconds": phases.seconds, "folder": str(folder)}
    text = json.dumps(without_nan(found), indent=2)
    write_text(folder / "ranking.json", text + "\n")
    print(text)


if __name__ == "__main__":
    main()
