"""report.html: its numbers, its escaping, and that a real browser shows it without an error."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from fake_runs import fake_run, read_rows

from lookup_table import LookupTable
from model import SearchSpace
from utils.report_page import write_report

NASTY = "a<b>&\"'`</script><img src=x onerror=alert(1)>"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom"),
)


@pytest.fixture
def run(tmp_path: Path, tiny: SearchSpace, tiny_table: LookupTable) -> Path:
    """The page of a run whose names must be escaped."""
    folder = tmp_path / NASTY.replace("/", "_")
    fake_run(folder, tiny, tiny_table, seed=1, latency=True, search_space=NASTY)
    (folder / "log.txt").write_text(f"first line\n{NASTY}\n")
    write_report(folder, dataclasses.asdict(tiny), {"best": NASTY, "wall time": "3 s"})
    return folder


class Page(HTMLParser):
    """Elements, and the text of scripts and cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script":
            self.scripts.append(data)
        self.text += data

    def attributes(self, name: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.tags if name in attrs]


def test_names_are_escaped_and_nothing_is_loaded_from_elsewhere(run: Path) -> None:
    text = (run / "report.html").read_text()
    page = Page(text)
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert "img" not in [tag for tag, _ in page.tags]
    assert not page.attributes("onerror") and not page.attributes("src")
    assert page.attributes("href") == ["data:,"]
    assert not re.search(r"(https?:)?//[a-z]+\.", text) and "@import" not in text
    assert page.text.count("<img src=x onerror=alert(1)>") >= 4  # title, config, summary, log


def test_the_data_are_those_of_the_history(run: Path, tiny: SearchSpace) -> None:
    page = Page((run / "report.html").read_text())
    data = json.loads(page.scripts[0])
    rows = read_rows(run / "history.csv")
    keys = [column["key"] for column in data["columns"]]
    assert keys == ["top1", "flops", "params", "latency", "round", "index"]
    for row, shown in zip(rows, data["rows"], strict=True):
        assert " ".join(data["choices"][c] for c in shown["choices"]) == row["architecture"]
        values = dict(zip(keys, shown["values"], strict=True))
        assert values["top1"] == float(row["top1"])
        assert values["flops"] == pytest.approx(int(row["flops"]) / 1e6, abs=1e-6)
        assert values["latency"] == pytest.approx(float(row["latency"]))
    assert data["winner"] == max(range(60), key=lambda i: float(rows[i]["top1"]))


def test_choice_frequencies_are_those_of_the_best(run: Path, tiny: SearchSpace) -> None:
    rows = read_rows(run / "history.csv")
    best = sorted(rows, key=lambda row: -float(row["top1"]))[:10]
    titles = Page((run / "report.html").read_text()).attributes("title")
    for i, layer in enumerate(tiny.layers):
        for name in layer.choices:
            share, usual = (
                sum(row["architecture"].split()[i] == name for row in some) / len(some)
                for some in (best, rows)
            )
            text = f"layer {i + 1}, {name}: {share:.0%} of the best, {usual:.0%} of all"
            assert text in titles


def test_the_drawing_names_every_block(run: Path, tiny: SearchSpace) -> None:
    text = (run / "report.html").read_text()
    choices = yaml.safe_load((run / "best_architecture.yaml").read_text())["choices"]
    for i, (layer, name) in enumerate(zip(tiny.layers, choices, strict=True), 1):
        assert f"<title>{i}: {name}, {layer.in_chs} → {layer.out_chs} channels, " in text


def open_in_browser(page: Path, profile: Path) -> tuple[str, list[str]]:
    """The document after its scripts ran, and the lines of the browser's console."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser is installed (looked for {', '.join(BROWSERS)})")
    words = [browser, *BROWSER_FLAGS, f"--user-data-dir={profile}", page.as_uri()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, env={**os.environ})
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_a_browser_shows_it_sorts_and_filters_without_an_error(run: Path, tmp_path: Path) -> None:
    whole = (run / "report.html").read_text()
    actions = """<script>
      document.querySelectorAll(".candidates th button")[1].click();
      const box = document.getElementById("filter");
      box.value = "4:skip k5"; box.dispatchEvent(new Event("input"));
      const area = document.getElementById("pareto").getBoundingClientRect();
      document.getElementById("pareto").dispatchEvent(new PointerEvent("pointermove",
        {clientX: area.left + 9, clientY: area.top + 9}));
    </script></body>"""
    page = tmp_path / "page.html"
    page.write_text(whole.replace("</body>", actions))
    document, console = open_in_browser(page, tmp_path / "profile")
    assert not console
    rows = read_rows(run / "history.csv")
    names = [row["architecture"].split() for row in rows]
    wanted = [
        int(rows[i]["flops"]) / 1e6
        for i, name in enumerate(names)
        if name[3] == "skip" and any("k5" in choice for choice in name)
    ]
    body = document.split('class="candidates"')[1].split("<tbody>")[1].split("</tbody>")[0]
    shown = [float(line.split("</td>")[1].rpartition(">")[2]) for line in body.split("<tr")[1:]]
    assert 0 < len(wanted) < 50 and shown == pytest.approx(sorted(wanted), abs=6e-4)
    assert f"{len(wanted)} of {len(wanted)} shown" in document
    assert "Point at a candidate" not in document  # the text of the nearest one took its place


def test_the_browser_test_would_see_an_error(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<html><body><script>document.nothing.there()</script></body></html>")
    _, console = open_in_browser(page, tmp_path / "profile")
    assert len(console) == 1 and "Uncaught TypeError" in console[0]
