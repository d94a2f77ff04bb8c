"""Progress bars: redrawn on a terminal, whole lines elsewhere, nothing when quiet."""

from __future__ import annotations

import io
import re

import pytest

from utils import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run_bar(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, quiet: bool = False) -> str:
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(progress, "PLAIN_INTERVAL", 1e9)
    bar = progress.progress_bar(100, "search", "net", done=10, quiet=quiet)
    for _ in range(3):
        bar.update(30)
        bar.set_postfix(best="91.20")
    bar.close()
    return stream.getvalue()


def test_a_log_gets_whole_lines_where_something_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    text = run_bar(monkeypatch, io.StringIO())
    assert "\r" not in text
    lines = text.strip().splitlines()
    assert [re.split(r",|:", line)[1].strip() for line in lines] == [
        f"{n} of 100 nets" for n in (10, 40, 70, 100)
    ]
    assert all(line.endswith("best=91.20") for line in lines[1:])
    assert re.search(r"\d net/s, \d\d:\d\d gone, \d\d:\d\d left", lines[1])


def test_a_terminal_gets_one_line_that_is_redrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    text = run_bar(monkeypatch, Terminal())
    assert text.count("\n") == 1 and text.count("\r") >= 3
    assert "100/100" in text and "best=91.20" in text


def test_quiet_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_bar(monkeypatch, io.StringIO(), quiet=True) == ""
    assert run_bar(monkeypatch, Terminal(), quiet=True) == ""
