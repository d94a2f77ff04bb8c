"""What a person sees: --dry-run, --quiet, the report page of a real run, TensorBoard's groups."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, Main
from helpers import all_codes
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

import search
import train_supernet
from lookup_table import Equivalence, LookupTable
from model import SearchSpace
from utils.run_files import read_epochs, read_run

SMALL = ("--search-space", TINY, "--device", "cpu", "--epochs", 2, "--lr", 0.05)


def test_a_dry_run_says_what_a_run_would_do_and_writes_nothing(
    main: Main, tmp_path: Path, tiny: SearchSpace, tiny_table: LookupTable
) -> None:
    flags = (*SMALL, "--generation-num", 3, "--population", 8, "--parent-num", 3, "--seeds", 2)
    plan = " ".join(main(search, *flags, "--target-hc", 0.3, "--dry-run").split())
    codes = all_codes(tiny)
    inside = codes[tiny_table.cost(codes, "flops") <= 300_000]
    networks = len(np.unique(Equivalence(tiny).canonical(inside), axis=0))
    assert f"192 encodings of {Equivalence(tiny).size} networks" in plan
    assert f"within the budget {networks} networks" in plan
    assert "66 steps of 32 images (2 epochs of 1,077 images)" in plan
    assert "72 to score" in plan  # 3 generations of 8, for two seeds and the random control
    assert "history.csv" in plan and "no run was written" in plan
    assert not list(tmp_path.iterdir())

    plan = main(train_supernet, *SMALL, "--dry-run", "--title", "t")
    assert "66 steps" in plan and "runs/t/" in plan and "to score" not in plan
    assert not list(tmp_path.iterdir())
    flags = ("--dry-run", "--resume", "--title", "t")
    assert "leave --resume out" in main(search, *flags, ok=False)


def test_a_quiet_run_leaves_everything_in_its_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    flags = ("--generation-num", 2, "--population", 6, "--parent-num", 2, "--title", "q", "--quiet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["search.py", *map(str, (*SMALL, *flags))])
    search.main()  # not by `main`, which keeps stderr to itself
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
