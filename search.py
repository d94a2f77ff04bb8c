"""Search a network: train a supernet (or load one), search it within a budget, report.

python search.py --search-strategy evolution             # on the embedded digits, in minutes
python search.py --search-strategy random --random-iteration 500 --title random_digits
python search.py --search-space fbnet --dataset cifar10 --target-hc 60 --title fbnet_c10
python search.py --title fbnet_c10 --resume               # go on after an interruption
python search.py --checkpoint runs/fbnet_c10/supernet.pt --target-hc 40
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import yaml
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from config_file.arg_config.layers import config_values, parse, unused_flags, write_config
from config_file.arg_config.sampling_config import idle_groups, resolve_sampling
from config_file.arg_config.search_config import search_parser
from data import Splits
from lookup_table import UNIT, Budget, BudgetCounts, in_millions, load_table
from model import Supernet, architecture_facts
from search_strategy import (
    DifferentiableSearch,
    Evaluator,
    EvolutionSearch,
    History,
    RandomSearch,
    SearchStrategy,
    log_probability,
    read_scores,
    run_search,
)
from train_supernet import (
    load_inputs,
    new_supernet,
    resolve_budget,
    save_splits,
    supernet_facts,
    train,
)
from utils.checkpoint import check_facts, load_checkpoint, restore
from utils.device import (
    CONTROL_STREAM,
    SEARCH_STREAM,
    keep_freed_memory,
    pick_device,
    seed_everything,
    stream,
)
from utils.errors import user_errors
from utils.files import write_text
from utils.memory import memory_hint
from utils.plots import plot_pareto
from utils.report import clock, summary_table
from utils.report_page import write_report
from utils.run_folder import check_run_folder, log, make_run_folder, start_log
from utils.timing import Phases

MILLION = 1e6
SINGLE_CONTROL = 20  # random candidates that the one architecture of a differentiable search meets


def build_strategy(args: Namespace, budget: Budget, rng: np.random.Generator) -> SearchStrategy:
    if args.search_strategy == "random":
        return RandomSearch(budget, rng, args.random_iteration)
    if args.search_strategy == "differentiable":
        return DifferentiableSearch(budget)
    return EvolutionSearch(
        budget, rng, args.generation_num, args.population, args.parent_num, args.mutation_prob
    )


def build_evaluator(supernet: Supernet, splits: Splits, args: Namespace) -> Evaluator:
    """Raises ValueError where the training images do not fill so many calibration batches."""
    if args.calibration_batches > len(splits.calibration):
        raise ValueError(
            f"--calibration-batches {args.calibration_batches}: the training images fill only "
            f"{len(splits.calibration)} batches of {splits.calibration.batch_size}"
        )
    batches = [x for x, _ in itertools.islice(splits.calibration, args.calibration_batches)]
    return Evaluator(supernet, batches, splits.validation, args.eval_precision, args.eval_cache_mb)


class ScoredCandidates:
    """The evaluator behind a progress bar that shows the best so far."""

    def __init__(self, evaluator: Evaluator, total: int, name: str) -> None:
        self.evaluator = evaluator
        self.done, self.best = 0.0, -1.0
        self.bar = tqdm(total=total, desc=name, unit="net", dynamic_ncols=True, mininterval=0.5)

    def __call__(self, architectures: np.ndarray) -> np.ndarray:
        scores = self.evaluator(architectures, self.on_progress)
        self.best = max(self.best, scores.max())
        self.bar.set_postfix(best=f"{self.best:.2f}")
        return scores

    def on_progress(self, done: float, top1: float | None) -> None:
        self.done += done
        self.bar.update(int(self.done + 1e-6) - self.bar.n)
        if top1 is not None and top1 > self.best:
            self.best = top1
            self.bar.set_postfix(best=f"{top1:.2f}", refresh=False)


def search_to_file(
    strategy: SearchStrategy,
    evaluator: Evaluator,
    history: History,
    path: Path,
    name: str,
    writer: SummaryWriter,
) -> None:
    """Run a search; after each round its history is on disk and its numbers in TensorBoard.

    What `path` holds of an interrupted run is not evaluated again: the search is repeated with the
    same random numbers, and takes those scores from the evaluator's cache.
    """
    if path.exists():
        evaluator.cache.update(read_scores(path, history.space))
    scored = ScoredCandidates(evaluator, strategy.total, name)

    def on_round() -> None:
        write_text(path, history.to_csv())
        last = history.rounds == history.rounds[-1]
        top1, mflops = history.top1[last], history.cost("flops")[last] / MILLION
        chosen = {"best": top1.argmax(), "worst": top1.argmin()}
        for tag, i in chosen.items():
            writer.add_scalar(f"{name}/top1_{tag}", top1[i], history.rounds[-1])
            writer.add_scalar(f"{name}/mflops_{tag}", mflops[i], history.rounds[-1])
        writer.add_scalar(f"{name}/top1_mean", top1.mean(), history.rounds[-1])
        writer.add_scalar(f"{name}/mflops_mean", mflops.mean(), history.rounds[-1])

    run_search(strategy, scored, history, on_round)
    scored.bar.close()


def load_weights(supernet: Supernet, args: Namespace) -> None:
    """Weights of --checkpoint. Raises ValueError where it is of another supernet."""
    state = load_checkpoint(args.checkpoint)
    check_facts(args.checkpoint, state["facts"], supernet_facts(args, supernet.space))
    restore(args.checkpoint, state, {"supernet": supernet})
    log.info(f"supernet: {args.checkpoint}, {state['epoch']} epochs")


def set_prior(strategy: SearchStrategy, checkpoint: Path) -> None:
    """Give a strategy the choice probabilities of a differentiably trained supernet.

    Raises:
        ValueError: a differentiable search, of a supernet that has none.
    """
    probabilities = load_checkpoint(checkpoint)["sampler"].get("probabilities")
    if probabilities is None and isinstance(strategy, DifferentiableSearch):
        raise ValueError(
            f"checkpoint {checkpoint} has no architecture parameters to read an architecture from; "
            f"search it by evolution or random, or train one with --sample-strategy differentiable"
        )
    if probabilities is not None and not isinstance(strategy, RandomSearch):
        strategy.prior = probabilities.double().numpy()


def report_unconstrained(
    args: Namespace,
    folder: Path,
    history: History,
    strategy: DifferentiableSearch,
    evaluator: Evaluator,
) -> None:
    """The most probable architecture without a budget, beside the one within."""
    free, found = strategy.unconstrained(), history.architectures[0]
    facts = architecture_facts(history.space, free)
    facts |= {m: int(history.table.cost(free, m)) for m in UNIT}
    facts |= {"top1": float(evaluator(free[None])[0]), "source": "most probable, no budget"}
    write_text(folder / "unconstrained_architecture.yaml", yaml.safe_dump(facts, sort_keys=False))
    below = log_probability(strategy.prior, free) - log_probability(strategy.prior, found)
    rows = {
        "choices": " ".join(facts["choices"]),
        "cost": f"{in_millions(facts[args.info_metric])} {UNIT[args.info_metric]}",
        "validation top-1": f"{facts['top1']:.2f} %",
        "log-probability": f"{below:.3f} nats above the architecture within the budget",
    }
    log.info(summary_table("\nmost probable architecture without a budget", rows))


def report(
    args: Namespace,
    folder: Path,
    history: History,
    control: History,
    test_top1: float,
    phases: Phases,
    writer: SummaryWriter,
) -> None:
    """Save the best architecture and the plot, print the summary."""
    metric, table = args.info_metric, history.table
    best = history.best(metric)
    architecture, top1 = history.architectures[best], float(history.top1[best])
    costs = {m: int(table.cost(architecture, m)) for m in UNIT}
    facts = architecture_facts(history.space, architecture) | {"dataset": args.dataset}
    facts |= costs | {
        "top1": top1,
        "test_top1": test_top1,
        "target_hc": args.target_hc,
        "min_hc": args.min_hc,
        "info_metric": metric,
        "source": f"{args.search_strategy} search, run {folder.name}",
    }
    text = yaml.safe_dump(facts, sort_keys=False)
    write_text(folder / "best_architecture.yaml", text)
    plot_pareto(
        folder / "pareto.png",
        history.cost(metric) / MILLION,
        history.top1,
        history.rounds,
        best,
        (args.min_hc, args.target_hc),
        UNIT[metric],
        f"{args.search_strategy} on {history.space.name}, {args.dataset} ({len(history)} networks)",
    )
    writer.add_text("best_architecture", f"```\n{text}```")
    hparams = {k: v for k, v in vars(args).items() if isinstance(v, (str, int, float, bool))}
    writer.add_hparams(
        hparams,
        {"final/top1": top1, "final/test_top1": test_top1}
        | {f"final/{m}": cost / MILLION for m, cost in costs.items()},
        run_name=".",
    )

    limit = "none" if args.target_hc is None else f"at most {args.target_hc:,.3f} {UNIT[metric]}"
    if args.min_hc is not None:
        limit += f", at least {args.min_hc:,.3f}"
    rows = {
        "best architecture": " ".join(facts["choices"]),
        "MACs": f"{in_millions(costs['flops'])} M",
        "params": f"{in_millions(costs['params'])} M",
        "budget": limit,
        "validation top-1": f"{top1:.2f} %",
        "test top-1": f"{test_top1:.2f} %  (supernet weights; the only use of the test set)",
    }
    if len(control):
        rows[f"{len(control)} random networks"] = (
            f"validation top-1: mean {control.top1.mean():.2f} %, best {control.top1.max():.2f} %"
        )
    rows["candidates"] = f"{len(history)}, all different and within the budget"
    rows["wall time"] = ", ".join(f"{k} {clock(s)}" for k, s in phases.seconds.items())
    rows["files"] = f"{folder}/ (best_architecture.yaml, history.csv, report.html, ...)"
    log.info(summary_table(f"\n{args.search_strategy} search, {history.space.name}", rows))
    write_report(folder, dataclasses.asdict(history.space), rows)


def warn_unused(parser, argv: list[str], args: Namespace) -> None:
    """A flag without effect in this run is named, not silently ignored."""
    idle = {"random search", "evolution"} - {
        {"random": "random search"}.get(args.search_strategy, args.search_strategy)
    }
    if args.checkpoint:
        idle.add("supernet training")
    idle |= idle_groups(args)
    if unused := unused_flags(parser, argv, idle):
        log.info(f"note: without effect in this run: {', '.join(unused)}")


@user_errors
def main() -> None:
    start_log()
    phases = Phases()
    parser = search_parser(__doc__)
    args = parse(parser, sys.argv[1:])
    check_run_folder(args.run_dir, args.title, args.resume)
    keep_freed_memory()
    device = pick_device(args.device)
    seed_everything(args.random_seed)

    with phases("data and lookup table"):
        splits, space = load_inputs(args, device)
        if not args.checkpoint:
            resolve_sampling(args, space)
        table = load_table(space, args.cache_dir)
        budget = resolve_budget(args, BudgetCounts(table, args.info_metric))
        strategy = build_strategy(args, budget, stream(args.random_seed, SEARCH_STREAM))
        supernet = new_supernet(args, space, device)
        if args.checkpoint:
            load_weights(supernet, args)
            set_prior(strategy, args.checkpoint)
        evaluator = build_evaluator(supernet, splits, args)

    name = f"{args.search_strategy}_{Path(args.search_space).stem}_{args.dataset}"
    folder = make_run_folder(args.run_dir, args.title, args.resume, name)
    start_log(folder)
    config = config_values(parser, args)
    if not args.resume:
        write_config(folder / "config.yaml", config)
    save_splits(folder, splits)
    log.info(f"run folder {folder}, device {device}")
    warn_unused(parser, sys.argv[1:], args)
    low, high = (in_millions(cost) for cost in table.range(args.info_metric))
    log.info(
        f"{space.name} at {space.input_size} px: {space.size:.3g} architectures of {low} to {high} "
        f"{UNIT[args.info_metric]}, {budget.count:.3g} within the budget"
    )

    hint = f"--eval-batch-size {args.eval_batch_size}: lower it, or --calibration-batches"
    with SummaryWriter(str(folder / "tensorboard")) as writer, memory_hint(hint):
        if not args.checkpoint:
            with phases("supernet training"):
                path = folder / "supernet.pt"
                train(
                    supernet, splits.train, args, config, path, writer, splits.architecture, budget
                )
                set_prior(strategy, path)
        with phases("search"):
            history = History(space, table)
            path = folder / "history.csv"
            search_to_file(strategy, evaluator, history, path, args.search_strategy, writer)
        control = History(space, table)
        if args.search_strategy == "random":
            control = history
        elif args.random_control:
            with phases("random control"):
                rng = stream(args.random_seed, CONTROL_STREAM)
                number = len(history) if len(history) > 1 else SINGLE_CONTROL
                same_number = RandomSearch(budget, rng, number)
                path = folder / "random_control.csv"
                search_to_file(same_number, evaluator, control, path, "random control", writer)
        with phases("test"):
            winner = history.architectures[history.best(args.info_metric)]
            test_top1 = evaluator.test(winner, splits.test)
        report(args, folder, history, control, test_top1, phases, writer)
        if isinstance(strategy, DifferentiableSearch):
            report_unconstrained(args, folder, history, strategy, evaluator)


if __name__ == "__main__":
    main()
