"""Search a network: train a supernet (or load one), search it within a budget, report.

python search.py --search-strategy evolution             # on the embedded digits, in minutes
python search.py --search-space fbnet --dataset cifar10 --target-hc 60 --title fbnet_c10
python search.py --title fbnet_c10 --resume               # go on after an interruption
python search.py --checkpoint runs/fbnet_c10/supernet.pt --info-metric latency --target-hc 2.5
torchrun --nproc_per_node 4 search.py --dataset cifar10    # see docs/scaling.md
python search.py --oracle nas_bench_macro.json --search-space nas_bench_macro --input-size 32
"""

from __future__ import annotations

from utils.startup import start_up

if __name__ == "__main__":  # before the imports that take a while
    start_up()

from config_file.arg_config.fields import answer_help
from config_file.arg_config.search_config import SearchConfig

if __name__ == "__main__":  # before those that take seconds
    answer_help(SearchConfig, __doc__)

from pathlib import Path

from config_file.arg_config.sources import load_config
from config_file.arg_config.start import open_run, record_run, set_up
from data import Splits
from lookup_table import Equivalence, build_budget
from lookup_table.latency import latency_rows
from lookup_table.user_table import keep_costs
from model import Supernet, keep_space
from model.supernet_file import load_supernet, supernet_facts
from search_strategy.benchmark import Benchmark
from search_strategy.differentiable import Prior
from search_strategy.evaluator import Evaluator, uncalibrated_top1
from search_strategy.history import History
from search_strategy.plan import search_plan, space_text
from search_strategy.report import SearchReport
from search_strategy.scores import ScoreLog, SharedScores
from search_strategy.searched_run import SearchedRun, agreement, search_again
from search_strategy.searches import Searches, new_strategy
from search_strategy.strategy import FinishedSearch, SearchStrategy
from search_strategy.workers import LocalWorkers, build_evaluator, scoring_processes
from train_supernet import build_costs, load_inputs, new_supernet, supernet_rows, train
from utils import ranks
from utils.checkpoint import load_checkpoint
from utils.errors import memory_hint, user_errors
from utils.report import Phases
from utils.run_folder import log, start_log
from utils.threads import set_threads
from utils.tracker import Tracker, load_callback


def load_weights(config: SearchConfig, supernet: Supernet, images: str) -> Prior:
    """Load the weights of --checkpoint, if a split of these images trained it; return its prior."""
    assert config.checkpoint is not None
    data = config.data
    facts = supernet_facts(supernet.space, data.dataset, data.train_portion, images)
    state = load_supernet(config.checkpoint, supernet, facts)
    return Prior.read(state, config.strategy, config.checkpoint)


def report_search(
    searches: Searches,
    strategy: SearchStrategy,
    found: History,
    prior: Prior,
    evaluator: Evaluator | None,
    splits: Splits,
    phases: Phases,
) -> SearchReport:
    """Compare the answer with random networks, other seeds, the largest network; test it."""
    config, scores, budget = searches.config, searches.scores, searches.budget
    metric, window = config.budget.info_metric, config.budget.window
    more = strategy.chosen_by, budget.limits[1:], config.metrics
    report = SearchReport(searches.folder, found, config.in_effect(), metric, window, *more)
    answer = found.architectures[report.winner]
    if strategy.is_random:
        report.add_random(found)
    elif config.random_control:
        with phases("random control"):
            report.add_random(searches.random_control(len(found)))
    if config.seeds > 1:
        with phases("other seeds"):
            report.add_seeds(searches.best_of_seeds(found))
    with phases("controls and test"):
        largest = budget.largest()
        top1 = scores.scored_top1(largest[None])[0]
        report.add_largest(largest, top1, budget.largest_is_exact)
        if evaluator is not None:
            plain = uncalibrated_top1(evaluator.supernet, answer, splits.validation)
            report.add_uncalibrated(plain)
            report.add_test(evaluator.test(answer, splits.test))  # the only use of the test set
        finished = FinishedSearch(
            folder=searches.folder,
            history=found,
            answer=answer,
            metric=metric,
            target=budget.target,
            top1=scores.scored_top1,
            validation_trained=prior.validation_trained,
        )
        report.add_findings(strategy.findings(finished))
        settings = config.latency.settings(splits.train.device)
        report.rows |= latency_rows(searches.space, budget, answer, settings)
    return report


def add_supernets(report: SearchReport, searches: Searches, found: History, splits: Splits) -> None:
    """Repeat the search on supernets of other seeds; report how far they agree."""
    config, budget, device = searches.config, searches.budget, splits.train.device
    answer, table = found.architectures[report.winner], budget.counts.table
    first = SearchedRun(searches.folder, config, searches.space, table, budget, answer)
    report.rows |= agreement(search_again(first, config.supernet_seeds, device), device)


@user_errors
def main() -> None:
    start_log()
    phases = Phases()
    config = load_config(SearchConfig, __doc__)
    run, prior = config.run, Prior()
    tracker = load_callback(run.tracker)
    device = set_up(run)
    with phases("data and lookup table"):
        splits, space = load_inputs(config, device)
        config = splits.fitted(config)
        data, training = config.data, config.training
        table = build_costs(config, space, config.metrics, device)
        oracle = Benchmark.read(config.oracle, space, table) if config.oracle else None
        threads, supernet, evaluator = run.threads, None, None
        if oracle is None:
            supernet, middle = new_supernet(config, space, device), space.num_choices // 2
            size = training.batch_size, data.input_size
            threads = threads if run.dry_run else set_threads(threads, supernet, *size, middle)
        config = config.resolve(space, table, threads)
        networks, known = Equivalence(space), None if oracle is None else oracle.architectures
        limits = config.budget.limits(table)
        budget = build_budget(table, limits, networks, known)
        if supernet is not None:
            if config.checkpoint:
                prior = load_weights(config, supernet, splits.fingerprint)
            evaluator = build_evaluator(
                supernet, splits.calibration, splits.validation, config.evaluation
            )
    untrained = None if config.checkpoint else supernet
    if run.dry_run:
        rows = untrained and supernet_rows(untrained, splits.train, training)
        strategy = new_strategy(config, budget, prior.probabilities)
        print(search_plan(config, space, networks, budget, strategy, rows or {}))
        return

    stem = Path(config.space.search_space).stem
    folder = open_run(run, f"{config.search_strategy}_{stem}_{data.dataset}")
    keep_space(folder, space)
    record_run(folder, config, device, keep_costs(folder, space, table))
    splits.keep(folder)
    log.info(space_text(space, networks, budget))
    hint = f"--eval-batch-size {data.eval_batch_size}: lower it, or --calibration-batches"
    with Tracker(folder / "tensorboard", tracker) as writer, memory_hint(hint):
        if untrained is not None:
            with phases("supernet training"):
                path, every = folder / "supernet.pt", build_budget(table, limits)
                more = splits.alpha_train, every, splits.fingerprint
                train(untrained, splits.train, config, path, writer, *more)
                if ranks.is_main():  # the others score only; a resumed run leaves them no file
                    prior = Prior.read(load_checkpoint(path), config.strategy, path)
        workers = evaluator and LocalWorkers(evaluator, scoring_processes(splits.validation))
        scorer = SharedScores(oracle or workers)  # type: ignore[arg-type]  # one of them is there
        if scorer.run_worker():  # a rank other than 0, whose work is done with rank 0's
            return
        log_file = None if oracle else folder / "candidates.log"
        scores = ScoreLog(scorer, log_file, space)
        searches = Searches(config, space, budget, prior.probabilities, scores, folder, writer)
        strategy = new_strategy(config, budget, prior.probabilities)
        with phases("search"):
            found = searches.run(strategy, "history.csv", "search")
        report = report_search(searches, strategy, found, prior, evaluator, splits, phases)
        scorer.close()  # before what takes long: the other ranks do not wait for it
        if config.supernet_seeds > 1:
            with phases("other supernets"):
                add_supernets(report, searches, found, splits)
        report.finish(phases, writer)


if __name__ == "__main__":
    main()
