"""search.py and train_supernet.py end to end: a run of each as a process, the rest in this one."""

from __future__ import annotations

import csv
import itertools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT, TINY, Command, Main, load_splits

import search
import train_supernet
from lookup_table import LookupTable
from lookup_table.builder import load_table
from lookup_table.memory import add_memory
from model import SearchSpace, build_supernet, load_architecture, load_space
from search_strategy.evaluator import Evaluator

SMALL = ("--search-space", TINY, "--device", "cpu", "--epochs", 2, "--lr", 0.05)
EVOLUTION = (*SMALL, "--generation-num", 3, "--population", 8, "--parent-num", 3)


def read_history(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of an evolution search, with what it printed in stdout.txt."""
    folder = tmp_path_factory.mktemp("finished")
    words = [sys.executable, ROOT / "search.py", "--search-strategy", "evolution", "--title", "a"]
    words = [str(word) for word in (*words, *EVOLUTION)]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (folder / "runs" / "a" / "stdout.txt").write_text(done.stdout)
    return folder / "runs" / "a"


@pytest.fixture
def trained(finished: Path) -> tuple[object, ...]:
    """Flags that search the finished run's supernet."""
    return "--checkpoint", finished / "supernet.pt", "--device", "cpu"


def test_every_file_of_the_contract_is_there(finished: Path) -> None:
    for name in ("config.yaml", "log.txt", "supernet.pt", "history.csv", "random_control.csv"):
        assert (finished / name).stat().st_size > 0, name
    assert list((finished / "tensorboard").glob("events*"))
    assert (finished / "pareto.png").read_bytes().startswith(b"\x89PNG")
    summary = (finished / "stdout.txt").read_text()
    rows = ("best architecture", "MACs", "params", "validation top-1", "test top-1", "wall time")
    assert all(f"\n{row}" in summary for row in rows)
    assert summary.split("best architecture", 1)[1] in (finished / "log.txt").read_text()


def test_history_has_unique_candidates_within_the_budget(finished: Path) -> None:
    rows = read_history(finished / "history.csv")
    assert list(rows[0]) == ["index", "round", "architecture", "flops", "params", "top1"]
    assert len(rows) == 24 and len({row["architecture"] for row in rows}) == 24
    assert [int(row["round"]) for row in rows] == [i // 8 for i in range(24)]
    limit = yaml.safe_load((finished / "config.yaml").read_text())["target-hc"]
    assert all(int(row["flops"]) <= limit * 1e6 for row in rows)
    assert len(read_history(finished / "random_control.csv")) == 24


def test_best_architecture_is_the_best_of_the_history_and_its_score_is_true(
    finished: Path, tiny_table: LookupTable
) -> None:
    """The score is computed again from the checkpoint, with the evaluator alone."""
    best = yaml.safe_load((finished / "best_architecture.yaml").read_text())
    rows = read_history(finished / "history.csv")
    assert best["top1"] == max(float(row["top1"]) for row in rows)
    space, architecture = load_architecture(finished / "best_architecture.yaml")
    assert best["flops"] == tiny_table.cost(architecture, "flops")
    splits = load_splits("digits", None, 8, 64, 90, 0.8, 0, torch.device("cpu"))
    supernet = build_supernet(space)
    state = torch.load(finished / "supernet.pt", weights_only=True)
    supernet.load_state_dict(state["supernet"])
    images = next(iter(splits.calibration))[0]
    evaluator = Evaluator(supernet, [images], splits.validation)
    assert evaluator(architecture[None])[0] == pytest.approx(best["top1"], abs=1.2 * 100 / 270)
    assert evaluator.test(architecture, splits.test) == pytest.approx(best["test_top1"], abs=0.5)


def test_config_fed_back_gives_the_same_run(finished: Path, main: Main) -> None:
    main(search, "--config", finished / "config.yaml", "--title", "b")
    for name in ("history.csv", "random_control.csv", "config.yaml"):
        assert Path("runs/b", name).read_bytes() == (finished / name).read_bytes()


def test_random_strategy_on_the_same_checkpoint(
    finished: Path, trained: tuple[object, ...], main: Main
) -> None:
    """Space and dataset come from the checkpoint; training flags are said to have no effect."""
    flags = ("--search-strategy", "random_search", "--random-iteration", 20, "--title", "r")
    assert "without effect in this run: --lr" in main(search, *trained, *flags, "--lr", 1)
    rows = read_history(Path("runs/r/history.csv"))
    assert len({row["architecture"] for row in rows}) == 20
    assert not Path("runs/r/supernet.pt").exists()
    # the same weights, calibration and validation images: the same scores
    first = {r["architecture"]: r["top1"] for r in read_history(finished / "history.csv")}
    shared = [row for row in rows if row["architecture"] in first]
    assert all(first[row["architecture"]] == row["top1"] for row in shared)


def test_the_summary_names_the_score_that_chose(trained: tuple[object, ...], main: Main) -> None:
    flags = ("--search-strategy", "random_search", "--random-iteration", 5, "--no-random-control")
    out = main(search, *trained, *flags, "--score", "separation", "--title", "q")
    highest = max(float(row["score"]) for row in read_history(Path("runs/q/history.csv")))
    assert f"{highest:.2f} % mix of probability and separation" in " ".join(out.split())


def test_train_supernet_then_resume_then_search(
    command: Command, main: Main, tmp_path: Path
) -> None:
    command("train_supernet.py", *SMALL, "--title", "s")
    run = tmp_path / "runs" / "s"
    names = {p.name for p in run.iterdir()}
    assert {"config.yaml", "log.txt", "supernet.pt", "tensorboard"} <= names
    main(train_supernet, "--title", "s", "--resume")
    flags = ("--generation-num", 1, "--population", 4, "--parent-num", 2, "--no-random-control")
    flags += ("--score", "probability", "--smooth", "--title", "t")
    out = main(search, "--checkpoint", run / "supernet.pt", *flags)
    rows = read_history(Path("runs/t/history.csv"))
    assert len(rows) == 4 and list(rows[0])[-3:] == ["smoothed", "score", "top1"]
    winner = max(rows, key=lambda row: float(row["smoothed"]))
    best = yaml.safe_load(Path("runs/t/best_architecture.yaml").read_text())
    assert best["top1"] == float(winner["top1"])
    assert f"{float(winner['score']):.2f} % mean probability of the true class" in out
    assert f"{float(winner['smoothed']):.2f} % smoothed (--smooth)" in " ".join(out.split())
    space = load_space(TINY, 8, 10)
    assert load_architecture("runs/t/best_architecture.yaml")[0].layers == space.layers


def test_a_killed_search_resumes_to_the_same_bytes(
    trained: tuple[object, ...], main: Main, tmp_path: Path
) -> None:
    """SIGKILL as soon as the first candidates are on disk; then --resume."""
    flags = (*trained, "--population", 40, "--generation-num", 3, "--seeds", 2)
    flags += ("--target-hc", "none")
    words = [sys.executable, ROOT / "search.py", *flags, "--title", "k"]
    log = tmp_path / "runs" / "k" / "candidates.log"
    killed = subprocess.Popen([str(w) for w in words], cwd=tmp_path, stderr=subprocess.DEVNULL)
    while killed.poll() is None and not (log.exists() and log.stat().st_size):
        time.sleep(0.002)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    before = log.read_bytes()
    assert 0 < before.count(b"\n") < 156 and not (log.parent / "best_architecture.yaml").exists()
    with log.open("ab") as file:
        file.write(b"k3_e3 k3_")  # as if it had been killed while it wrote
    main(search, "--title", "k", "--resume")
    assert log.read_bytes().startswith(before)
    error = main(search, "--title", "k", "--resume", "--population", 9, ok=False)
    assert "--population 9 differs" in error
    out = main(search, *flags, "--title", "whole")
    for name in ("history.csv", "random_control.csv", "history_seed1.csv"):
        assert Path("runs/whole", name).read_bytes() == Path("runs/k", name).read_bytes()
    for row in ("largest in budget", "without BN calibration", "over 2 seeds", "random networks"):
        assert f"\n{row}" in out or f" {row}" in out


def test_pareto_under_a_table_from_a_phone(
    trained: tuple[object, ...], main: Main, tmp_path: Path, tiny: SearchSpace
) -> None:
    """Its latency is the budget, a history column, and a row of the front."""
    rows = ["layer,choice,latency", "fixed,,0.125"]
    cost = {"k3_e3": 0.5, "k3_e6": 1.0, "k5_e3": 0.75, "skip": 0.0}
    for i, layer in enumerate(tiny.layers, 1):
        rows += [f"{i},{name},{cost[name]}" for name in layer.choices]
    phone = tmp_path / "phone.csv"
    phone.write_text("\n".join(rows))
    flags = ("--search-strategy", "pareto", "--objectives", "latency", "params")
    flags += ("--info-metric", "latency", "--target-hc", 2.2, "--lookup-table", "phone.csv")
    flags += ("--population", 8, "--generation-num", 2, "--no-random-control", "--title", "p")
    main(search, *trained, *flags)
    run = tmp_path / "runs" / "p"
    history = read_history(run / "history.csv")
    assert len(history) == 16 and list(history[0])[-2:] == ["latency", "top1"]
    for row in history:
        names = row["architecture"].split(" ")
        assert float(row["latency"]) == 0.125 + sum(cost[name] for name in names) <= 2.2
    front, everyone = (
        [(-float(r["top1"]), float(r["latency"]), int(r["params"])) for r in rows]
        for rows in (read_history(run / "pareto_front.csv"), history)
    )
    for p in front:
        assert not any(q != p and all(a <= b for a, b in zip(q, p, strict=True)) for q in everyone)
    assert load_architecture(run / "pareto_front" / "000.yaml")[0].layers == tiny.layers
    best = yaml.safe_load((run / "best_architecture.yaml").read_text())
    assert best["info_metric"] == "latency" and best["latency"] <= 2.2
    phone.unlink()  # the run has its own copy
    assert "lookup_table.yaml" in (run / "config.yaml").read_text()
    main(search, "--title", "p", "--resume")


def test_an_oracle_takes_the_place_of_the_supernet(main: Main, tmp_path: Path) -> None:
    entries = {
        "".join(map(str, digits)): {"mean_acc": 50.0 + sum(digits)}
        for digits in itertools.product(range(3), repeat=8)
        if sum(digits) % 2
    }
    (tmp_path / "oracle.json").write_text(json.dumps(entries))
    flags = ("--oracle", "oracle.json", "--input-size", 32, "--target-hc", "none", "--aging")
    flags += ("--population", 20, "--generation-num", 10, "--device", "cpu", "--title")
    out = main(search, *flags, "o", "--search-space", "nas_bench_macro")
    assert "true accuracy" in out and "test top-1" not in out
    rows = read_history(Path("runs/o/history.csv"))
    assert len(rows) == 200 and max(float(row["top1"]) for row in rows) == 65.0
    assert all(float(row["top1"]) % 2 == 1 for row in rows)
    assert not Path("runs/o/supernet.pt").exists()
    assert "fix --search-space" in main(search, *flags, "o2", ok=False)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--search-strategy", "evolutoin"), "--search-strategy"),
        (("--dataset", "mnist"), "--dataset"),
        (("--dataset", "cifar10", "--data-path", "no/such/folder"), "no/such/folder"),
        (("--data-path", "."), "--data-path"),
        (("--target-hc", 0.0001), "its range is"),
        (("--target-hc", 0.4, "--min-hc", 0.5), "--target-hc or --min-hc"),
        (("--target-hc", "few"), "--target-hc"),
        (("--title", "../up"), "--title"),
        (("--search-space", "proxylesnas"), "did you mean 'proxylessnas'"),
        (("--search-space", "none.yaml"), "none.yaml"),
        (("--checkpoint", "none.pt"), "none.pt does not exist"),
        (("--config", "none.yaml"), "none.yaml"),
        (("--epochs", 0), "--epochs"),
        (("--lr", "nan"), "--lr"),
        (("--parent-num", 61), "--parent-num"),
        (("--batch-size", 5000), "--batch-size"),
        (("--calibration-batches", 500), "--calibration-batches"),
        (("--widths", "8,8"), "widths"),
        (("--resume",), "--title"),
        (("--title", "new", "--resume"), "nothing to resume"),
        (("--popultion", 3), "--popultion"),
        (("--search-strategy", "additive", "--smooth"), "--smooth goes with random, evolution"),
        (("--info-metric", "energy"), "metric 'energy' is unknown"),
        (("--lookup-table", "none.csv"), "none.csv does not exist"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(flags: tuple, says: str, main: Main) -> None:
    base = () if "--search-space" in flags else ("--search-space", TINY)
    assert says in main(search, *base, *flags, ok=False)
    assert not Path("runs").exists()


def test_an_existing_title_is_left_as_it_was(main: Main, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "mine"
    run.mkdir(parents=True)
    (run / "history.csv").write_text("precious")
    assert "exists" in main(search, "--search-space", TINY, "--title", "mine", ok=False)
    assert [p.name for p in run.iterdir()] == ["history.csv"]
    assert (run / "history.csv").read_text() == "precious"


def test_a_damaged_or_foreign_checkpoint(finished: Path, main: Main, tmp_path: Path) -> None:
    whole = (finished / "supernet.pt").read_bytes()
    (tmp_path / "half.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "whole.pt").write_bytes(whole)
    for flags, says in (
        (("half.pt",), "half.pt is truncated"),
        (("whole.pt", "--train-portion", 0.7), "train portion 0.8"),
        (
            ("whole.pt", "--search-space", "fbnet"),
            f"whole.pt is of search space {TINY}, this run of fbnet",
        ),
    ):
        assert says in main(search, "--checkpoint", *flags, ok=False)


@pytest.mark.parametrize("seeds", [1, 3])
def test_seeds_do_not_read_the_checkpoint_again(
    seeds: int, trained: tuple[object, ...], main: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for the flags it was trained with, once for weights and prior: 180 MB each time."""
    reads: list[object] = []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: reads.append(a) or load(*a, **k))
    flags = ("--population", 4, "--parent-num", 2, "--generation-num", 1, "--no-random-control")
    main(search, *trained, "--seeds", seeds, *flags)
    assert len(reads) == 2


def test_several_limits_hold_for_every_candidate(
    trained: tuple[object, ...], main: Main, tiny: SearchSpace
) -> None:
    """A recipe's median gives way to --limit of its metric; what is written repeats the run."""
    flags = ("--population", 6, "--generation-num", 2, "--parent-num", 2, "--title", "m")
    limits = ("--limit", "flops=70%", "--limit", "params=60%:20%", "--limit", "peak_memory=0.0045")
    out = main(search, *trained, *flags, *limits, "--memory-dtype", "int8")
    text = " ".join(out.split())
    assert "at most 0.00617 M params" in text and "at most 0.0045 MB" in text
    run = Path("runs/m")
    rows = read_history(run / "history.csv") + read_history(run / "random_control.csv")
    table = add_memory(tiny, load_table(tiny), "int8")
    for row in rows:
        found = tiny.encode(row["architecture"].split())
        assert int(row["flops"]) == table.cost(found, "flops") <= 0.7 * table.range("flops")[1]
        low, high = (share * table.range("params")[1] for share in (0.2, 0.6))
        assert low - 1 <= int(row["params"]) <= high
        assert float(row["peak_memory"]) == table.cost(found, "peak_memory") / 1e6 <= 0.0045
    best = yaml.safe_load((run / "best_architecture.yaml").read_text())
    assert best["limits"]["peak_memory"] == {"max": 0.0045} and best["target_hc"] < 0.4
    main(search, "--title", "m", "--resume")
    main(search, "--config", run / "config.yaml", "--title", "again")
    again = Path("runs/again/history.csv").read_bytes()
    assert again == (run / "history.csv").read_bytes()
