"""Checkpoints that are damaged, foreign, old, new or of something else; losses; memory."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_flatten

from lookup_table.builder import load_table
from lookup_table.latency import LatencySettings, measure_latency
from utils.checkpoint import (
    FORMAT,
    check_facts,
    load_checkpoint,
    restore,
    restore_generators,
    save_checkpoint,
)
from utils.errors import memory_hint
from utils.finite import CHECK_EVERY, MAX_SKIPS_IN_A_ROW, LossGuard, reset_nonfinite_bn

CPU = torch.device("cpu")


def state() -> dict:
    parts = {name: {"a": torch.arange(5.0)} for name in ("supernet", "optimizer", "scheduler")}
    return {**parts, "sampler": {}, "loader": {}, "epoch": 3, "facts": {"x": 1}, "config": {}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "c.pt", **state())
    return tmp_path / "c.pt"


def test_it_is_a_plain_torch_file_and_a_valid_archive(file: Path) -> None:
    assert torch.load(file, weights_only=True)["epoch"] == 3
    assert zipfile.ZipFile(file).testzip() is None
    loaded = load_checkpoint(file)
    assert loaded["format"] == FORMAT and torch.equal(loaded["supernet"]["a"], torch.arange(5.0))


def plain(state: dict) -> tuple:
    """A checkpoint's content in a form that == compares."""
    leaves, structure = tree_flatten(state)
    return structure, [x.tolist() if isinstance(x, torch.Tensor) else x for x in leaves]


def test_no_changed_bit_changes_what_is_loaded(file: Path, rng: np.random.Generator) -> None:
    content, whole = plain(load_checkpoint(file)), bytearray(file.read_bytes())
    ends = [*range(64), *range(len(whole) - 100, len(whole))]
    refused = 0
    for at in [*ends, *rng.integers(0, len(whole), 300)]:
        changed = whole.copy()
        changed[at] ^= 1 << int(rng.integers(8))
        file.write_bytes(changed)
        try:
            assert plain(load_checkpoint(file)) == content  # a date or padding of the archive
        except ValueError as error:
            assert "c.pt" in str(error)
            refused += 1
    assert refused > 300


def test_any_truncation_is_noticed(file: Path, rng: np.random.Generator) -> None:
    whole = file.read_bytes()
    ends = [0, 1, 100, *range(len(whole) - 80, len(whole))]
    for length in [*ends, *rng.integers(0, len(whole), 60)]:
        file.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"c\.pt.*(truncated|damaged|not a checkpoint)"):
            load_checkpoint(file)


class Evil:
    def __reduce__(self) -> tuple:
        return (print, ("code was run",))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"weight": torch.ones(2)}, "not a checkpoint of this toolkit: it has no format"),
        ([1, 2], "has no format version"),
        (nn.Linear(2, 2), "more than tensors and plain values; nothing in it was run"),
        (Evil(), "nothing in it was run"),
        ({"format": FORMAT + 1}, f"format {FORMAT + 1}, this version reads up to {FORMAT}"),
        ({"format": 1, "epoch": 1}, "lacks config, facts"),
        ({"format": 1, "kind": "subnet", **state()}, "is of a subnet, not of a supernet"),
    ],
)
def test_foreign_and_other_versions_are_named(
    tmp_path: Path, content: object, says: str, capsys: pytest.CaptureFixture
) -> None:
    torch.save(content, tmp_path / "c.pt")
    with pytest.raises(ValueError, match=says) as error:
        load_checkpoint(tmp_path / "c.pt")
    assert "c.pt" in str(error.value) and "code was run" not in capsys.readouterr().out


def test_other_files_are_no_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "c.pt").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match=r"no file of torch\.save"):
        load_checkpoint(tmp_path / "c.pt")
    with pytest.raises(ValueError, match="does not exist"):
        load_checkpoint(tmp_path / "a\0b")
    with pytest.raises(ValueError, match="is a folder, without a file of weights"):
        load_checkpoint(tmp_path)
    (tmp_path / "best.pt").touch()
    with pytest.raises(ValueError, match=r"is a folder; take its file .*/best\.pt"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("version", [1, 2])
def test_older_formats_are_read(tmp_path: Path, version: int) -> None:
    old = tmp_path / "old.pt"
    generators = {"cpu": torch.get_rng_state(), "cuda": []}
    torch.save({"format": version, "generators": generators, **state()}, old)
    if version == 2:  # which had a SHA-256 as the archive's comment
        with zipfile.ZipFile(old, "a") as archive:
            archive.comment = b"sha256:" + b"0" * 64
    loaded = load_checkpoint(old)
    assert loaded["epoch"] == 3 and loaded["kind"] == "supernet"
    restore_generators(loaded)


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match=r"c\.pt: its supernet does not fit"):
        restore("c.pt", {"supernet": {"w": torch.ones(1)}}, {"supernet": nn.Linear(2, 2)})
    with pytest.raises(ValueError, match="has input size 8, this run 16; fix --input-size"):
        check_facts("c.pt", {"input_size": 8}, {"input_size": 16})
    facts = {"search_space": "fbnet", "widths": [16], "fingerprint": "a"}
    other = {"search_space": "spos", "widths": [24], "fingerprint": "b"}
    with pytest.raises(ValueError, match=r"c\.pt is of search space fbnet, this run of spos"):
        check_facts("c.pt", facts, other)
    check_facts("c.pt", facts, {**facts, "search_space": "copy_of_fbnet"})


def test_all_generators_go_on_where_they_were(file: Path) -> None:
    import random

    save_checkpoint(file, **state())
    drawn = (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random())
    restore_generators(load_checkpoint(file))
    assert drawn == (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random())


def test_a_run_does_not_depend_on_what_was_cached(tmp_path: Path, tiny) -> None:
    """Building a table draws weights that nobody uses; a run's own start where they always do."""
    drawn = []
    for _ in range(2):  # the first builds the table, the second finds it
        torch.manual_seed(0)
        load_table(tiny, tmp_path)
        settings = LatencySettings(device=CPU, seconds=0.0)
        measure_latency(tiny, load_table(tiny, tmp_path), settings)
        drawn.append(torch.rand(1).item())
    torch.manual_seed(0)
    assert drawn == [torch.rand(1).item()] * 2


def watch(guard: LossGuard, step: int, value: float) -> bool:
    guard.watch(torch.tensor(value), step, 0.1, [1, 0, 2])
    return guard.keep_step()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_not_finite_stops_at_its_step(value: float) -> None:
    """A path is named if it is one of choices, not of weights."""
    guard = LossGuard("stop", CPU)
    assert watch(guard, 1, 1.0)
    with pytest.raises(ValueError, match=r"at step 2 \(lr 0.1, path 1 0 2\).*--lr.*--on-nan skip"):
        watch(guard, 2, value)
    guard.watch(torch.tensor(float("nan")), 7, 0.1, torch.tensor([[0.2, 0.8], [0.9, 0.1]]))
    with pytest.raises(ValueError, match=r"at step 7 \(lr 0.1\);"):
        guard.keep_step()


def test_on_a_gpu_it_is_found_before_the_next_checkpoint() -> None:
    guard = LossGuard("stop", torch.device("cuda"))  # the losses may be anywhere
    assert guard.every == CHECK_EVERY
    assert watch(guard, 1, 1.0) and watch(guard, 2, float("nan")) and watch(guard, 3, float("nan"))
    with pytest.raises(ValueError, match="at step 2 "):
        guard.flush()


def test_skipping_leaves_single_steps_out_and_gives_up_on_many() -> None:
    guard = LossGuard("skip", CPU)
    kept = [watch(guard, i, v) for i, v in enumerate([1.0, float("nan"), 1.0, float("inf"), 1.0])]
    assert kept == [True, False, True, False, True] and guard.skipped == 2
    with pytest.raises(ValueError, match=f"{MAX_SKIPS_IN_A_ROW}th step in a row"):
        for i in range(MAX_SKIPS_IN_A_ROW):
            watch(guard, i, float("nan"))


def test_broken_statistics_are_reset_and_others_kept() -> None:
    norms = nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(2))
    norms[0].running_mean.fill_(float("nan"))
    norms[1].running_mean.fill_(3.0)
    assert reset_nonfinite_bn(norms) == 1
    assert norms[0].running_mean.tolist() == [0, 0] and norms[1].running_mean.tolist() == [3, 3]


def raise_gpu() -> None:
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 ...")


@pytest.mark.parametrize("act", [raise_gpu, lambda: torch.empty(2**60), lambda: np.ones(2**58)])
def test_memory_that_runs_out_is_one_line(act) -> None:
    says = r"out of memory \(.* asked for\); --batch-size 64"
    with pytest.raises(ValueError, match=says), memory_hint("--batch-size 64: lower it"):
        act()
    with pytest.raises(RuntimeError, match="teacher"), memory_hint("x"):
        raise RuntimeError("teacher")
