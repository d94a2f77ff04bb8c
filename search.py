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

from config_file.arg_config.search_config import check_search, idle_flags, search_parser
from utils.startup import answer_help, wait_without_spinning

if __name__ == "__main__":  # before the imports that take seconds
    answer_help(search_parser, __doc__)
    wait_without_spinning()

import dataclasses
import itertools
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from config_file.arg_config.fields import take
from config_file.arg_config.layers import config_values, parse, write_config
from config_file.arg_config.sampling_config import resolve_sampling
from data import Splits
from lookup_table import (
    Budget,
    BudgetCounts,
    Equivalence,
    in_millions,
)
from model import SearchSpace, Supernet, count_params
from search_strategy import STRATEGIES
from search_strategy.differentiable import learned_prior
from search_strategy.evaluator import Evaluator, uncalibrated_top1
from search_strategy.history import History, run_search
from search_strategy.oracle import Oracle
from search_strategy.random_search import RandomConfig, RandomSearch
from search_strategy.scoring import CandidateLog, LoggedScores
from search_strategy.strategy import FinishedSearch, SearchStrategy
from supernet import (
    build_costs,
    load_inputs,
    load_supernet,
    new_supernet,
    resolve_budget,
    save_costs,
    save_splits,
    scoring_processes,
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
from utils.distributed import SharedScores
from utils.errors import user_errors
from utils.files import write_text
from utils.memory import memory_hint
from utils.plan import TRAINING_FILES, check_plan, plan_text, training_rows
from utils.report_page import write_report
from utils.run_folder import check_run_folder, log, make_run_folder, start_log
from utils.search_report import SearchReport
from utils.threads import threads_text
from utils.timing import Phases
from utils.workers import LocalWorkers

SEARCH_FILES = "candidates.log, history.csv, best_architecture.yaml, pareto.png, report.html"
SINGLE_CONTROL = 20  # random candidates that a search which scores one architecture meets


def build_evaluator(supernet: Supernet, splits: Splits, args: Namespace) -> LocalWorkers:
    """The evaluator, spread over the CPUs that threads leave.

    Raises:
        ValueError: the training images do not fill so many calibration batches.
    """
    if args.calibration_batches > len(splits.calibration):
        raise ValueError(
            f"--calibration-batches {args.calibration_batches}: the training images fill only "
            f"{len(splits.calibration)} batches of {splits.calibration.batch_size}"
        )
    batches = [x for x, _ in itertools.islice(splits.calibration, args.calibration_batches)]
    options = {"precision": args.eval_precision, "cache_mb": args.eval_cache_mb}
    evaluator = Evaluator(supernet, batches, splits.validation, score=args.score, **options)
    return LocalWorkers(evaluator, scoring_processes(splits.validation))


def search_to_file(
    strategy: SearchStrategy,
    scores: LoggedScores,
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


def space_rows(
    args: Namespace, space: SearchSpace, networks: Equivalence, budget: Budget
) -> dict[str, str]:
    """What there is to search: the first rows of a plan."""
    table, metric = budget.counts.table, args.info_metric
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


def number_of_candidates(args: Namespace, strategy: SearchStrategy) -> int:
    """How many architectures a run scores at most: of all seeds and the random control."""
    number = args.seeds * strategy.total
    if args.random_control and not strategy.is_random:
        number += strategy.total if strategy.total > 1 else SINGLE_CONTROL
    return number


@user_errors
def main() -> None:
    start_log()
    phases = Phases()
    parser = search_parser(__doc__)
    args = parse(parser, sys.argv[1:])
    start_log(quiet=args.quiet)
    check_plan(args)
    if args.oracle and args.checkpoint:
        raise ValueError("--oracle takes the place of a supernet; leave --checkpoint out")
    check_search(args)
    kind = STRATEGIES[args.search_strategy]
    flags = take(kind.Config, args)
    check_run_folder(args.run_dir, args.title, args.resume)
    tune_malloc()
    device = pick_device(args.device)
    seed_everything(args.random_seed)

    with phases("data and lookup table"):
        splits, space = load_inputs(args, device)
        if not args.checkpoint:
            resolve_sampling(args, space)
        table = build_costs(args, space, device, kind.costs(flags))
        networks = Equivalence(space)
        oracle = Oracle(args.oracle, space, table, networks) if args.oracle else None
        codes = resolve_budget(args, BudgetCounts(table, args.info_metric))
        counts = BudgetCounts(table, args.info_metric, networks)  # one code per network
        budget = Budget(counts, codes.low, codes.high, oracle and oracle.known)
        checkpoint, prior, validation_trained = args.checkpoint, None, False
        if oracle is None:
            supernet = new_supernet(args, space, device)
            set_threads(args, supernet, space.num_choices // 2)
            if checkpoint:
                state = load_supernet(checkpoint, supernet, supernet_facts(args, space))
                prior, validation_trained = take_prior(state, kind, checkpoint)
                del state  # hundreds of MB
        evaluator = SharedScores(oracle or build_evaluator(supernet, splits, args))
    rng = stream(args.random_seed, SEARCH_STREAM)
    if args.dry_run:
        rows = space_rows(args, space, networks, budget)
        if oracle is None and not checkpoint:
            train_part = splits.train
            rows |= training_rows(
                args.epochs,
                len(train_part),
                train_part.batch_size,
                train_part.num_images,
                count_params(supernet),
            )
        strategy = kind(flags, budget, rng, prior)
        rows["candidates"] = f"{number_of_candidates(args, strategy):,} to score"
        files = TRAINING_FILES
        if checkpoint or oracle:
            files = files.replace("supernet.pt, ", "")
        rows["files"] = f"{args.run_dir}/{args.title or '<title>'}/: {files}, {SEARCH_FILES}"
        print(plan_text(f"{args.search_strategy} search of {space.name} on {args.dataset}", rows))
        return

    name = f"{args.search_strategy}_{Path(args.search_space).stem}_{args.dataset}"
    folder = make_run_folder(args.run_dir, args.title, args.resume, name)
    start_log(folder, quiet=args.quiet)
    save_costs(args, folder, space, table)
    config = config_values(parser, args)
    if not args.resume:
        write_config(folder / "config.yaml", config)
    save_splits(folder, splits)
    log.info(f"run folder {folder}, device {device}{threads_text(device)}")
    if idle := idle_flags(parser, sys.argv[1:], args):
        log.info(f"note: without effect in this run: {', '.join(idle)}")
    low, high = (in_millions(cost) for cost in table.range(args.info_metric))
    log.info(
        f"{space.name} at {space.input_size} px: {space.size:.4g} codes of {networks.size:.4g} "
        f"networks, {low} to {high} {table.unit(args.info_metric)}, {budget.count:.4g} within "
        f"the budget"
    )

    hint = f"--eval-batch-size {args.eval_batch_size}: lower it, or --calibration-batches"
    with SummaryWriter(str(folder / "tensorboard")) as writer, memory_hint(hint):
        if oracle is None and not checkpoint:
            with phases("supernet training"):
                checkpoint = folder / "supernet.pt"
                train(
                    supernet,
                    splits.train,
                    args,
                    config,
                    checkpoint,
                    writer,
                    splits.architecture,
                    codes,
                )
                state = load_checkpoint(checkpoint)
                prior, validation_trained = take_prior(state, kind, checkpoint)
                del state
        if evaluator.serve():  # a rank other than 0, whose work is done with rank 0's
            return
        scores = LoggedScores(evaluator, CandidateLog(folder / "candidates.log", space))

        def search(strategy: SearchStrategy, file: str, name: str) -> History:
            top1_of = None if args.score == "top1" else scores.top1
            history = History(space, table, top1_of, args.smooth)
            return search_to_file(strategy, scores, history, folder / file, name, writer)

        strategy = kind(flags, budget, rng, prior)
        with phases("search"):
            history = search(strategy, "history.csv", "search")
        winner = history.architectures[history.best(args.info_metric)]
        report = SearchReport(
            args,
            folder,
            history,
            history.winner_facts(args.info_metric) | {"dataset": args.dataset},
            kind.chosen_by,
        )
        if kind.is_random:
            report.add_random(history)
        elif args.random_control:
            with phases("random control"):
                rng = stream(args.random_seed, CONTROL_STREAM)
                number = len(history) if len(history) > 1 else SINGLE_CONTROL
                control = RandomSearch(RandomConfig(random_iteration=number), budget, rng)
                report.add_random(search(control, "random_control.csv", "random control"))
        if args.seeds > 1:
            with phases("other seeds"):
                bests = [history.top1[history.best(args.info_metric)]]
                for k in range(1, args.seeds):
                    rng = np.random.default_rng([args.random_seed, SEARCH_STREAM, k])
                    other = kind(flags, budget, rng, prior)
                    found = search(other, f"history_seed{k}.csv", f"seed {k}")
                    bests.append(found.top1[found.best(args.info_metric)])
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
                    metric=args.info_metric,
                    target=None if args.target_hc is None else budget.high,
                    top1=scores.scored_top1,
                    validation_trained=validation_trained,
                )
            )
            report.add_findings(found.rows, found.caveat, found.tables)
        evaluator.close()
        rows = report.finish(phases, writer)
        write_report(folder, dataclasses.asdict(space), rows)


if __name__ == "__main__":
    main()
