"""Atomic writes, titles, the summary table and the Pareto plot."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from utils.device import note_environment
from utils.errors import user_errors
from utils.files import atomic_path, write_text
from utils.metrics import metric_of
from utils.plots import CostPlot, Points, pareto_figure, save_png
from utils.report import clock, summary_table
from utils.run_files import TRAINING_FILE, add_epoch, read_epochs
from utils.run_folder import check_title, log, make_run_folder, start_log
from utils.statistics import pareto_front


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    write_text(file, "old")
    with pytest.raises(RuntimeError), atomic_path(file) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert file.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("title", ["", ".", "..", "a/b", "-x", "a b", "x" * 101, "a\n"])
def test_titles_that_cannot_be_folders(title: str) -> None:
    with pytest.raises(ValueError, match="--title"):
        check_title(title)


def test_automatic_titles_do_not_meet(tmp_path: Path) -> None:
    folders = {make_run_folder(tmp_path, None, False, "kind") for _ in range(3)}
    assert len(folders) == 3 and all(f.name.startswith("kind_") for f in folders)


def test_what_is_said_before_there_is_a_folder_is_in_its_log(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    start_log(tmp_path / "other", quiet=True)  # takes what other tests have left to be said
    start_log()
    log.info("left out: 21 files")
    start_log(quiet=True)
    start_log(tmp_path, quiet=True)
    log.info("later")
    words = [line.split(" ", 2)[2] for line in (tmp_path / "log.txt").read_text().splitlines()]
    assert words == ["left out: 21 files", "later"]


def test_a_run_on_another_set_up_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Resumed, or repeated by --config; versions, kind of core and threads are on record."""
    first, again = tmp_path / "first", tmp_path / "again"
    for folder in (first, again):
        folder.mkdir()
    note_environment(first, torch.device("cpu"), Path("recipe.yaml"))
    note_environment(first, torch.device("cpu"), None)
    assert not caplog.messages
    path = first / "environment.yaml"
    found = yaml.safe_load(path.read_text())
    assert found["torch"] == torch.__version__ and found["device"] == "cpu"
    assert found["cpu capability"] == torch.backends.cpu.get_cpu_capability()
    path.write_text(yaml.safe_dump({**found, "threads": "64", "numpy": "1.0"}))
    with caplog.at_level("INFO", "oneshot_nas"):
        note_environment(again, torch.device("cpu"), first / "config.yaml")
        note_environment(first, torch.device("cpu"), None)
    changed = f"had numpy 1.0, now {np.__version__}; threads 64, now {found['threads']}"
    assert [changed in message for message in caplog.messages] == [True, True]
    assert yaml.safe_load((again / "environment.yaml").read_text()) == found
    assert yaml.safe_load(path.read_text())["threads"] == "64"
    path.write_text("[1]")  # it is for people, and stops no run
    note_environment(first, torch.device("cpu"), None)


def test_front_against_brute_force(rng: np.random.Generator) -> None:
    cost, top1 = rng.integers(0, 30, 80), rng.integers(0, 30, 80)
    front = set(pareto_front(np.column_stack([cost, -top1])).tolist())
    points = {(cost[i], top1[i]) for i in front}
    expected = {
        (c, t)
        for c, t in zip(cost, top1, strict=True)
        if not (((cost <= c) & (top1 >= t)) & ((cost < c) | (top1 > t))).any()
    }
    assert points == expected and len(front) == len(points)


def test_plot_of_one_candidate(tmp_path: Path) -> None:
    one = Points(np.array([1.0]), np.array([1.0]), np.array([0]))
    plot = CostPlot(metric_of("flops"), (None, None), one, None)
    figure = pareto_figure([plot], 0, "$top-1$")
    save_png(figure, tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_an_epoch_that_is_repeated_replaces_its_row_and_later_ones(tmp_path: Path) -> None:
    assert read_epochs(tmp_path) == {}
    for epoch, numbers in ((1, {"loss": 3.0}), (2, {"loss": 2.0}), (3, {"loss": 1.0})):
        add_epoch(tmp_path / TRAINING_FILE, epoch, numbers)
    add_epoch(tmp_path / TRAINING_FILE, 2, {"loss": 2.5, "ce": 0.5})  # after a resume
    epochs = read_epochs(tmp_path)
    assert epochs["epoch"].tolist() == [1, 2] and epochs["loss"].tolist() == [3, 2.5]
    assert np.isnan(epochs["ce"][0]) and epochs["ce"][1] == 0.5


def test_summary_wraps_long_values() -> None:
    text = summary_table("t", {"short": "1", "long": " ".join(["k3_e6"] * 40)})
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("k3_e6") == 40
    assert (clock(7.31), clock(125)) == ("7.3 s", "2 min 05 s")


def test_our_errors_are_one_line_and_library_errors_keep_their_traceback(
    capsys: pytest.CaptureFixture,
) -> None:
    def ours() -> None:
        raise ValueError("first\nsecond")

    with pytest.raises(SystemExit) as stopped:
        user_errors(ours)()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: first second\n"

    def deep() -> None:
        import json

        json.loads("{")

    with pytest.raises(ValueError, match="Expecting"):
        user_errors(deep)()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written_is_one_line(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Disk full, read-only, no permission: which file, why, and that it is as it was."""
    file = tmp_path / "a.txt"
    write_text(file, "old")

    def refuse(*args: object, **options: object) -> None:
        raise OSError(number, os.strerror(number), "a temporary name")

    for name in ("tempfile.mkstemp", "os.fsync", "os.replace"):
        with monkeypatch.context() as patch:
            patch.setattr(name, refuse)
            with pytest.raises(OSError, match=r"a\.txt") as error:
                write_text(file, "new")
        assert os.strerror(number) in str(error.value) and "as it was" in str(error.value)
        assert file.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]
