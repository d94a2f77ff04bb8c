"""What is stopped, starved or run twice at once, as real processes."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest
import yaml
from conftest import TINY
from kills import ARCHITECTURE
from processes import same_state, start

from utils import interruption
from utils.checkpoint import load_checkpoint

SMALL = ("--search-space", TINY, "--device", "cpu", "--lr", 0.01)
EVOLUTION = (*SMALL, "--epochs", 1, "--generation-num", 3, "--population", 8, "--parent-num", 3)


def wait_for(path: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} does not appear"
        time.sleep(0.002)


@pytest.mark.parametrize(
    ("script", "number", "code"),
    [("train_supernet", signal.SIGTERM, 143), ("train_subnet", signal.SIGINT, 130)],
)
def test_a_signal_checkpoints_in_the_middle_of_an_epoch(
    tmp_path: Path, script: str, number: int, code: int
) -> None:
    """One line says how to go on; gone on with, the result is that of one piece."""
    space = ("--search-space", TINY)
    if script == "train_subnet":
        (tmp_path / "a.yaml").write_text(yaml.safe_dump(ARCHITECTURE))
        space = ("--arch", "a.yaml")
    flags = (*space, *SMALL[2:], "--epochs", 2, "--batch-size", 8, "--optimizer", "sgd")
    kind, name = {
        "train_supernet": ("supernet", "supernet.pt"),
        "train_subnet": ("subnet", "last.pt"),
    }[script]
    whole = start(script, *flags, "--title", "whole", folder=tmp_path)
    parts = start(script, *flags, "--title", "parts", folder=tmp_path)
    run = tmp_path / "runs" / "parts"
    wait_for(run / "config.yaml")
    time.sleep(0.7)
    os.kill(parts.process.pid, number)
    assert parts.wait() == code
    last = parts.text.strip().splitlines()[-1]
    assert last.startswith("stopped by ") and last.endswith("--title parts --resume"), parts.text
    assert "--resume" in (run / "log.txt").read_text()
    if (run / name).exists():  # else it had not begun to train
        state = load_checkpoint(run / name, kind)
        assert state["step"] > 0 or state["epoch"] > 0
    resumed = start(script, "--title", "parts", "--resume", folder=tmp_path)
    assert resumed.wait() == 0 and whole.wait() == 0, resumed.text
    same_state(tmp_path / "runs" / "whole" / name, run / name)


def test_two_searches_at_once_with_one_title_and_one_cache(tmp_path: Path) -> None:
    """One of them gets the title; those of other titles share the cache and agree."""
    runs = [start("search", *EVOLUTION, "--title", "same", folder=tmp_path) for _ in range(2)]
    runs += [start("search", *EVOLUTION, "--title", t, folder=tmp_path) for t in ("b", "c")]
    codes = [run.wait() for run in runs]
    assert sorted(codes[:2]) == [0, 2] and codes[2:] == [0, 0], runs[0].text
    loser = runs[codes.index(2)]
    errors = [line for line in loser.text.splitlines() if "error: " in line]
    assert len(errors) == 1, loser.text
    assert "exists" in errors[0] or "another process" in errors[0]
    histories = [(tmp_path / "runs" / t / "history.csv").read_bytes() for t in ("same", "b", "c")]
    assert histories[0] == histories[1] == histories[2]
    assert [p.suffix for p in (tmp_path / ".cache").iterdir()] == [".json"]
    assert not list((tmp_path / "runs").rglob(".tmp-*"))


def test_a_full_disk_is_one_line_and_the_checkpoint_before_is_intact(tmp_path: Path) -> None:
    flags = (*SMALL, "--epochs", 1, "--title", "t")
    done = start("train_supernet", *flags, folder=tmp_path)
    assert done.wait() == 0, done.text
    run = tmp_path / "runs" / "t"
    before = (run / "supernet.pt").read_bytes()
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "epochs": 2}))
    full = start(
        "train_supernet", "--title", "t", "--resume", folder=tmp_path, file_limit=len(before) // 2
    )
    assert full.wait() == 2, full.text
    errors = [line for line in full.text.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "supernet.pt" in errors[0] and "as it was" in errors[0]
    assert "Traceback" not in full.text
    assert (run / "supernet.pt").read_bytes() == before
    assert not list(run.glob(".tmp-*"))


def test_a_locked_run_is_not_resumed_by_a_second_process(tmp_path: Path) -> None:
    flags = (*SMALL, "--epochs", 3, "--batch-size", 4)
    first = start("train_supernet", *flags, "--title", "t", folder=tmp_path)
    wait_for(tmp_path / "runs" / "t" / "config.yaml")
    second = start("train_supernet", "--title", "t", "--resume", folder=tmp_path)
    assert second.wait() == 2
    assert f"pid {first.process.pid}" in second.text
    first.process.kill()
    first.wait()


def start_ranks(folder: Path, *flags: object, script: str = "train_supernet") -> list:
    """Two ranks, as torchrun would start them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared["ONESHOT_NAS_TIMEOUT"] = "60"
    ranks = [shared | {"RANK": str(i), "LOCAL_RANK": str(i)} for i in range(2)]
    return [start(script, *flags, folder=folder, environment=e) for e in ranks]


def test_when_a_rank_is_killed_the_other_says_so_and_the_job_resumes(tmp_path: Path) -> None:
    flags = (*SMALL, "--epochs", 3, "--batch-size", 16, "--title", "t")
    folders = [tmp_path / "whole", tmp_path / "parts"]
    for folder in folders:
        folder.mkdir()
    whole = start_ranks(folders[0], *flags)
    assert [rank.wait() for rank in whole] == [0, 0], whole[0].text
    parts = start_ranks(folders[1], *flags)
    wait_for(folders[1] / "runs" / "t" / "supernet.pt")
    parts[1].process.kill()
    assert [rank.wait() for rank in parts] == [2, -9]
    errors = [line for line in parts[0].text.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "--resume" in errors[0]
    assert "rank 0 of 2 lost the others" in errors[0]
    assert "Traceback" not in parts[0].text, parts[0].text
    resumed = start_ranks(folders[1], "--title", "t", "--resume")
    assert [rank.wait() for rank in resumed] == [0, 0], resumed[0].text
    same_state(*(folder / "runs" / "t" / "supernet.pt" for folder in folders))


def test_a_subnet_on_two_ranks_is_stopped_by_either_and_goes_on(tmp_path: Path) -> None:
    """One folder, written by rank 0; the result is that of one piece."""
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(ARCHITECTURE))
    flags = ("--arch", "a.yaml", *SMALL[2:], "--epochs", 2, "--batch-size", 8)
    flags = (*flags, "--mixup", 0.5, "--ema-decay", 0.9)
    runs = tmp_path / "runs"
    whole = start_ranks(tmp_path, *flags, "--title", "whole", script="train_subnet")
    parts = start_ranks(tmp_path, *flags, "--title", "parts", script="train_subnet")
    wait_for(runs / "parts" / "last.pt")
    os.kill(parts[1].process.pid, signal.SIGTERM)
    assert [rank.wait() for rank in parts] == [143, 143], parts[0].text
    assert load_checkpoint(runs / "parts" / "last.pt", "subnet")["step"] > 0
    resume = ("--title", "parts", "--resume")
    resumed = start_ranks(tmp_path, *resume, script="train_subnet")
    assert [rank.wait() for rank in resumed + whole] == [0] * 4, resumed[0].text
    same_state(*(runs / title / "last.pt" for title in ("whole", "parts")))
    assert sorted(path.name for path in runs.iterdir()) == ["parts", "whole"]
    assert resumed[0].text.count("test top-1") == 1 and "test top-1" not in resumed[1].text


def listing(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


def test_nothing_is_written_outside_the_run_and_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start of its own, with home and temporary folders elsewhere, and no network."""
    import subprocess
    import sys

    from conftest import ROOT

    places = {n: tmp_path / n for n in ("home", "tmp", "config", "cache", "work")}
    for place in places.values():
        place.mkdir()
    environment = {
        **os.environ,
        "HOME": str(places["home"]),
        "TMPDIR": str(places["tmp"]),
        "XDG_CONFIG_HOME": str(places["config"]),
        "XDG_CACHE_HOME": str(places["cache"]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    sources = {p for p in listing(ROOT) if not p.startswith((".", "runs"))}
    # an audit hook that refuses every connection, in place of pulling the plug
    plug = "import sys; sys.addaudithook(lambda e, a: (_ for _ in ()).throw(OSError(e)) "
    plug += "if e == 'socket.connect' else None); import runpy; sys.argv = sys.argv[1:]; "
    plug += f"sys.path.insert(0, {str(ROOT)!r}); runpy.run_path(sys.argv[0], run_name='__main__')"
    words = [sys.executable, "-c", plug, ROOT / "search.py", *EVOLUTION, "--title", "t"]
    done = subprocess.run(
        [str(w) for w in words],
        cwd=places["work"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert {p.name for p in places["work"].iterdir()} == {"runs", ".cache"}
    assert {p.name for p in (places["work"] / "runs").iterdir()} == {"t"}
    left = {f"{n}/{p}" for n in ("home", "tmp", "config", "cache") for p in listing(places[n])}
    by_libraries = ("matplotlib", "fontconfig", "torchinductor_")  # their caches, where they go
    assert not [p for p in left if not any(name in p for name in by_libraries)], left
    assert {p for p in listing(ROOT) if not p.startswith((".", "runs"))} == sources


def test_a_run_of_a_run_may_write_many_warnings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a pipe holds: the child must not wait for its parent to read."""
    script = "import sys; sys.exit('warning\\n' * 50_000 + 'error: no such thing')"
    (tmp_path / "child.py").write_text(script)
    monkeypatch.setattr(interruption, "ROOT", tmp_path)
    with pytest.raises(ValueError, match="the run of a child failed: no such thing"):
        interruption.run_script("child.py", (), "a child")
