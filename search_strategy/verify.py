"""Does a search pay? Compare its answer with random networks of its budget, all trained alone.

Every training is a run of train_subnet.py in its own process, so it is resumable, and the ranks of
torchrun share the trainings out without waiting for each other.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml

from config_file.arg_config.fields import plain
from config_file.arg_config.start import open_run, record_run
from config_file.arg_config.subnet_config import SubnetConfig, VerifyConfig
from lookup_table import METRICS, Equivalence, LookupTable, architecture_keys
from model import SearchSpace, architecture_record, architecture_text
from search_strategy.benchmark import Benchmark, digits, from_digits
from search_strategy.history import candidates_csv
from search_strategy.searched_run import SearchedRun
from search_strategy.tallies import SCORES
from search_strategy.trained_network import ARCHITECTURE, check_training
from utils import distributed, ranks
from utils.device import stream
from utils.files import write_text
from utils.interruption import run_script
from utils.metrics import MILLION
from utils.plots import plot_ranking
from utils.report import clock, summary_table
from utils.run_folder import log
from utils.statistics import Comparison, compare, kendall_tau, tau_text, without_nan
from utils.yaml_file import read_yaml

VERIFY_STREAM = 4  # of `utils.device.stream`
ANSWER, LARGEST = "answer", "largest"
RECIPE_FILE = "recipe.yaml"
# flags that each training sets for itself, or that it has no use for
NOT_PASSED_ON = {*VerifyConfig.__dataclass_fields__, "arch", "run_dir", "random_seed", "init_from"}


def choose_networks(searched: SearchedRun, random: int, seed: int) -> dict[str, np.ndarray]:
    """Choose the answer, the largest network of the budget if it is another, and random ones.

    Raises:
        ValueError: the budget holds fewer.
    """
    chosen = {ANSWER: searched.answer}
    largest = searched.budget.largest()
    one, other = canonical = searched.budget.canonical(np.stack([searched.answer, largest]))
    if not np.array_equal(one, other):
        chosen[LARGEST] = largest
    taken = architecture_keys(canonical)
    drawn = searched.budget.sample_unique(random, stream(seed, VERIFY_STREAM), taken)
    if len(drawn) < random:
        raise ValueError(
            f"--random {random}: the budget holds only {len(drawn)} other networks; take fewer"
        )
    return chosen | {f"random{i}": row for i, row in enumerate(drawn, 1)}


@dataclass(frozen=True)
class Training:
    """One training of one network of the verification in `folder`."""

    folder: Path
    network: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.network}_seed{self.seed}"

    @property
    def run_folder(self) -> Path:
        return self.folder / "trainings" / self.name

    def result(self) -> tuple[float, float] | None:
        """Return validation and test top-1 in percent; None while it is not finished."""
        path = self.run_folder / ARCHITECTURE
        found = read_yaml(path) if path.is_file() else {}
        return (found["top1"], found["test_top1"]) if "test_top1" in found else None

    def run(self, cache_dir: Path) -> None:
        """Train, or resume a training that was interrupted.

        Raises:
            ValueError: it failed.
            Interrupted: a signal came; the training has left its checkpoint.
        """
        runs = self.run_folder.parent
        words: list[object] = ["--title", self.name, "--run-dir", runs, "--cache-dir", cache_dir]
        if (self.run_folder / "config.yaml").is_file():
            words += ["--resume"]
        else:
            arch = self.folder / "architectures" / f"{self.network}.yaml"
            words += ["--arch", arch, "--config", self.folder / RECIPE_FILE]
            words += ["--random-seed", self.seed]
        run_script("train_subnet.py", words, self.name)


def verify(config: SubnetConfig, run: Path, device: torch.device) -> None:
    """Verify a search in a run folder of its own.

    Raises:
        ValueError: `run` is no finished search, or something could not be trained, or not be
            written in the end; there is no run folder yet.
    """
    searched = SearchedRun.read(run, device)
    networks = choose_networks(searched, config.verification.random, config.run.random_seed)
    if (truth := config.verification.truth) is not None:
        if not truth.parent.is_dir() or truth.is_dir():
            raise ValueError(f"--truth {truth}: its folder does not exist, or it is one itself")
        read_truth(truth, searched.space, searched.table)
    if not config.run.resume:
        check_training(config, searched.folder / ARCHITECTURE, device)
    folder = open_run(config.run, f"verify_{searched.folder.name}")
    record_run(folder, config, device)
    compare_networks(config, searched, networks, folder, device)


def compare_networks(
    config: SubnetConfig,
    searched: SearchedRun,
    networks: dict[str, np.ndarray],
    folder: Path,
    device: torch.device,
) -> None:
    """Train and compare; leaves verify.csv, verify.json, verify.png and the truth."""
    flags = config.verification
    architectures = np.stack(list(networks.values()))
    score = np.empty(0)
    if ranks.is_main():
        score = searched.scores(architectures, folder / "candidates.log", device)
        _write_inputs(config, folder, searched, networks)
    folder = distributed.from_main(folder)  # the others wait here until the inputs are written
    first = config.run.random_seed
    trainings = [
        Training(folder, name, seed)
        for name in networks
        for seed in range(first, first + flags.trainings)
    ]
    _train(trainings, config.run.cache_dir)
    if not ranks.is_main():
        return
    results = np.array([training.result() for training in trainings])  # [networks * trainings, 2]
    validation, test = results.reshape(len(networks), flags.trainings, 2).transpose(2, 0, 1)
    columns = {"score": score, "top1": validation.mean(axis=1), "test_top1": test.mean(axis=1)}
    columns |= {f"test_top1_{k}": each for k, each in enumerate(test.T)}
    last = {name: values.tolist() for name, values in columns.items()}
    names = {"name": networks}
    text = candidates_csv(searched.space, searched.table, architectures, names, last)
    write_text(folder / "verify.csv", text)
    truth = flags.truth or folder / "truth.json"
    add_truth(truth, searched.space, searched.table, architectures, test)
    _report(folder, searched, networks, score, test, truth)


def _write_inputs(
    config: SubnetConfig, folder: Path, searched: SearchedRun, networks: dict[str, np.ndarray]
) -> None:
    """Write the recipe and the architecture files."""
    recipe = {k: v for k, v in plain(config).items() if k not in NOT_PASSED_ON}
    write_text(folder / RECIPE_FILE, yaml.safe_dump(recipe, sort_keys=False))
    (folder / "architectures").mkdir(exist_ok=True)
    for name, architecture in networks.items():
        path = folder / "architectures" / f"{name}.yaml"
        facts = architecture_record(searched.space, architecture)
        facts |= searched.table.facts(architecture) | {"dataset": config.data.dataset}
        write_text(path, architecture_text(facts))


def _train(trainings: Sequence[Training], cache_dir: Path) -> None:
    """Run this rank's share of the trainings; on rank 0, wait for the others'."""
    left = [t for t in trainings[ranks.rank() :: ranks.world_size()] if t.result() is None]
    log.info(f"{len(trainings)} trainings, {len(left)} of them left for this process")
    start = time.perf_counter()
    for done, training in enumerate(left, 1):
        training.run(cache_dir)
        spent = (time.perf_counter() - start) / done
        result = training.result()
        assert result is not None
        log.info(
            f"{training.name}: test top-1 {result[1]:.2f} %; {done} of {len(left)} trained, about "
            f"{clock(spent * (len(left) - done))} left"
        )
    while ranks.is_main() and any(training.result() is None for training in trainings):
        time.sleep(2)  # then looks at their files again


def read_truth(path: Path, space: SearchSpace, table: LookupTable) -> dict[str, dict]:
    """Return the entries of a benchmark file that accuracies are added to; none if there is none.

    Raises:
        ValueError: it is no benchmark of the space and its costs.
    """
    if not path.exists():
        return {}
    Benchmark.read(path, space, table)
    return json.loads(path.read_text(encoding="utf-8"))


def add_truth(
    path: Path, space: SearchSpace, table: LookupTable, networks: np.ndarray, test: np.ndarray
) -> None:
    """Add accuracies to a benchmark file; entries of the same network, by any code, are replaced.

    Args:
        networks: int [N, L].
        test: accuracies in percent [N, trainings].
    """
    canonical = Equivalence(space).canonical
    new = {digits(network) for network in canonical(networks)}
    there = read_truth(path, space, table).items()
    content = {k: v for k, v in there if digits(canonical(np.array(from_digits(k)))) not in new}
    for architecture, accuracies in zip(networks, test, strict=True):
        entry: dict[str, float] = {"mean_acc": float(accuracies.mean())}
        if len(accuracies) == 3:
            entry["std"] = float(accuracies.std())  # population std, as in NAS-Bench-Macro
        entry |= {metric: int(table.cost(architecture, metric)) for metric in METRICS}
        content[digits(architecture)] = entry
    write_text(path, json.dumps(content, indent=1) + "\n")


def _report(
    folder: Path,
    searched: SearchedRun,
    networks: dict[str, np.ndarray],
    score: np.ndarray,
    test: np.ndarray,
    truth: Path,
) -> None:
    """Print the comparison; write verify.json and verify.png."""
    accuracy = dict(zip(networks, test.mean(axis=1).tolist(), strict=True))
    random = np.array([value for name, value in accuracy.items() if name.startswith("random")])
    found, tau = compare(accuracy[ANSWER], random), kendall_tau(score, test.mean(axis=1))
    numbers: dict[str, object] = {"test_top1": accuracy, "kendall_tau": tau, **vars(found)}
    write_text(folder / "verify.json", json.dumps(without_nan(numbers), indent=2) + "\n")
    metric = searched.budget.counts.metric
    cost = searched.table.cost(np.stack(list(networks.values())), metric) / MILLION
    name = SCORES[searched.config.evaluation.score]
    title = (
        f"{searched.folder.name}: {len(networks)} networks trained alone, τ = {tau_text(tau, 2)}"
    )
    label = searched.table.metric(metric).label
    plot_ranking(
        folder / "verify.png", score, test.mean(axis=1), cost, label, name, title, marked=0
    )
    rows = {
        "answer": f"{accuracy[ANSWER]:.2f} % test top-1, mean of {test.shape[1]} training(s)",
        f"{len(random)} random networks": f"mean {random.mean():.2f} %, from {random.min():.2f} "
        f"to {random.max():.2f} %",
        "answer - random": f"{found.difference:+.2f} points, 95 % interval {found.low:+.2f} to "
        f"{found.high:+.2f} (of the mean of random networks)",
        "rank of the answer": f"{found.rank} of {len(random) + 1}, one-sided p = {found.p:.3f}",
        "largest in budget": f"{accuracy.get(LARGEST, accuracy[ANSWER]):.2f} %"
        + ("" if LARGEST in accuracy else " (it is the answer)"),
        "τ of score and accuracy": f"{tau_text(tau)} over {len(networks)} networks",
        "verdict": verdict(found),
        "files": f"{folder}/ (verify.csv, verify.json, verify.png), {truth}",
    }
    log.info(summary_table(f"\nverification of {searched.folder}", rows))


def verdict(found: Comparison) -> str:
    """Say in one sentence if the answer is better than a random network."""
    if found.low <= 0 <= found.high:
        return "the answer cannot be told apart from the mean random network"
    text = f"the answer is {'better' if found.low > 0 else 'worse'} than the mean random network"
    if found.low > 0 and found.p > 0.05:
        return f"{text}, but its rank alone is not significant (p = {found.p:.3f})"
    return text
