"""What a person sees: --dry-run, --quiet, the report page of a real run, TensorBoard's groups."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import TINY
from helpers import all_codes
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

import search
import train_supernet
from lookup_table import Equivalence, LookupTable
from model import SearchSpace
from utils.run_files import read_epochs, read_run

SMALL = ("--search-space", TINY, "--device", "cpu", "--epochs", 2, "--lr", 0.05)


def run(module: object, monkeypatch: pytest.MonkeyPatch, folder: Path, *flags: object) -> None:
    """A command's main in this process, as if started in `folder`."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["command.py", *map(str, flags)])
    module.main()


def test_a_dry_run_says_what_a_run_would_do_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    tiny: SearchSpace,
    tiny_table: LookupTable,
) -> None:
    flags = (*SMALL, "--generation-num", 3, "--population", 8, "--parent-num", 3, "--seeds", 2)
    run(search, monkeypatch, tmp_path, *flags, "--target-hc", 0.3, "--dry-run")
    plan = " ".join(capfd.readouterr().out.split())
    codes = all_codes(tiny)
    inside = codes[tiny_table.cost(codes, "flops") <= 300_000]
    networks = len(np.unique(Equivalence(tiny).canonical(inside), axis=0))
    assert f"192 encodings of {Equivalence(tiny).size} networks" in plan
    assert f"within the budget {networks} networks" in plan
    assert "66 steps of 32 images (2 epochs of 1,077 images)" in plan
    assert "72 to score" in plan  # 3 generations of 8, for two seeds and the random control
    assert "history.csv" in plan and "no run was written" in plan
    assert not list(tmp_path.iterdir())

    run(train_supernet, monkeypatch, tmp_path, *SMALL, "--dry-run", "--title", "t")
    plan = capfd.readouterr().out
    assert "66 steps" in plan and "runs/t/" in plan and "to score" not in plan
    assert not list(tmp_path.iterdir())
    with pytest.raises(SystemExit):
        run(search, monkeypatch, tmp_path, "--dry-run", "--resume", "--title", "t")
    assert "leave --resume out" in capfd.readouterr().err


def test_a_quiet_run_leaves_everything_in_its_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    flags = ("--generation-num", 2, "--population", 6, "--parent-num", 2, "--title", "q", "--quiet")
    run(search, monkeypatch, tmp_path, *SMALL, *flags)
    said = capfd.readouterr()
    assert said.out == "" and said.err == ""
    folder = tmp_path / "runs" / "q"
    assert "best architecture" in (folder / "log.txt").read_text()
    assert "quiet" not in (folder / "config.yaml").read_text()

    page = (folder / "report.html").read_text()
    found = read_run(folder)
    assert f"{found.best['top1']:.2f} %" in page and f"{found.best['test_top1']:.2f} %" in page
    assert "best of 12 random ones" in page and "without BN calibration" in page

    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    groups = {tag.split("/")[0] for tag in events.Tags()["scalars"]}
    assert {"train", "search", "random_control", "final"} <= groups
    assert len(events.Scalars("search/top1_best")) == 2
    start = events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    flags = HParamsPluginData.FromString(start).session_start_info.hparams
    assert flags["population"].number_value == 6 and "lr" in flags
    assert not {"a_lr", "temperature_init", "random_iteration", "latency_threads"} & set(flags)
    epochs = read_epochs(folder)
    assert epochs["epoch"].tolist() == [1, 2] and "Supernet training" in page
    assert epochs["loss"].tolist() == pytest.approx(
        [event.value for event in events.Scalars("train/loss")]
    )
