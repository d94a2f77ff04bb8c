"""Search a network: train a supernet (or load one), search it within a budget, report.

python search.py --search-strategy evolution             # on the embedded digits, in minutes
python search.py --search-strategy random --random-iteration 500 --title random_digits
python search.py --search-strategy pareto --objectives flops params
python search.py --search-space fbnet --dataset cifar10 --target-hc 60 --title fbnet_c10
python search.py --title fbnet_c10 --resume               # go on after an interruption
python search.py --checkpoint runs/fbnet_c10/supernet.pt --info-metric latency --target-hc 2.5
torchrun --nproc_per_node 4 search.py --dataset cifar10    # see docs/scaling.md
python search.py --oracle nas_bench_macro.json --search-space nas_bench_macro --input-size 32
"""

from __future__ import annotations

from config_file.arg_config.fields import answer_help
from config_file.arg_config.search_config import SearchConfig
from utils.startup import wait_without_spinning

if __name__ == "__main__":  # before the imports that take seconds
    answer_help(SearchConfig, __doc__)
    wait_without_spinning()

from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from config_file.arg_config.fields import changed, values_of
from config_file.arg_config.sources import load_config, write_config
from lookup_table import (
    Budget,
    BudgetCounts,
    Equivalence,
    in_millions,
)
from model import SearchSpace, count_params
from search_strategy.benchmark import Benchmark
from search_strategy.differentiable import learned_prior
from search_strategy.evaluator import uncalibrated_top1
from search_strategy.history import History, run_search
from search_strategy.random_search import RandomConfig, RandomSearch
from search_strategy.report import SearchReport
from search_strategy.scores import ScoreLog, SharedScores
from search_strategy.strategy import FinishedSearch, SearchStrategy
from search_strategy.workers import LocalWorkers, build_evaluator, scoring_processes
from supernet import (
    build_costs,
    fit_to_data,
    load_inputs,
    load_supernet,
    new_supernet,
    resolve_budget,
    save_costs,
    save_splits,
    set_threads,
    supernet_facts,
    train,
)
from utils.checkpoint import load_checkpoint
from utils.device import (
    CONTROL_STREAM,
    SEARCH_STREAM,
    pick_device,
    seed_everything,
    stream,
    tune_malloc,
)
from utils.environment import note_environment
from utils.errors import user_errors
from utils.files import write_text
from utils.memory import memory_hint
from utils.plan import TRAINING_FILES, plan_text, training_rows
from utils.run_folder import check_run_folder, log, make_run_folder, start_log
from utils.threads import threads_text
from utils.timing import Phases

SEARCH_FILES = "candidates.log, history.csv, best_architecture.yaml, pareto.png, report.html"
SINGLE_CONTROL = 20  # random candidates that a search which scores one architecture meets


def search_to_file(
    strategy: SearchStrategy,
    scores: ScoreLog,
    history: History,
    path: Path,
    name: str,
    writer: SummaryWriter,
) -> History:
    """Run a search; after each round its history is on disk and its numbers in TensorBoard."""

    group = name.replace(" ", "_")

    def on_round() -> None:
        write_text(path, history.to_csv())
        scalars = history.round_scalars() | strategy.metrics
        for tag, value in scalars.items():
            writer.add_scalar(f"{group}/{tag}", value, history.rounds[-1])
        log.info(f"{name}: {len(history)} candidates, best {history.top1.max():.2f}")

    with scores.progress(strategy.total, name):
        run_search(strategy, scores, history, on_round)
    return history


def take_prior(
    state: dict, kind: type[SearchStrategy], checkpoint: Path
) -> tuple[np.ndarray | None, bool]:
    """Choice probabilities in a checkpoint, and whether validation images trained them.

    Raises:
        ValueError: the strategy needs them, and the supernet has learned none.
    """
    prior = learned_prior(state)
    if prior is None and kind.needs_prior:
        raise ValueError(
            f"checkpoint {checkpoint} has no architecture parameters to read an architecture from; "
            f"search it by evolution or random, or train one with --sample-strategy differentiable"
        )
    return prior, not state["config"].get("one_level", False)


def space_rows(space: SearchSpace, networks: Equivalence, budget: Budget) -> dict[str, str]:
    """What there is to search: the first rows of a plan."""
    table, metric = budget.counts.table, budget.counts.metric
    ranges = [
        "{} to {} {}".format(*(in_millions(cost) for cost in table.range(m)), table.unit(m))
        for m in dict.fromkeys(("flops", "params", metric))
    ]
    return {
        "search space": f"{space.num_layers} layers at {space.input_size} px, {space.size:.4g} "
        f"codes of {networks.size:.4g} networks, {', '.join(ranges)}",
        "within the budget": f"{budget.count:.4g} networks, {in_millions(budget.low)} to "
        f"{in_millions(budget.high)} {table.unit(metric)}",
    }


def number_of_candidates(config: SearchConfig, strategy: SearchStrategy) -> int:
    """How many architectures a run scores at most: of all seeds and the random control."""
    number = config.seeds * strategy.total
    if config.random_control and not strategy.is_random:
        number += strategy.total if strategy.total > 1 else SINGLE_CONTROL
    return number


@user_errors
def main() -> None:
    start_log()
    phases = Phases()
    config = load_config(SearchConfig, __doc__)
    run, metric, kind = config.run, config.budget.info_metric, config.strategy
    start_log(quiet=run.quiet)
    check_run_folder(run.run_dir, run.title, run.resume)
    tune_malloc()
    device = pick_device(run.device)
    seed_everything(run.random_seed)

    with phases("data and lookup table"):
        splits, space = load_inputs(
            run, config.space, config.data, device, config.training.batch_size, config.augment
        )
        config = fit_to_data(config, splits)
        table = build_costs(space, config.metrics, config.latency, run, device)
        networks = Equivalence(space)
        oracle = Benchmark.read(config.oracle, space, table) if config.oracle else None
        all_counts = BudgetCounts(table, metric)
        config = config.resolve(space, all_counts)
        codes = resolve_budget(config.budget, all_counts)
        counts = BudgetCounts(table, metric, networks)  # one code per network
        budget = Budget(counts, codes.low, codes.high, oracle and oracle.architectures)
        checkpoint, prior, validation_trained = config.checkpoint, None, False
        if oracle is None:
            supernet = new_supernet(config.training, config.data, space, device, config.begun)
            batch_size, input_size = config.training.batch_size, config.data.input_size
            middle = space.num_choices // 2
            threads = set_threads(run.threads, supernet, batch_size, input_size, middle)
            config = changed(config, threads=threads)
            if checkpoint:
                state = load_supernet(checkpoint, supernet, supernet_facts(config.data, space))
                prior, validation_trained = take_prior(state, kind, checkpoint)
                del state  # hundreds of MB
            evaluator = build_evaluator(
                supernet, splits.calibration, splits.validation, config.evaluation
            )
            workers = LocalWorkers(evaluator, scoring_processes(splits.validation))
        scorer = SharedScores(oracle or workers)
    rng = stream(run.random_seed, SEARCH_STREAM)
    flags = config.strategies[config.search_strategy]
    if run.dry_run:
        rows = space_rows(space, networks, budget)
        if oracle is None and not checkpoint:
            train_part = splits.train
            rows |= training_rows(
                config.training.epochs,
                len(train_part),
                train_part.batch_size,
                train_part.num_images,
                count_params(supernet),
            )
        rows["candidates"] = (
            f"{number_of_candidates(config, kind(flags, budget, rng, prior)):,} to score"
        )
        files = TRAINING_FILES
        if checkpoint or oracle:
            files = files.replace("supernet.pt, ", "")
        rows["files"] = f"{run.run_dir}/{run.title or '<title>'}/: {files}, {SEARCH_FILES}"
        title = config.search_strategy
        print(plan_text(f"{title} search of {space.name} on {config.data.dataset}", rows))
        return

    space_name = Path(config.space.search_space).stem
    name = f"{config.search_strategy}_{space_name}_{config.data.dataset}"
    folder = make_run_folder(run.run_dir, run.title, run.resume, name)
    start_log(folder, quiet=run.quiet)
    note_environment(folder, device, run.config)
    config = save_costs(config, folder, space, table)
    if not run.resume:
        write_config(folder / "config.yaml", config)
    save_splits(folder, splits)
    log.info(f"run folder {folder}, device {device}{threads_text(device)}")
    if ignored := config.ignored_flags():
        log.info(f"note: without effect in this run: {', '.join(ignored)}")
    low, high = (in_millions(cost) for cost in table.range(metric))
    log.info(
        f"{space.name} at {space.input_size} px: {space.size:.4g} codes of {networks.size:.4g} "
        f"networks, {low} to {high} {table.unit(metric)}, {budget.count:.4g} within "
        f"the budget"
    )

    hint = f"--eval-batch-size {config.data.eval_batch_size}: lower it, or --calibration-batches"
    with SummaryWriter(str(folder / "tensorboard")) as writer, memory_hint(hint):
        if oracle is None and not checkpoint:
            with phases("supernet training"):
                checkpoint = folder / "supernet.pt"
                train(
                    supernet,
                    splits.train,
                    config,
                    checkpoint,
                    writer,
                    splits.architecture,
                    codes,
                )
                state = load_checkpoint(checkpoint)
                prior, validation_trained = take_prior(state, kind, checkpoint)
                del state
        if scorer.run_worker():  # a rank other than 0, whose work is done with rank 0's
            return
        log_file = None if oracle else folder / "candidates.log"
        scores = ScoreLog(scorer, log_file, space)

        def search(strategy: SearchStrategy, file: str, name: str) -> History:
            top1_of = None if config.evaluation.score == "top1" else scores.top1
            history = History(space, table, top1_of, config.smooth)
            return search_to_file(strategy, scores, history, folder / file, name, writer)

        strategy = kind(flags, budget, rng, prior)
        with phases("search"):
            history = search(strategy, "history.csv", "search")
        winner = history.architectures[history.best(metric)]
        window = config.budget.min_hc, config.budget.target_hc
        report = SearchReport(folder, history, values_of(config), metric, window, kind.chosen_by)
        if kind.is_random:
            report.add_random(history)
        elif config.random_control:
            with phases("random control"):
                rng = stream(run.random_seed, CONTROL_STREAM)
                number = len(history) if len(history) > 1 else SINGLE_CONTROL
                control = RandomSearch(RandomConfig(random_iteration=number), budget, rng)
                report.add_random(search(control, "random_control.csv", "random control"))
        if config.seeds > 1:
            with phases("other seeds"):
                bests = [history.top1[history.best(metric)]]
                for k in range(1, config.seeds):
                    rng = np.random.default_rng([run.random_seed, SEARCH_STREAM, k])
                    other = kind(flags, budget, rng, prior)
                    found = search(other, f"history_seed{k}.csv", f"seed {k}")
                    bests.append(found.top1[found.best(metric)])
                report.add_seeds(bests)
        with phases("controls and test"):
            largest = budget.largest()
            report.add_largest(largest, scores.scored_top1(largest[None])[0])
            if oracle is None:
                plain = uncalibrated_top1(supernet, winner, splits.validation)
                report.add_uncalibrated(plain)
                report.add_test(evaluator.test(winner, splits.test))
            found = strategy.findings(
                FinishedSearch(
                    folder=folder,
                    history=history,
                    answer=winner,
                    metric=metric,
                    target=None if config.budget.target_hc is None else budget.high,
                    top1=scores.scored_top1,
                    validation_trained=validation_trained,
                )
            )
            report.add_findings(found)
        scorer.close()
        report.finish(phases, writer)


if __name__ == "__main__":
    main()
