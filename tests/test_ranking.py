"""evaluate_ranking.py, its statistics and the merging of equivalent architectures."""

from __future__ import annotations

import csv
import itertools
import json
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, TINY, Command, Main
from helpers import all_codes
from scipy.stats import binned_statistic, kendalltau, norm, spearmanr

import evaluate_ranking
from benchmarks import ranking_choices
from config_file.arg_config.fields import values_of
from config_file.arg_config.sources import load_config
from config_file.arg_config.supernet_config import TrainSupernetConfig
from lookup_table import Equivalence, LookupTable
from lookup_table.builder import load_table
from model import SearchSpace, load_space
from model.space_file import MAX_CHOICES
from search_strategy.benchmark import (
    DIGITS,
    Benchmark,
    budget_regret,
    digits,
    from_digits,
    trivial_scores,
)
from utils.checkpoint import load_checkpoint
from utils.statistics import (
    best_of_bins,
    bootstrap_intervals,
    kendall_tau,
    rank_agreement,
    spearman_rho,
    three_trainings,
    top_k_overlap,
    training_agreement,
    without_nan,
)


def naive_tau(x: np.ndarray, y: np.ndarray) -> float:
    """τ-b by its definition, over all pairs."""
    pairs = list(itertools.combinations(range(len(x)), 2))
    signs = np.array([[np.sign(x[i] - x[j]), np.sign(y[i] - y[j])] for i, j in pairs])
    return (signs[:, 0] * signs[:, 1]).sum() / np.sqrt(np.prod((signs**2).sum(0)))


# -- statistics


def test_tau_and_rho_by_their_definitions(rng: np.random.Generator) -> None:
    x, y = rng.integers(0, 8, 40), rng.integers(0, 8, 40)  # with ties
    assert kendall_tau(x, y) == pytest.approx(naive_tau(x, y))
    assert spearman_rho(x, y) == pytest.approx(spearmanr(x, y).statistic)
    assert np.isnan(spearman_rho(np.ones(4), np.arange(4)))


def test_bootstrap_interval_covers_as_it_says(rng: np.random.Generator) -> None:
    """Of the mean of 40 normal numbers: the interval's width is that of theory."""
    x = rng.normal(size=40)
    low, high = bootstrap_intervals(lambda rows: np.array([x[rows].mean()]), 40, 4000, rng)[0]
    assert high - low == pytest.approx(2 * 1.96 * x.std() / np.sqrt(40), rel=0.08)
    assert low < x.mean() < high


def test_top_k_overlap_by_hand() -> None:
    truth = np.array([5.0, 4.0, 3.0, 2.0, 1.0])
    assert top_k_overlap(np.array([1.0, 5.0, 4.0, 2.0, 3.0]), truth, 2) == 0.5
    assert top_k_overlap(truth, truth, 3) == 1


def test_agreement_of_trainings_is_that_of_real_ones(rng: np.random.Generator) -> None:
    """Known from mean and std alone: what the trainings behind them really agree by."""
    truth = np.linspace(80, 90, 400)
    taus, found = [], []
    for _ in range(10):
        runs = rng.normal(truth, 0.5, (3, len(truth)))
        mean, std = runs.mean(0), runs.std(0)
        drawn = three_trainings(mean, std, rng)
        assert np.allclose([drawn.mean(0), drawn.std(0)], [mean, std])
        pairs = ((runs[0], runs[1]), (runs[0], runs[1:].mean(0)), (truth, mean))
        taus.append([kendalltau(*pair).statistic for pair in pairs])
        found.append(list(training_agreement(mean, std, 2, rng).values()))
    assert np.mean(found, axis=0) == pytest.approx(np.mean(taus, axis=0), abs=0.005)
    assert set(training_agreement(truth, np.zeros(400), 1, rng).values()) == {1.0}


def test_a_perfect_score_of_two_networks_is_known(rng: np.random.Generator) -> None:
    """P(order of two means of three kept) = Φ(d / √(2σ²/3)), where σ² = 3/2 std²."""
    found = training_agreement(np.array([90.0, 91.0]), np.array([1.0, 1.0]), 3000, rng)
    assert found["perfect_score"] == pytest.approx(2 * norm.cdf(1) - 1, abs=0.05)


def test_the_best_of_each_bin(rng: np.random.Generator) -> None:
    truth = rng.normal(size=300)
    best = binned_statistic(truth, truth, "max", bins=40).statistic
    assert np.array_equal(truth[best_of_bins(truth, 40)], best[~np.isnan(best)])
    assert len(best_of_bins(np.ones(5))) == 1


def test_agreement_of_a_perfect_a_reversed_and_a_constant_score(rng: np.random.Generator) -> None:
    truth = rng.normal(size=30)
    found = rank_agreement(truth * 2, truth, {"reversed": -truth}, (5, 100), 50, rng)
    assert found["kendall_tau"] == found["spearman_rho"] == pytest.approx(1)
    assert found["top_k_overlap"] == {"5": 1.0}  # 100 is more than there are
    assert found["kendall_tau_binned"] == pytest.approx(1) and 20 < found["num_binned"] <= 30
    assert found["baselines"]["reversed"]["kendall_tau_binned"] == pytest.approx(-1)
    assert found["baselines"]["reversed"]["kendall_tau"] == pytest.approx(-1)
    assert found["baselines"]["reversed"]["ahead_interval"] == pytest.approx([2, 2])
    with pytest.warns(RuntimeWarning):  # numpy's All-NaN: no interval either
        flat = rank_agreement(np.ones(30), truth, {}, (5,), 10, rng)
    assert without_nan(flat)["kendall_tau"] is None
    with pytest.raises(ValueError, match="needs 3"):
        rank_agreement(truth[:2], truth[:2], {}, (5,), 10, rng)


# -- benchmark


def test_regret_against_a_search_of_all(
    tiny: SearchSpace, tiny_table: LookupTable, rng: np.random.Generator
) -> None:
    codes = np.unique(Equivalence(tiny).canonical(all_codes(tiny)), axis=0)
    accuracy, score = rng.normal(80, 3, len(codes)), rng.integers(0, 9, len(codes))
    benchmark = Benchmark(architectures=codes, accuracy=accuracy, std=None, num_codes=192)
    cost = tiny_table.cost(codes, "flops")
    budgets = [0.25, 0.4, 9.0]
    for row, budget in zip(budget_regret(benchmark, score, cost, budgets), budgets, strict=True):
        inside = [i for i in range(len(codes)) if cost[i] <= budget * 1e6]
        chosen = max(inside, key=lambda i: (score[i], -cost[i]))
        assert row["networks"] == len(inside)
        assert row["regret"] == pytest.approx(max(accuracy[inside]) - accuracy[chosen])
        assert cost[chosen] == tiny_table.cost(np.array([int(d) for d in row["chosen"]]), "flops")
    with pytest.raises(ValueError, match="--budgets"):
        budget_regret(benchmark, score, cost, [0.001])


def test_trivial_scores(tiny: SearchSpace, tiny_table: LookupTable) -> None:
    codes = all_codes(tiny)
    found = trivial_scores(codes, tiny, tiny_table)
    by_names = [sum(name != "skip" for name in tiny.decode(a)) for a in codes]
    assert found["non_identity_layers"].tolist() == by_names
    assert (found["flops"] == tiny_table.cost(codes, "flops")).all()


def test_equal_codes_of_a_benchmark_are_merged(tmp_path: Path) -> None:
    sample = json.loads((ROOT / "tests/data/nas_bench_macro_sample.json").read_text())
    entry = {"mean_acc": 64.0, "std": 0.1}
    more = {"00000001": entry, "00000010": {"mean_acc": 66.0, "std": 0.3}}
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(sample | more))
    space = load_space("nas_bench_macro", 32, 10)
    benchmark = Benchmark.read(path, space)
    row = (benchmark.architectures == [0, 0, 0, 0, 0, 0, 1, 0]).all(axis=1)
    assert benchmark.num_codes == len(sample | more)
    assert benchmark.accuracy[row].tolist() == [65.0] and benchmark.std[row] == pytest.approx(0.2)
    some = benchmark.take(np.array([2, 5]))
    assert some.score(some.architectures[1:]).tolist() == [[benchmark.accuracy[5]] * 2]


def test_other_costs_than_the_benchmarks_are_refused() -> None:
    """The published MACs and params are those at 32 px, and not those at 16 px."""
    path = ROOT / "tests/data/nas_bench_macro_sample.json"
    space, small = (load_space("nas_bench_macro", size, 10) for size in (32, 16))
    Benchmark.read(path, space, load_table(space))
    with pytest.raises(ValueError, match=r"flops, here it is .*; fix --input-size \(16\)"):
        Benchmark.read(path, small, load_table(small))


def test_a_key_has_one_character_per_choice() -> None:
    assert len(set(DIGITS)) == len(DIGITS) == MAX_CHOICES
    architecture = [0, 9, 10, 35, 36, 63]
    assert digits(architecture) == "09azA-" and from_digits("09azA-") == architecture


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nonsense", "not JSON"),
        ("{}", "empty"),
        ("[1]", "empty"),
        ('{"000": {"mean_acc": 1}}', "key '000' has 3 digits, but"),
        ('{"0030": {"mean_acc": 1}}', "'3' is no choice of layer 3"),
        ('{"00x0": {"mean_acc": 1}}', "'x' is no choice of layer 3"),
        ('{"0000": {"acc": 1}}', "no 'mean_acc'"),
        ('{"0000": 91.5}', "no 'mean_acc'"),
        ('{"0000": {"mean_acc": "91"}}', "from 0 to 100, not '91'"),
        ('{"0000": {"mean_acc": NaN}}', "from 0 to 100"),
        ('{"0000": {"mean_acc": 1%s}}' % ("0" * 400), "from 0 to 100"),
        ('{"0000": {"mean_acc": 91, "std": -1}}', "'std' must be"),
    ],
)
def test_a_bad_benchmark_is_named(text: str, says: str, tiny: SearchSpace, tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        Benchmark.read(path, tiny)
    assert says in str(error.value) and "bench.json" in str(error.value)


# -- the command


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny supernet C, and a benchmark B of all its codes."""
    folder = tmp_path_factory.mktemp("trained")
    words = [sys.executable, str(ROOT / "train_supernet.py"), "--search-space", str(TINY)]
    words += ["--device", "cpu", "--epochs", "2", "--lr", "0.05", "--title", "s"]
    subprocess.run(words, cwd=folder, capture_output=True, check=True)
    space = load_space(TINY, 8, 10)
    entries = {
        "".join(map(str, code)): {"mean_acc": 80 + sum(code) / 2, "std": 0.2}
        for code in all_codes(space).tolist()
    }
    (folder / "bench.json").write_text(json.dumps(entries))
    return {"B": folder / "bench.json", "C": folder / "runs" / "s" / "supernet.pt"}


def test_command_and_resume(
    trained: dict[str, Path], command: Command, main: Main, tmp_path: Path
) -> None:
    flags = ("--checkpoint", trained["C"], "--benchmark", trained["B"], "--device", "cpu")
    flags += ("--num-architectures", 40, "--bootstrap", 50, "--validation-images", 200)
    done = command("evaluate_ranking.py", *flags, "--budgets", "0.3,0.6", "--title", "r")
    found = json.loads(done.stdout)  # nothing but JSON there
    run = tmp_path / "runs" / "r"
    assert json.loads((run / "ranking.json").read_text()) == found
    assert found["num_architectures"] == 40 and found["num_codes"] == 192
    assert (run / "ranking.png").read_bytes().startswith(b"\x89PNG")
    with (run / "ranking.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["digits"] for row in rows}) == 40
    top1 = np.array([float(row["top1"]) for row in rows])
    accuracy = np.array([float(row["accuracy"]) for row in rows])
    assert found["kendall_tau"] == pytest.approx(naive_tau(top1, accuracy))
    smooth = np.array([float(row["smoothed"]) for row in rows])
    assert found["smoothed"]["kendall_tau"] == pytest.approx(naive_tau(smooth, accuracy))
    assert smooth.mean() == pytest.approx(top1.mean()) and 0 < smooth.std() < top1.std()
    assert (top1 * 2 % 1 == 0).all()  # of 200 images
    low, high = found["kendall_tau_interval"]
    assert low <= found["kendall_tau"] <= high
    assert [row["budget"] for row in found["regret"]] == [0.3, 0.6]

    text = (run / "ranking.csv").read_text()
    logged = (run / "candidates.log").read_text().splitlines(keepends=True)
    (run / "candidates.log").write_text("".join(logged[:20]))  # interrupted
    (run / "ranking.csv").unlink()
    (run / "ranking.json").unlink()
    again = json.loads(main(evaluate_ranking, "--title", "r", "--resume"))
    assert (run / "ranking.csv").read_text() == text
    assert (run / "candidates.log").read_text().splitlines(keepends=True)[:20] == logged[:20]
    assert {**again, "seconds": 0} == {**found, "seconds": 0}


def test_several_supernets(trained: dict[str, Path], main: Main, tmp_path: Path) -> None:
    """Mean and spread of what each one gives alone; resumable."""
    state = load_checkpoint(trained["C"])
    generator = torch.Generator().manual_seed(0)
    for weight in state["supernet"].values():
        if weight.dim() == 4:
            weight += 0.3 * weight.std() * torch.randn(weight.shape, generator=generator)
    torch.save(state, tmp_path / "other.pt")
    both = (trained["C"], tmp_path / "other.pt")
    flags = ("--benchmark", trained["B"], "--device", "cpu", "--num-architectures", 20)
    flags += ("--bootstrap", 10, "--validation-images", 100)
    alone = [json.loads(main(evaluate_ranking, *flags, "--checkpoint", path)) for path in both]
    found = json.loads(main(evaluate_ranking, *flags, "--title", "two", "--checkpoint", *both))
    again = json.loads(main(evaluate_ranking, "--title", "two", "--resume"))
    assert {**again, "seconds": 0} == {**found, "seconds": 0}
    for one, of_both in zip(alone, found["supernets"], strict=True):
        assert of_both.items() >= {k: one[k] for k in ("kendall_tau", "regret")}.items()
    taus = [one["kendall_tau"] for one in alone]
    assert taus[0] != taus[1] and found["kendall_tau"] == pytest.approx(statistics.mean(taus))
    assert found["kendall_tau_std"] == pytest.approx(statistics.stdev(taus))
    regrets = [one["regret"][0]["regret"] for one in alone]
    assert found["regret"][0]["regret"] == pytest.approx(statistics.mean(regrets))
    assert (tmp_path / "runs" / "two" / "ranking_2.png").exists()
    header = (tmp_path / "runs" / "two" / "ranking.csv").read_text().splitlines()[0]
    assert header.endswith("score_1,smoothed_1,top1_1,score_2,smoothed_2,top1_2")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--benchmark", "B"), "--checkpoint FILE is missing"),
        (("--checkpoint", "C"), "--benchmark FILE is missing"),
        (("--checkpoint", "C", "--benchmark", "none.json"), "none.json cannot be read"),
        (("--checkpoint", "C", "--benchmark", "B", "--validation-images", 900), "part has 270"),
        (("--checkpoint", "C", "--benchmark", "B", "--budgets", "0,x"), "list of numbers"),
        (("--checkpoint", "C", "--benchmark", "B", "--num-architectures", 900), "156 distinct"),
        (("--checkpoint", "C", "--benchmark", "B", "--budgets", "9,0.01"), "costs at most 0.01 M"),
        (("--checkpoint", "C", "--benchmark", "B", "--search-space", "fbnet"), "4 digits, but"),
    ],
)
def test_bad_input_is_one_line(
    flags: tuple, says: str, trained: dict[str, Path], main: Main
) -> None:
    assert says in main(evaluate_ranking, *(trained.get(f, f) for f in flags), ok=False)
    assert not Path("runs").exists()


def test_macs_are_counted_at_the_size_that_is_asked(trained: dict[str, Path], main: Main) -> None:
    """At twice the size four times the MACs, but for what the classifier costs."""
    flags = ("--checkpoint", trained["C"], "--benchmark", trained["B"], "--num-architectures=5")
    flags += ("--validation-images=20", "--bootstrap=10")
    budgets = []
    for more in ([], ["--cost-input-size=16"]):
        rows = json.loads(main(evaluate_ranking, *flags, *more))["regret"]
        budgets.append(np.array([row["budget"] for row in rows]))
    assert (budgets[1] / budgets[0] > 3.5).all() and (budgets[1] / budgets[0] <= 4).all()


def test_measuring_the_choices(trained: dict[str, Path], main: Main) -> None:
    flags = ("--checkpoint", trained["C"], "--benchmark", trained["B"], "--bootstrap=10")
    flags += ("--num-architectures=20", "--sizes=1", "--reference=3")
    found = json.loads(main(ranking_choices, *flags))
    rows = {row["calibration"]: row for row in found["calibration"]}
    assert list(rows) == ["none", "1 batches", "3 batches", "1 batches, augmented"]
    assert rows["3 batches"]["mean_gap"] == 0 < rows["none"]["mean_gap"]
    assert 0 < found["representatives"]["networks"] < 20
    scores = found["scores"]
    assert scores["top1"]["kendall_tau"] == rows["1 batches"]["kendall_tau"]
    assert all(
        -1 <= scores[s]["kendall_tau"] <= 1 for s in ("probability", "negative_loss", "separation")
    )


def test_the_recipe_of_the_real_ranking_is_a_config() -> None:
    recipe = ROOT / "config_file" / "search" / "nas_bench_macro_cifar10.yaml"
    words = ["--config", str(recipe), "--data-path", "images"]
    values = values_of(load_config(TrainSupernetConfig, "", words))
    expected = {"search_space": "nas_bench_macro", "sample_strategy": "fair", "epochs": 10}
    expected |= {"lr": 0.01, "label_smoothing": 0.1, "augment": False}
    assert {name: values[name] for name in expected} == expected
