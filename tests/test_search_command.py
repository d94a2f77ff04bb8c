"""`python search.py` and `python train_supernet.py` end to end, in subprocesses."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
import torch
import yaml
from conftest import TINY, Command, load_splits

import search
from lookup_table.builder import load_table
from lookup_table.memory import add_memory
from model import build_supernet, load_architecture, load_space
from search_strategy.evaluator import Evaluator

SMALL = ("--search-space", TINY, "--device", "cpu", "--epochs", 2, "--lr", 0.05)
EVOLUTION = (*SMALL, "--generation-num", 3, "--population", 8, "--parent-num", 3)


def read_history(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which an evolution search has run as title `a`."""
    import subprocess
    import sys

    from conftest import ROOT

    folder = tmp_path_factory.mktemp("finished")
    words = [sys.executable, ROOT / "search.py", "--search-strategy", "evolution", "--title", "a"]
    done = subprocess.run(
        [str(w) for w in (*words, *EVOLUTION)], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (folder / "stdout.txt").write_text(done.stdout)
    return folder


def test_every_file_of_the_contract_is_there(finished: Path) -> None:
    run = finished / "runs" / "a"
    for name in ("config.yaml", "log.txt", "supernet.pt", "history.csv", "random_control.csv"):
        assert (run / name).stat().st_size > 0, name
    assert list((run / "tensorboard").glob("events*"))
    assert (run / "pareto.png").read_bytes().startswith(b"\x89PNG")
    summary = (finished / "stdout.txt").read_text()
    for row in (
        "best architecture",
        "MACs",
        "params",
        "validation top-1",
        "test top-1",
        "wall time",
    ):
        assert f"\n{row}" in summary
    assert summary.split("best architecture", 1)[1] in (run / "log.txt").read_text()


def test_history_has_unique_candidates_within_the_budget(finished: Path, tiny_table) -> None:
    run = finished / "runs" / "a"
    rows = read_history(run / "history.csv")
    assert list(rows[0]) == ["index", "round", "architecture", "flops", "params", "top1"]
    assert len(rows) == 24 and len({row["architecture"] for row in rows}) == 24
    assert [int(row["round"]) for row in rows] == [i // 8 for i in range(24)]
    limit = yaml.safe_load((run / "config.yaml").read_text())["target-hc"]
    assert all(int(row["flops"]) <= limit * 1e6 for row in rows)
    assert len(read_history(run / "random_control.csv")) == 24


def test_best_architecture_is_the_best_of_the_history_and_its_score_is_true(
    finished: Path, tiny, tiny_table
) -> None:
    """The score is computed again from the checkpoint, with the evaluator alone."""
    run = finished / "runs" / "a"
    best = yaml.safe_load((run / "best_architecture.yaml").read_text())
    rows = read_history(run / "history.csv")
    assert best["top1"] == max(float(row["top1"]) for row in rows)
    space, architecture = load_architecture(run / "best_architecture.yaml")
    assert best["flops"] == tiny_table.cost(architecture, "flops")
    splits = load_splits("digits", None, 8, 64, 90, 0.8, 0, torch.device("cpu"))
    supernet = build_supernet(space)
    state = torch.load(run / "supernet.pt", weights_only=True)
    supernet.load_state_dict(state["supernet"])
    images = next(iter(splits.calibration))[0]
    evaluator = Evaluator(supernet, [images], splits.validation)
    assert evaluator(architecture[None])[0] == pytest.approx(best["top1"], abs=1.2 * 100 / 270)
    assert evaluator.test(architecture, splits.test) == pytest.approx(best["test_top1"], abs=0.5)


def test_config_fed_back_gives_the_same_run(
    finished: Path, command: Command, tmp_path: Path
) -> None:
    config = finished / "runs" / "a" / "config.yaml"
    command("search.py", "--config", config, "--title", "b")
    for name in ("history.csv", "random_control.csv"):
        again = (tmp_path / "runs" / "b" / name).read_bytes()
        assert again == (finished / "runs" / "a" / name).read_bytes()
    assert (tmp_path / "runs" / "b" / "config.yaml").read_text() == config.read_text()


def test_random_strategy_on_the_same_checkpoint(
    finished: Path, command: Command, tmp_path: Path
) -> None:
    """Space and dataset come from the checkpoint; training flags are said to have no effect."""
    checkpoint = finished / "runs" / "a" / "supernet.pt"
    flags = ("--search-strategy", "random_search", "--random-iteration", 20, "--title", "r")
    done = command("search.py", "--checkpoint", checkpoint, *flags, "--device", "cpu", "--lr", 1)
    assert "without effect in this run: --lr" in done.stdout
    rows = read_history(tmp_path / "runs" / "r" / "history.csv")
    assert len({row["architecture"] for row in rows}) == 20
    assert not (tmp_path / "runs" / "r" / "supernet.pt").exists()
    # the same weights, calibration and validation images: the same scores
    first = {r["architecture"]: r["top1"] for r in read_history(finished / "runs/a/history.csv")}
    shared = [row for row in rows if row["architecture"] in first]
    assert all(first[row["architecture"]] == row["top1"] for row in shared)


def test_train_supernet_then_resume_then_search(command: Command, tmp_path: Path) -> None:
    command("train_supernet.py", *SMALL, "--title", "s")
    run = tmp_path / "runs" / "s"
    assert {"config.yaml", "log.txt", "supernet.pt", "tensorboard"} <= {
        p.name for p in run.iterdir()
    }
    command("train_supernet.py", "--title", "s", "--resume")
    flags = ("--generation-num", 1, "--population", 4, "--parent-num", 2, "--no-random-control")
    flags = (*flags, "--score", "probability", "--smooth")
    done = command("search.py", "--checkpoint", run / "supernet.pt", *flags, "--title", "t")
    space = load_space(TINY, 8, 10)
    rows = read_history(tmp_path / "runs" / "t" / "history.csv")
    assert len(rows) == 4 and list(rows[0])[-3:] == ["smoothed", "score", "top1"]
    winner = max(rows, key=lambda row: float(row["smoothed"]))
    best = yaml.safe_load((tmp_path / "runs/t/best_architecture.yaml").read_text())
    assert best["top1"] == float(winner["top1"])
    assert f"{float(winner['score']):.2f} % mean probability of the true class" in done.stdout
    assert f"{float(winner['smoothed']):.2f} % smoothed (--smooth)" in " ".join(done.stdout.split())
    assert load_architecture(tmp_path / "runs/t/best_architecture.yaml")[0].layers == space.layers


def test_a_killed_search_resumes_to_the_same_bytes(
    finished: Path, command: Command, tmp_path: Path
) -> None:
    """SIGKILL as soon as the first candidates are on disk; then --resume."""
    import signal
    import subprocess
    import sys
    import time

    from conftest import ROOT

    flags = ("--checkpoint", finished / "runs" / "a" / "supernet.pt", "--device", "cpu")
    flags += ("--population", 40, "--generation-num", 3, "--seeds", 2, "--target-hc", "none")
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
    command("search.py", "--title", "k", "--resume")
    assert log.read_bytes().startswith(before)
    done = command("search.py", "--title", "k", "--resume", "--population", 9, ok=False)
    assert "--population 9 differs" in done.stderr
    done = command("search.py", *flags, "--title", "whole")
    for name in ("history.csv", "random_control.csv", "history_seed1.csv"):
        whole = (tmp_path / "runs" / "whole" / name).read_bytes()
        assert (tmp_path / "runs" / "k" / name).read_bytes() == whole
    for row in ("largest in budget", "without BN calibration", "over 2 seeds", "random networks"):
        assert f"\n{row}" in done.stdout or f" {row}" in done.stdout


def test_pareto_under_a_table_from_a_phone(
    finished: Path, command: Command, tmp_path: Path, tiny
) -> None:
    """Its latency is the budget, a history column, and a row of the front."""
    rows = ["layer,choice,latency", "fixed,,0.125"]
    cost = {"k3_e3": 0.5, "k3_e6": 1.0, "k5_e3": 0.75, "skip": 0.0}
    for i, layer in enumerate(tiny.layers, 1):
        rows += [f"{i},{name},{cost[name]}" for name in layer.choices]
    (tmp_path / "phone.csv").write_text("\n".join(rows))
    flags = ("--checkpoint", finished / "runs" / "a" / "supernet.pt", "--device", "cpu")
    flags += ("--search-strategy", "pareto", "--objectives", "latency", "params")
    flags += ("--info-metric", "latency", "--target-hc", 2.2, "--lookup-table", "phone.csv")
    flags += ("--population", 8, "--generation-num", 2, "--no-random-control")
    command("search.py", *flags, "--title", "p")
    run = tmp_path / "runs" / "p"
    history = read_history(run / "history.csv")
    assert len(history) == 16 and list(history[0])[-2:] == ["latency", "top1"]
    for row in history:
        names = row["architecture"].split(" ")
        assert float(row["latency"]) == 0.125 + sum(cost[name] for name in names) <= 2.2
    front = read_history(run / "pareto_front.csv")
    points = [(-float(r["top1"]), float(r["latency"]), int(r["params"])) for r in front]
    everyone = [(-float(r["top1"]), float(r["latency"]), int(r["params"])) for r in history]
    for p in points:
        assert not any(q != p and all(a <= b for a, b in zip(q, p, strict=True)) for q in everyone)
    assert load_architecture(run / "pareto_front" / "000.yaml")[0].layers == tiny.layers
    best = yaml.safe_load((run / "best_architecture.yaml").read_text())
    assert best["info_metric"] == "latency" and best["latency"] <= 2.2
    (tmp_path / "phone.csv").unlink()  # the run has its own copy
    assert "lookup_table.yaml" in (run / "config.yaml").read_text()
    command("search.py", "--title", "p", "--resume")


def test_an_oracle_takes_the_place_of_the_supernet(command: Command, tmp_path: Path) -> None:
    import itertools
    import json

    entries = {
        "".join(map(str, digits)): {"mean_acc": 50.0 + sum(digits)}
        for digits in itertools.product(range(3), repeat=8)
        if sum(digits) % 2
    }
    (tmp_path / "oracle.json").write_text(json.dumps(entries))
    flags = ("--oracle", "oracle.json", "--input-size", 32, "--title", "o", "--target-hc", "none")
    flags += ("--population", 20, "--generation-num", 10, "--device", "cpu")
    done = command("search.py", *flags, "--search-space", "nas_bench_macro", "--aging")
    assert "true accuracy" in done.stdout and "test top-1" not in done.stdout
    rows = read_history(tmp_path / "runs" / "o" / "history.csv")
    assert len(rows) == 200 and max(float(row["top1"]) for row in rows) == 65.0
    assert all(float(row["top1"]) % 2 == 1 for row in rows)
    assert not (tmp_path / "runs" / "o" / "supernet.pt").exists()
    wrong = command("search.py", *flags, "--title", "o2", ok=False)
    assert "fix --search-space" in wrong.stderr


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
        (
            ("--search-strategy", "additive", "--smooth"),
            "--smooth goes with random, evolution search",
        ),
        (("--info-metric", "energy"), "metric 'energy' is unknown"),
        (("--lookup-table", "none.csv"), "none.csv does not exist"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    flags: tuple, says: str, command: Command, tmp_path: Path
) -> None:
    base = () if "--search-space" in flags else ("--search-space", TINY)
    done = command("search.py", *base, *flags, ok=False)
    assert says in done.stderr
    assert not (tmp_path / "runs").exists()


def test_an_existing_title_is_left_as_it_was(command: Command, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "mine"
    run.mkdir(parents=True)
    (run / "history.csv").write_text("precious")
    done = command("search.py", "--search-space", TINY, "--title", "mine", ok=False)
    assert "exists" in done.stderr
    assert [p.name for p in run.iterdir()] == ["history.csv"]
    assert (run / "history.csv").read_text() == "precious"


def test_a_damaged_or_foreign_checkpoint(finished: Path, command: Command, tmp_path: Path) -> None:
    whole = (finished / "runs" / "a" / "supernet.pt").read_bytes()
    (tmp_path / "half.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "whole.pt").write_bytes(whole)
    assert (
        "half.pt is truncated" in command("search.py", "--checkpoint", "half.pt", ok=False).stderr
    )
    flags = ("--checkpoint", "whole.pt", "--train-portion", 0.7)
    assert "train portion 0.8" in command("search.py", *flags, ok=False).stderr
    flags = ("--checkpoint", "whole.pt", "--search-space", "fbnet")
    says = f"whole.pt is of search space {TINY}, this run of fbnet"
    assert says in command("search.py", *flags, ok=False).stderr


@pytest.mark.parametrize("seeds", [1, 3])
def test_seeds_do_not_read_the_checkpoint_again(
    seeds: int, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for the flags it was trained with, once for weights and prior: 180 MB each time."""
    reads: list[object] = []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: reads.append(a) or load(*a, **k))
    monkeypatch.chdir(tmp_path)
    words = ["search.py", "--checkpoint", finished / "runs" / "a" / "supernet.pt", "--seeds", seeds]
    words += ["--population", 4, "--parent-num", 2, "--generation-num", 1, "--no-random-control"]
    monkeypatch.setattr(sys, "argv", [str(word) for word in words])
    search.main()
    assert len(reads) == 2


def test_several_limits_hold_for_every_candidate(
    finished: Path, command: Command, tmp_path: Path, tiny
) -> None:
    """A recipe's median gives way to --limit of its metric; what is written repeats the run."""
    checkpoint = ("--checkpoint", finished / "runs" / "a" / "supernet.pt", "--device", "cpu")
    flags = (*checkpoint, "--population", 6, "--generation-num", 2, "--parent-num", 2)
    limits = ("--limit", "flops=70%", "--limit", "params=60%:20%", "--limit", "peak_memory=0.0045")
    done = command("search.py", *flags, *limits, "--memory-dtype", "int8", "--title", "m")
    text = " ".join(done.stdout.split())
    assert "at most 0.00617 M params" in text and "at most 0.0045 MB" in text
    run = tmp_path / "runs" / "m"
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
    command("search.py", "--title", "m", "--resume")
    command("search.py", "--config", run / "config.yaml", "--title", "again")
    again = tmp_path / "runs" / "again" / "history.csv"
    assert again.read_bytes() == (run / "history.csv").read_bytes()
