"""train_subnet.py --verify: networks within the budget, trained alike, compared honestly."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from conftest import TINY, Command, Main
from scipy import stats

import train_subnet
from config_file.arg_config.sources import load_config
from config_file.arg_config.subnet_config import SubnetConfig
from lookup_table import Equivalence, LookupTable
from model import SearchSpace
from search_strategy.benchmark import Benchmark
from search_strategy.searched_run import SearchedRun, agreement
from search_strategy.verify import _report, add_truth, choose_networks, verdict
from utils.statistics import Comparison, compare

SEARCH = ("--search-space", TINY, "--epochs", 1, "--batch-size", 256, "--generation-num", 1)
SEARCH = (*SEARCH, "--population", 6, "--parent-num", 2, "--no-random-control")
RECIPE = ("--epochs", 1, "--batch-size", 256)


def test_comparison_is_student_s_interval_and_the_permutation_test() -> None:
    others = np.random.default_rng(0).normal(90, 2, 12)
    found = compare(92.0, others)
    expected = stats.ttest_1samp(others, 0).confidence_interval(0.95)
    assert [92 - found.high, 92 - found.low] == pytest.approx([expected.low, expected.high])
    assert found.difference == pytest.approx(92 - others.mean())
    # the exact test of one value against the rest: all K + 1 places are equally likely
    everything = np.append(others, 92.0)
    as_high = [stats.rankdata(-np.roll(everything, k), "max")[-1] for k in range(13)]
    assert found.p == np.mean(np.array(as_high) <= found.rank)
    assert compare(others.max(), others).rank == 2  # of equals the last


def check_supernets(folder: Path) -> None:
    """Answers of two supernets: what each scored its own with is what its run reported."""
    rows = list(csv.DictReader((folder / "supernets.csv").open()))
    for row, run in zip(rows, (folder, folder / "supernets/seed1"), strict=True):
        found = yaml.safe_load((run / "best_architecture.yaml").read_text())
        assert row["architecture"].split() == found["choices"]
        assert float(row[f"score_seed{row['seed']}"]) == found["top1"]
    seeds = [yaml.safe_load((folder / "supernets/seed1/config.yaml").read_text())["random-seed"]]
    assert seeds == [1]


def check_other_codes(tmp_path: Path, tiny: SearchSpace) -> None:
    """An answer is scored on the path that was found, not on that of an equal network."""
    shutil.copytree(tmp_path / "runs/T", tmp_path / "other")
    found = Path("best_architecture.yaml")
    for folder in (tmp_path / "other", tmp_path / "other/supernets/seed1"):
        facts = yaml.safe_load((folder / found).read_text())
        content = {k: facts[k] for k in ("search_space", "input_size", "num_classes")}
        content["search_space"] = str(TINY)
        content["choices"] = ["skip", "k3_e3", "k5_e3", "k3_e3"]
        (folder / found).write_text(yaml.safe_dump(content))
    codes = np.array([tiny.encode(content["choices"])])
    canonical = Equivalence(tiny).canonical(codes)
    assert (codes != canonical).any()
    cpu = torch.device("cpu")
    run = SearchedRun.read(tmp_path / "other", cpu)
    assert run.answer.tolist() == codes[0].tolist()
    assert "100 % of layers alike" in agreement([run, run], cpu)["their answers"]
    networks = choose_networks(run, 5, 0)
    equal = [(Equivalence(tiny).canonical(x[None]) == canonical).all() for x in networks.values()]
    assert equal == [True] + [False] * (len(networks) - 1)


def check_refusals(main: Main, flags: tuple, tmp_path: Path) -> None:
    """Errors before anything is trained, which leave nothing in the way of the right command."""
    list_of_files = tmp_path / "list.json"
    list_of_files.write_text("[1]")
    other_space = tmp_path / "other.json"
    other_space.write_text('{"00000": {"mean_acc": 90}}')
    before = other_space.read_bytes()
    cases = {
        ("--random", 500): "other networks; take fewer",
        ("--truth", list_of_files): "must map architectures",
        ("--truth", other_space): "has 5 digits",
        ("--truth", "gone/truth.json"): "its folder does not exist",
        ("--batch-size", 5000): "1077 training images",
        ("--teacher", "fbnet_c", "--teacher-weights", "gone.safetensors"): "do",
    }
    for more, says in cases.items():
        assert says in main(train_subnet, *flags, *more, ok=False)
    assert other_space.read_bytes() == before
    assert not (tmp_path / "runs/V").exists()


def test_verify(
    command: Command, main: Main, tmp_path: Path, tiny: SearchSpace, tiny_table: LookupTable
) -> None:
    command("search.py", *SEARCH, "--title", "T", "--supernet-seeds", 2)
    check_supernets(tmp_path / "runs/T")
    check_other_codes(tmp_path, tiny)
    flags = ("--verify", "runs/T", "--random", 2, "--title", "V", *RECIPE)
    check_refusals(main, flags, tmp_path)
    done = command("train_subnet.py", *flags)
    assert "runs/V/truth.json" in done.stdout
    folder = tmp_path / "runs" / "V"
    rows = list(csv.DictReader((folder / "verify.csv").open()))
    names = [row["name"] for row in rows]
    assert names[0] == "answer" and names[-2:] == ["random1", "random2"]
    limit = yaml.safe_load((tmp_path / "runs/T/config.yaml").read_text())["target-hc"] * 1e6
    codes = np.array([tiny.encode(row["architecture"].split()) for row in rows])
    assert (tiny_table.cost(codes, "flops") <= limit).all()
    assert len(np.unique(codes, axis=0)) == len(codes) in (3, 4)  # the answer may be the largest
    history = list(csv.DictReader((tmp_path / "runs/T/history.csv").open()))
    scores = {row["architecture"]: float(row["top1"]) for row in history}
    assert float(rows[0]["score"]) == scores[rows[0]["architecture"]]  # the same supernet, images

    truth = Benchmark.read(folder / "truth.json", tiny, tiny_table)
    assert len(truth.accuracy) == len(rows)
    alone = yaml.safe_load((folder / "trainings/random2_seed0/best_architecture.yaml").read_text())
    assert float(rows[-1]["test_top1"]) == alone["test_top1"]

    before = (folder / "verify.csv").read_bytes()
    (folder / "verify.csv").unlink()  # as if it had been stopped in the third training
    unfinished = folder / "trainings/random1_seed0/best_architecture.yaml"
    facts = {k: v for k, v in yaml.safe_load(unfinished.read_text()).items() if "top1" not in k}
    unfinished.write_text(yaml.safe_dump(facts))
    done = command("train_subnet.py", "--title", "V", "--resume")
    assert "1 of them left" in done.stdout
    assert (folder / "verify.csv").read_bytes() == before
    assert json.loads((folder / "verify.json").read_text())["rank"] in (1, 2, 3)


def test_the_truth_has_a_std_of_three_trainings_only(
    tmp_path: Path, tiny: SearchSpace, tiny_table: LookupTable
) -> None:
    """`training_agreement` takes a std for that of three trainings."""
    for number in (1, 2, 3, 4):
        path, test = tmp_path / f"{number}.json", np.arange(90.0, 90 + number)[None]
        add_truth(path, tiny, tiny_table, np.zeros((1, tiny.num_layers), dtype=int), test)
        truth = Benchmark.read(path, tiny, tiny_table)
        assert truth.accuracy == [test.mean()]
        assert truth.std is None if number != 3 else truth.std == [np.std([90, 91, 92])]


def test_a_network_is_replaced_in_the_truth_whatever_its_code(
    tmp_path: Path, tiny: SearchSpace, tiny_table: LookupTable
) -> None:
    first, same = np.array([[3, 0, 0, 0], [0, 3, 0, 0]])
    assert (Equivalence(tiny).canonical(first) == Equivalence(tiny).canonical(same)).all()
    path = tmp_path / "truth.json"
    path.write_text('{"3000": {"mean_acc": 90}, "1111": {"mean_acc": 70}}')
    add_truth(path, tiny, tiny_table, same[None], np.array([[10.0]]))
    assert sorted(Benchmark.read(path, tiny, tiny_table).accuracy) == [10, 70]


def test_equal_accuracies_have_no_tau_and_a_json(
    tmp_path: Path, tiny: SearchSpace, tiny_table: LookupTable, caplog: pytest.LogCaptureFixture
) -> None:
    budget = SimpleNamespace(counts=SimpleNamespace(metric="flops"))
    config = SimpleNamespace(evaluation=SimpleNamespace(score="top1"))
    run = SimpleNamespace(folder=tmp_path, table=tiny_table, budget=budget, config=config)
    networks = {
        name: np.array([0, 0, 0, i]) for i, name in enumerate(("answer", "random1", "random2"))
    }
    caplog.set_level("INFO", "oneshot_nas")
    _report(tmp_path, run, networks, np.arange(3.0), np.full((3, 1), 90.0), Path("my/truth.json"))
    text = (tmp_path / "verify.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["kendall_tau"] is None
    assert "undefined" in caplog.text and "my/truth.json" in caplog.text


@pytest.mark.parametrize(
    ("ties", "says"),
    [
        ((1, 1), "τ = 1.000 between supernets, over 50 random networks of the budget"),
        ((1, 0), "τ = undefined (all equal)"),
        ((1, 1, 0), "τ = 1.000 between supernets, over 50 random networks of the budget (2 of 3"),
    ],
)
def test_a_supernet_that_scores_all_alike_has_no_tau(
    ties: tuple[int, ...], says: str, tmp_path: Path, tiny: SearchSpace, tiny_table: LookupTable
) -> None:
    codes = np.indices(tiny.num_choices).reshape(tiny.num_layers, -1).T
    drawn = SimpleNamespace(metric="flops")
    budget = SimpleNamespace(
        counts=drawn,
        sample_unique=lambda number, rng: codes[:50],
        canonical=lambda networks: networks,
    )
    runs = [
        SimpleNamespace(
            folder=tmp_path,
            config=SimpleNamespace(run=SimpleNamespace(random_seed=seed)),
            space=tiny,
            table=tiny_table,
            budget=budget,
            answer=codes[-1],
            scores=lambda networks, *rest, slope=slope: slope * np.arange(float(len(networks))),
        )
        for seed, slope in enumerate(ties)
    ]
    assert agreement(runs, torch.device("cpu"))["their scores"].startswith(says)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--verify gone", "no run of search.py"),
        ("--verify T --arch fbnet_c", "leave --arch out"),
        ("--verify T --init-from supernet.pt", "leave --init-from out"),
        ("--verify T --export-onnx net.onnx", "leave --export-onnx out"),
        ("--verify T --benchmark", "leave --benchmark out"),
        ("--verify T --evaluate w.pt", "leave --evaluate out"),
        ("--verify T --epochs 0", "--epochs 0 does not"),
        ("--verify T --teacher fbnet_c", "--teacher-weights belong together"),
        ("--verify T --dataset cifar10", r"--dataset cifar10: .* \(digits\)"),
        ("--verify T --data-path other", r"--data-path other: .* \(images\)"),
        ("--arch fbnet_c --random 3", "--random belongs to --verify"),
        ("--arch fbnet_c --trainings 3", "--trainings belongs to --verify"),
        ("--arch fbnet_c --truth t.json", "--truth belongs to --verify"),
    ],
)
def test_what_does_not_go_with_verify(
    words: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("T").mkdir()
    Path("T/config.yaml").write_text(
        "search-strategy: random\ndataset: digits\ndata-path: images\n"
    )
    with pytest.raises(ValueError, match=says):
        load_config(SubnetConfig, "", words.split())
    load_config(SubnetConfig, "", ["--verify", "T", "--data-path", "./images", "--random", "3"])


@pytest.mark.parametrize(
    ("low", "high", "p", "says"),
    [
        (0.1, 2.0, 0.04, "the answer is better than the mean random network"),
        (0.1, 2.0, 0.1, "rank alone is not significant (p = 0.100)"),
        (-0.1, 2.0, 0.04, "cannot be told apart"),
        (-2.0, -0.1, 0.9, "the answer is worse than the mean random network"),
    ],
)
def test_the_verdict(low: float, high: float, p: float, says: str) -> None:
    text = verdict(Comparison((low + high) / 2, low, high, 2, p))
    assert says in text
    assert ("significant" in text) == ("significant" in says)
