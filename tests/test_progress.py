"""Progress bars: redrawn on a terminal, nothing elsewhere or when quiet."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from utils.run_folder import progress_bar, start_log


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def not_quiet() -> Iterator[None]:
    yield
    start_log()


@pytest.mark.parametrize(
    ("stream", "quiet", "shown"),
    [(Terminal(), False, True), (Terminal(), True, False), (io.StringIO(), False, False)],
)
def test_bars(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, quiet: bool, shown: bool):
    monkeypatch.setattr("sys.stderr", stream)
    start_log(quiet=quiet)
    with progress_bar(100, "search", "net", initial=10) as bar:
        bar.update(90)
        bar.set_postfix(best="91.20")
    text = stream.getvalue()
    assert ("search: 100%" in text and "100/100" in text and "best=91.20" in text) == shown
    assert bool(text) == shown
