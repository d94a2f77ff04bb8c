"""compare_runs.py on folders of runs."""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
import pytest
from conftest import Command, Main
from fake_runs import fake_run, read_rows

import compare_runs
from lookup_table import LookupTable
from model import SearchSpace


@pytest.fixture
def runs(tmp_path: Path, tiny: SearchSpace, tiny_table: LookupTable) -> Path:
    """Two seeds of one method, one other method on a checkpoint, one run that is not finished."""
    folder = tmp_path / "runs"
    for seed in (0, 1):
        fake_run(folder / f"fair_{seed}", tiny, tiny_table, seed, sample_strategy="fair")
    checkpoint = str(folder / "fair_0" / "supernet.pt")
    other = {"search_strategy": "random", "checkpoint": checkpoint}
    fake_run(folder / "random", tiny, tiny_table, 2, "latency", **other)
    (folder / "random" / "random_control.csv").unlink()
    (folder / "half").mkdir()
    return folder


def test_the_table_and_the_csv_say_what_the_runs_hold(
    runs: Path, command: Command, tmp_path: Path
) -> None:
    done = command("compare_runs.py", *sorted(runs.iterdir()))
    assert "note: half holds no finished search" in done.stdout
    rows = {row["title"]: row for row in read_rows(tmp_path / "comparison.csv")}
    assert list(rows) == ["fair_0", "fair_1", "random"]
    assert [row["sampler"] for row in rows.values()] == ["fair", "fair", "fair"]  # the checkpoint's
    for title, row in rows.items():
        history = read_rows(runs / title / "history.csv")
        top1 = [float(line["top1"]) for line in history]
        best = history[top1.index(max(top1))]
        assert float(row["top-1"]) == float(row["random best"]) == max(top1)
        assert float(row["random mean"]) == pytest.approx(statistics.mean(top1))
        assert float(row["MACs"]) == pytest.approx(int(best["flops"]) / 1e6)
        assert f"{max(top1):.2f}" in done.stdout
    assert rows["fair_0"]["latency"] == "" != rows["random"]["latency"]
    both = [float(rows[title]["top-1"]) for title in ("fair_0", "fair_1")]
    seeds = done.stdout.split("Over seeds")[1]
    assert f"{statistics.mean(both):.2f} ± {statistics.stdev(both):.2f}" in seeds
    assert "random" not in seeds.split("written")[0].splitlines()[-1]
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("width", [80, 120])
def test_the_tables_fit_a_narrow_terminal(
    runs: Path, width: int, main: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("utils.report.terminal_width", lambda: width)
    shown = main(compare_runs, *sorted(runs.iterdir()))
    assert max(map(len, shown.splitlines())) <= width
    assert "top-1" in shown and "MACs (M)" in shown and ("budget" in shown) == (width == 120)


def test_any_metric_is_compared_in_its_unit_and_an_accuracy_says_what_it_is(
    tmp_path: Path,
    tiny: SearchSpace,
    tiny_table: LookupTable,
    main: Main,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[tuple[object, ...]] = []
    monkeypatch.setattr(compare_runs, "plot_fronts", lambda *what: drawn.append(what))
    fake_run(tmp_path / "a", tiny, tiny_table, 0, "energy")
    fake_run(tmp_path / "b", tiny, tiny_table, 1, "energy", oracle="macro.json")
    words = ("a", "b", "--metric", "energy")
    assert "energy (mJ)" in main(compare_runs, *words)
    _, candidates, _, label, accuracy, remark = drawn[0]
    assert remark == "accuracies of different supernets or images"
    assert label == "energy (mJ)" and accuracy == "validation top-1 or true accuracy"
    assert candidates["a"][0].tolist() == [0.5 + i / 100 for i in range(60)]
    rows = read_rows(tmp_path / "comparison.csv")
    assert [row["accuracy"] for row in rows] == ["validation top-1", "true accuracy"]
    text = (tmp_path / "a" / "lookup_table.yaml").read_text()
    (tmp_path / "a" / "lookup_table.yaml").write_text(text.replace("mJ", "J"))
    assert "the runs have energy in J and in mJ" in main(compare_runs, *words, ok=False)


def test_searches_are_grouped_by_who_scored_them_and_networks_come_by_themselves(
    tmp_path: Path, tiny: SearchSpace, tiny_table: LookupTable, main: Main
) -> None:
    """A search of another's checkpoint is of its group; one on other images is not."""
    folder, checkpoint = tmp_path / "runs", {"checkpoint": "runs/a/supernet.pt"}
    for name, flags in (("a", {}), ("b", {}), ("on_a", checkpoint), ("other_split", checkpoint)):
        fake_run(folder / name, tiny, tiny_table, 0, **flags)
        validation = np.arange(50) + (name == "other_split")
        np.savez(folder / name / "splits.npz", validation=validation, test=np.arange(9))
    net = fake_run(folder / "net", tiny, tiny_table, 0, arch="runs/a", epochs=3)
    (net / "history.csv").unlink()
    (net / "weights.safetensors").touch()
    np.savez(net / "splits.npz", test=np.arange(9))
    out = main(compare_runs, *folder.iterdir())
    searches, note, *_, trained = out.split("written")[0].split("\n\n")[:-1]
    groups: list[set[str]] = []
    for line in searches.splitlines()[2:]:
        if "(uniform): " in line:  # a heading
            groups.append(set())
        else:
            groups[-1].add(line.split()[0])
    assert sorted(map(sorted, groups)) == [["a", "on_a"], ["b"], ["other_split"]]
    assert "3 different supernets or validation splits" in note
    assert "net" in trained and "runs/a" in trained and "71.25 ± 15.09" in trained
    assert "net" in [row["title"] for row in read_rows(tmp_path / "comparison.csv")]
    assert "comparison.png" not in main(compare_runs, net)


def test_what_cannot_be_compared_is_one_line(runs: Path, tmp_path: Path, main: Main) -> None:
    for words, says in (
        (["missing"], "missing does not exist"),
        ([runs / "half"], "none of these is the folder of a finished search"),
        ([runs / "fair_0", "--metric", "latency"], "has no latency"),
    ):
        assert says in main(compare_runs, *words, ok=False)
    (runs / "fair_1" / "history.csv").write_text("index,round\n0,0\n")
    assert "history.csv is damaged" in main(compare_runs, runs / "fair_1", ok=False)
    assert not list(tmp_path.glob("comparison*"))
