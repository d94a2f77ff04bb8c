"""A run stays what it was: its search space is edited, deleted, or the folder moved."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import TINY, Command

from config_file.arg_config.ranking_config import RankingConfig
from config_file.arg_config.run_config import Command as Flags
from config_file.arg_config.search_config import SearchConfig
from config_file.arg_config.sources import load_config, write_config
from config_file.arg_config.supernet_config import TrainSupernetConfig
from lookup_table.builder import load_table
from lookup_table.user_table import keep_costs, read_user_table
from model import (
    architecture_record,
    architecture_text,
    count_costs,
    keep_space,
    load_architecture,
    load_space,
    load_subnet,
    stored_space,
)
from utils.checkpoint import KINDS, save_checkpoint

MY = "my.yaml"
EXTENDING = """
extends: {base}
choices: [k3_e3, k5_e6]
width_mult: 2.0
stages:
  - {{width: 8, layers: 2, stride: 1, layer_choices: {{2: [k3_e1, k3_e3]}}}}
  - {{width: 16, layers: 2, stride: 2}}
"""
WIDTHS = [8, 8, 16, 24, 40]
EDITS: dict[str, Callable[[Path], object]] = {
    "edited": lambda file: file.write_text(TINY.read_text().replace("last: 32", "last: 48")),
    "deleted": lambda file: file.unlink(),
    "broken": lambda file: file.write_text("stages: 3"),
}
edits = pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a space of one's own in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / MY).write_text(TINY.read_text())
    return tmp_path


@pytest.fixture
def run(folder: Path) -> Path:
    """Files of a training of a supernet on my.yaml that name its space."""
    run = folder / "runs" / "T"
    run.mkdir(parents=True)
    space = load_space(MY, 8, 10)
    table = load_table(space).with_metric("latency", np.ones((4, 4), int), 1, "ms", {"of": "me"})
    keep_space(run, space)
    costs = str(keep_costs(run, space, table))
    flags = ["--search-space", MY, "--epochs", "1", "--lookup-table", costs]
    write_config(run / "config.yaml", load_config(TrainSupernetConfig, None, flags))
    config = {"search_space": MY, "dataset": "digits", "input_size": 8, "widths": None}
    state = {key: {} for key in KINDS["supernet"]} | {"config": config}
    save_checkpoint(run / "supernet.pt", **state)
    return run


@edits
@pytest.mark.parametrize("text", [TINY.read_text(), EXTENDING.format(base=TINY)])
@pytest.mark.parametrize("widths", [None, WIDTHS])
def test_an_architecture_file_carries_a_space_of_ones_own(
    folder: Path, edit: Callable, text: str, widths: list[int] | None
) -> None:
    (folder / MY).write_text(text)
    space = load_space(MY, 8, 10, widths)
    record = architecture_record(space, [1, 0, 1, 0]) | count_costs(space, [1, 0, 1, 0])
    (folder / "a").mkdir()
    (folder / "a" / "arch.yaml").write_text(architecture_text(record | {"top1": 9.5}))
    edit(folder / MY)
    loaded, architecture = load_architecture("a/arch.yaml")
    assert loaded.fingerprint == space.fingerprint and loaded.name == MY
    assert architecture.tolist() == [1, 0, 1, 0]
    again = architecture_record(loaded, architecture) | count_costs(loaded, architecture)
    (folder / "again.json").write_text(json.dumps(again))
    assert load_architecture("again.json")[0].fingerprint == space.fingerprint


@pytest.mark.parametrize("metric", ["flops", "params"])
@pytest.mark.parametrize("name", [MY, "fbnet"])
def test_costs_that_are_not_the_network_s_are_refused(folder: Path, name: str, metric: str) -> None:
    """Of a file that names its space: an edited YAML, or another version's shipped space."""
    space = load_space(name, 8, 10)
    architecture = [0] * space.num_layers
    record = architecture_record(space, architecture) | count_costs(space, architecture)
    record["search_space"] = name
    (folder / "a.yaml").write_text(yaml.safe_dump(record))
    assert load_architecture("a.yaml", input_size=16, num_classes=3)[0].num_classes == 3
    stored = record[metric] - 1
    (folder / "a.yaml").write_text(yaml.safe_dump(record | {metric: stored}))
    says = f"a.yaml records {metric} {stored}, but with {name} .* has {stored + 1}; restore .* or"
    for load in (load_architecture, load_subnet):
        with pytest.raises(ValueError, match=says):
            load("a.yaml")


def test_a_command_refuses_another_network(folder: Path, command: Command) -> None:
    space = load_space(MY, 8, 10)
    record = architecture_record(space, [0] * 4) | count_costs(space, [0] * 4)
    (folder / "a.yaml").write_text(yaml.safe_dump(record | {"search_space": MY}))
    EDITS["edited"](folder / MY)
    done = command("train_subnet.py", "--epochs", 1, "--arch", "a.yaml", ok=False)
    assert "a.yaml records flops" in done.stderr


def test_the_name_stays_while_the_space_is_the_same(run: Path) -> None:
    assert stored_space(run, MY, None) == MY
    Path(MY).write_text("# a remark\npaper: mine\n" + Path(MY).read_text())
    assert stored_space(run, MY, None) == MY
    assert stored_space(run, "fbnet", None) == "fbnet"  # my.yaml's copy is not of this run
    assert stored_space(run.parent, MY, None) == MY  # a run of an older version has no copy
    other = run.parent / "wide"
    other.mkdir()
    keep_space(other, load_space(MY, 8, 10, WIDTHS))
    assert stored_space(other, MY, WIDTHS) == MY
    assert load_space(stored_space(other, MY, None), 8, 10).widths == tuple(WIDTHS)


@edits
@pytest.mark.parametrize(
    ("kind", "flags"),
    [
        (TrainSupernetConfig, "--resume --title T"),
        (SearchConfig, "--config runs/T/config.yaml"),
        (SearchConfig, "--checkpoint runs/T/supernet.pt"),
        (RankingConfig, "--checkpoint runs/T/supernet.pt --benchmark b.json"),
    ],
)
def test_a_run_goes_on_with_its_own_space(
    run: Path, edit: Callable, kind: type[Flags], flags: str
) -> None:
    before = load_space(MY, 8, 10).fingerprint
    assert load_config(kind, None, flags.split()).space.search_space == MY  # type: ignore
    edit(Path(MY))
    config = load_config(kind, None, flags.split())
    space = load_space(config.space.search_space, 8, 10)  # type: ignore
    assert space.name == "runs/T/search_space.yaml" and space.fingerprint == before
    read_user_table(run / "lookup_table.yaml", space, load_table(space))  # still fits


@edits
def test_a_typed_space_must_be_the_run_s(run: Path, edit: Callable) -> None:
    argv = ["--resume", "--title", "T", "--search-space", MY]
    assert load_config(TrainSupernetConfig, None, argv).space.search_space == MY
    edit(Path(MY))
    with pytest.raises(ValueError, match=r"--search-space my.yaml has changed since .* leave the "):
        load_config(TrainSupernetConfig, None, argv)


def test_a_moved_run_finds_its_own_files(run: Path) -> None:
    moved = run.rename(run.parent.parent / "elsewhere")
    Path(MY).unlink()
    config = load_config(SearchConfig, None, ["--config", str(moved / "config.yaml")])
    assert Path(config.space.search_space) == moved / "search_space.yaml"
    assert config.latency.lookup_table == moved / "lookup_table.yaml"
