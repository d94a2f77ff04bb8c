"""Progress bars: redrawn on a terminal, whole lines elsewhere, nothing when quiet."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import pytest
from tqdm import tqdm

from utils.progress import set_up_bars


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def tqdm_as_it_was() -> Iterator[None]:
    before = {name: getattr(tqdm, name) for name in ("__init__", "display", "clear")}
    yield
    for name, value in before.items():
        setattr(tqdm, name, value)


def run_bar(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, quiet: bool = False) -> str:
    monkeypatch.setattr("sys.stderr", stream)
    set_up_bars(quiet)
    with tqdm(total=100, initial=10, desc="search", unit="net", mininterval=0, file=stream) as bar:
        for _ in range(3):
            bar.update(30)
            tqdm.write("a message", file=io.StringIO())
            bar.set_postfix(best="91.20")
    return stream.getvalue()


def test_a_log_gets_whole_lines_where_something_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    text = run_bar(monkeypatch, io.StringIO())
    assert "\r" not in text
    lines = text.strip().splitlines()
    counts = [re.search(r"(\d+) of 100 nets", line)[1] for line in lines if "best" in line]
    assert counts == ["40", "70", "100"]
    assert re.search(r"\d+ of 100 nets, [\d.]+net/s, \d\d:\d\d gone, \d\d:\d\d left", text)
    assert len(lines) <= 7  # the start, and each state once


def test_a_terminal_gets_one_line_that_is_redrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    run_bar(monkeypatch, io.StringIO())  # what was set up before does not last
    text = run_bar(monkeypatch, Terminal())
    assert text.count("\n") == 1 and text.count("\r") >= 3
    assert "100/100" in text and "best=91.20" in text


def test_quiet_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_bar(monkeypatch, io.StringIO(), quiet=True) == ""
    assert run_bar(monkeypatch, Terminal(), quiet=True) == ""
