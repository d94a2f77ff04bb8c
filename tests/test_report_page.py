"""report.html: its numbers, its escaping, and that a real browser shows it without an error."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from fake_runs import read_rows
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch.utils.tensorboard import SummaryWriter

from lookup_table import Limit, LookupTable
from model import SearchSpace
from search_strategy.history import History
from search_strategy.report import SearchReport
from search_strategy.report_page import report_page
from search_strategy.strategy import Findings
from utils.files import write_text
from utils.plots import pareto_figure
from utils.report import Phases
from utils.run_files import TRAINING_FILE, add_epoch

NASTY = "a<b>&\"'`</script><img src=x onerror=alert(1)>"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom"),
)


def write_run(
    folder: Path,
    space: SearchSpace,
    table: LookupTable,
    metric: str = "flops",
    probabilities: np.ndarray | None = None,
    **config: object,
) -> SearchReport:
    """The files of a search with made-up scores: 60 candidates, or 1 with probabilities [L, C]."""
    rng = np.random.default_rng(1)
    histories = []
    for n in (60 if probabilities is None else 1, 30):
        history = History(space, table)
        for _ in range(0, n, 20):
            codes = rng.integers(0, space.num_choices, (min(n, 20), space.num_layers))
            history.add(codes, rng.uniform(50, 90, len(codes)).round(2))
        histories.append(history)
    folder.mkdir(parents=True)
    flags = {"search_strategy": "evolution", "dataset": "digits", "random_seed": 1, "oracle": None}
    report = SearchReport(folder, histories[0], flags | config, metric, (None, 0.85))
    report.add_random(histories[1])
    if probabilities is not None:
        report.add_findings(Findings(probabilities=probabilities))
    (folder / "log.txt").write_text(f"first line\n{NASTY}\n")
    finish(report)
    write_text(folder / "history.csv", histories[0].to_csv())
    return report


def finish(report: SearchReport) -> str:
    """The text of the page."""
    with SummaryWriter(str(report.folder / "tensorboard")) as writer:
        report.finish(Phases(), writer)
    return (report.folder / "report.html").read_text()


@pytest.fixture
def with_latency(tiny: SearchSpace, tiny_table: LookupTable) -> LookupTable:
    costs = np.random.default_rng(0).integers(1, 10**6, tiny_table.costs["flops"].shape)
    return tiny_table.with_metric("latency", costs, 500, "ms", {})


@pytest.fixture
def run(tmp_path: Path, tiny: SearchSpace, with_latency: LookupTable) -> Path:
    """The page of a run whose names must be escaped."""
    folder = tmp_path / NASTY.replace("/", "_")
    write_run(folder, tiny, with_latency, search_space=NASTY)
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
    assert page.text.count("<img src=x onerror=alert(1)>") >= 3  # title, config, log


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
    drawing = (run / "report.html").read_text().split("block by block")[1].split("</svg>")[0]
    texts = re.findall(r">([^<>]+)</text>", drawing)
    choices = yaml.safe_load((run / "best_architecture.yaml").read_text())["choices"]
    parts = ["stem", "first", *(part for name in choices for part in name.split("_")), "head"]
    assert [text for text in texts if text in parts] == parts
    widths = [layer.out_chs for layer in tiny.layers]
    shown = [int(text) for text in texts if text.isdigit()]
    assert shown == [tiny.stem_width, tiny.first_width, *widths, tiny.last_width]


def test_a_metric_of_a_user_and_an_oracle_keep_their_names(
    tmp_path: Path, tiny: SearchSpace, tiny_table: LookupTable
) -> None:
    """The budget is on the axis of its own metric, in its unit; a true accuracy is called that."""
    table = tiny_table.with_metric("energy", tiny_table.costs["flops"] * 7, 0, "mJ", {})
    report = write_run(tmp_path / "run", tiny, table, "energy", oracle="macro.json")
    page = (tmp_path / "run" / "report.html").read_text()
    plot = page.split('aria-label="Candidates"')[1].split("</svg>")[0]
    best = report.facts["energy"]
    assert ">energy (mJ)</text>" in plot and f"{best:,.3f} mJ" in plot and "MACs" not in plot
    assert ">budget</text>" in plot and ">true accuracy (%)</text>" in plot
    axes = pareto_figure(report.plots(), report.winner, report.accuracy).axes[0]
    assert [line.get_xdata()[0] for line in axes.lines if line.get_label() == "budget"] == [0.85]
    assert f"<b>{best:,.3f} mJ</b><span>energy</span>" in page
    assert "validation top-1" not in page and "--init-from" not in page
    assert report.rows["budget"] == "at most 0.850 mJ" and "true accuracy" in report.rows
    assert report.rows["energy"] == f"{best:,.3f} mJ"
    assert not any("--verify" in command for command in report.next_steps().values())
    trained = write_run(tmp_path / "trained", tiny, tiny_table, "flops")
    assert any("--verify" in command for command in trained.next_steps().values())


def test_a_differentiable_search_shows_its_probabilities(
    tmp_path: Path, tiny: SearchSpace, tiny_table: LookupTable
) -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(tiny.max_choices), tiny.num_layers)
    write_run(tmp_path / "run", tiny, tiny_table, probabilities=p)
    page = Page((tmp_path / "run" / "report.html").read_text())
    titles = page.attributes("title")
    for i, layer in enumerate(tiny.layers):
        for c, name in enumerate(layer.choices):
            assert f"layer {i + 1}, {name}: probability {p[i, c]:.3f}" in titles
    assert "Choice probabilities" in page.text and "Progress" not in page.text


def report_of(
    folder: Path, space: SearchSpace, table: LookupTable, *top1: float, limits: Sequence[Limit] = ()
) -> SearchReport:
    """A report of a search with these top-1, with splits of 400 validation images."""
    folder.mkdir()
    np.savez(folder / "splits.npz", validation=np.arange(400), test=np.arange(100))
    history = History(space, table)
    codes = np.array(list(itertools.islice(itertools.product(range(3), repeat=4), len(top1))))
    history.add(codes, np.array(top1))
    flags = {"search_strategy": "evolution", "dataset": "digits", "random_seed": 1, "oracle": None}
    return SearchReport(folder, history, flags, "flops", (None, 0.85), "", limits)


@pytest.mark.parametrize(
    ("control", "says"),
    [
        (92.0, "random search is better: the best of 1 random networks is 2.00 points ahead"),
        (90.0, "random search is as good: the best of 1 random networks equals the answer"),
        (89.0, "1.00 points ahead of the best of 1 random networks, within the noise of 400"),
        (80.0, "10.00 points ahead of the best of 1 random networks, beyond the noise of 400"),
    ],
)
def test_the_verdict(
    control: float, says: str, tmp_path: Path, tiny: SearchSpace, tiny_table: LookupTable
) -> None:
    report = report_of(tmp_path / "run", tiny, tiny_table, 90.0, 70.0)
    random = History(tiny, tiny_table)
    random.add(report.history.architectures[:1], np.array([control]))
    report.add_random(random)
    assert report.rows["verdict"].startswith(says)
    assert report.rows["validation top-1"] == "90.00 % ± 1.50"  # sqrt(.9 * .1 / 400)
    report.add_test(90.0)
    assert "90.00 % ± 3.00" in report.rows["test top-1"]


def test_the_verdict_is_of_the_score_that_chooses(
    tmp_path: Path, tiny: SearchSpace, tiny_table: LookupTable
) -> None:
    """Chosen by probability, an answer of lower top-1 than a random network may be ahead."""
    report = report_of(tmp_path / "run", tiny, tiny_table, 60.0, 55.0)
    report.history.top1_of = lambda codes: np.full(len(codes), 80.0)
    random = History(tiny, tiny_table, lambda codes: np.full(len(codes), 90.0))
    random.add(report.history.architectures[:1], np.array([58.0]))
    report.add_random(random)
    ahead = "2.00 points ahead of the best of 1 random networks by the mean probability of"
    assert report.rows["verdict"].startswith(ahead)


def test_ties_and_the_noise_of_a_random_search(
    tmp_path: Path, tiny: SearchSpace, tiny_table: LookupTable
) -> None:
    """Of the tied candidates the cheapest is taken, and it has rank 1 of the page."""
    report = report_of(tmp_path / "run", tiny, tiny_table, 70.0, 90.0, 90.0, 89.0, 90.0)
    report.add_random(report.history)
    tied = tiny_table.cost(report.history.architectures, "flops")[[1, 2, 4]]
    assert report.facts["flops"] == tied.min()
    taken = "taken: the lowest MACs, then the first found"
    assert report.rows["tied at the top"] == f"3 of 5 candidates; {taken}"
    assert report.rows["verdict"].startswith("3 of the other 4 candidates are within the noise")
    page = finish(report)
    first = page.split('class="top"')[1].split("<tr>")[2].split("</tr>")[0]
    cells = re.findall(r"<td[^>]*>([^<]*)", first)
    assert cells[:3] == ["1", str(report.winner), "90.00 ± 1.50"]
    assert cells[-1] == " ".join(report.facts["choices"])
    for command in report.next_steps().values():
        assert f"<pre>{command}</pre>" in page
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    start = events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    assert HParamsPluginData.FromString(start).session_start_info.group_name == "run"


def test_every_limit_is_shown_in_its_unit(
    tmp_path: Path, tiny: SearchSpace, with_latency: LookupTable
) -> None:
    limits = [Limit("params", None, 6500), Limit("latency", 500_000, 2_500_000)]
    report = report_of(tmp_path / "run", tiny, with_latency, 80.0, 90.0, limits=limits)
    assert report.rows["budget"] == (
        "at most 0.850 M MACs, at most 0.0065 M params, at most 2.500 ms, at least 0.500 ms"
    )
    ends = {"params": {"max": 0.0065}, "latency": {"max": 2.5, "min": 0.5}}
    assert report.facts["limits"] == ends
    figure = pareto_figure(report.plots(), report.winner, report.accuracy)
    axes = figure.axes[:3]
    assert [a.get_xlabel() for a in axes] == ["MACs (M)", "params (M)", "latency (ms)"]
    bounds = [
        [float(line.get_xdata()[0]) for line in a.lines if line.get_label() != "Pareto front"]
        for a in axes
    ]
    assert bounds == [[0.85], [0.0065], [0.5, 2.5]]
    page = finish(report)
    assert all(f"Candidates: {name}" in page for name in ("MACs", "params", "latency"))


def test_the_page_shows_what_training_has_logged(
    tmp_path: Path, tiny: SearchSpace, tiny_table: LookupTable
) -> None:
    """Curves of the run that trained the supernet; alpha's where the search reads it."""
    names = [f"{i}:{n}" for i, layer in enumerate(tiny.layers, 1) for n in layer.choices]
    (tmp_path / "trained").mkdir()
    for epoch in (1, 2, 3):
        numbers = {"loss": 1 / epoch, "top1": 10.0 * epoch, "entropy_share": 1 / epoch}
        numbers |= {"expected_over_target": 1.1} | dict.fromkeys(names, 0.25)
        add_epoch(tmp_path / "trained" / TRAINING_FILE, epoch, numbers)
    p = np.full((tiny.num_layers, tiny.max_choices), 0.25)
    flags = {"checkpoint": str(tmp_path / "trained" / "supernet.pt")}
    write_run(tmp_path / "run", tiny, tiny_table, probabilities=p, **flags)
    page = (tmp_path / "run" / "report.html").read_text()
    for text in ("training top-1 (%)", "entropy / uniform", "E[cost] / target", "layer 4"):
        assert f">{text}</text>" in page
    write_run(tmp_path / "other", tiny, tiny_table)
    other = (tmp_path / "other" / "report.html").read_text()
    assert "Supernet training" not in other and "over the epochs" not in other


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
      document.querySelector(".copy button").click();
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
    copied, others = (document.count(f">{word}</button>") for word in ("copied", "copy"))
    assert copied == 1 and copied + others == whole.count("<pre>") - 1 + 10  # but the log's; top 10
    told = re.findall(r"<title>top-1 \(%\) ([\d.]+), ", document)  # of each point of the plot
    assert told == [f"{float(row['top1']):.2f}" for row in rows]


def test_the_browser_test_would_see_an_error(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<html><body><script>document.nothing.there()</script></body></html>")
    _, console = open_in_browser(page, tmp_path / "profile")
    assert len(console) == 1 and "Uncaught TypeError" in console[0]


@pytest.mark.parametrize(("mean", "warns"), [(29.0, True), (31.0, False)])
def test_a_supernet_that_guesses_is_named(
    mean: float, warns: bool, tmp_path: Path, tiny: SearchSpace, tiny_table: LookupTable
) -> None:
    """Of 5 classes, 30 % is 1.5 times what guessing gives."""
    space = dataclasses.replace(tiny, num_classes=5)
    report = report_of(tmp_path / "run", space, tiny_table, mean, mean - 2)
    random = History(space, tiny_table)
    random.add(report.history.architectures, np.array([mean - 1, mean + 1]))
    report.add_random(random)
    assert ("guessing 20.00 %" in report.rows.get("warning", "")) == warns
    report.add_findings(Findings(warnings=["of the strategy"]))
    document = report_page(report)
    assert document.count('<p class="warning">') == 1 + warns, "one of them is lost"
    assert f"<b>warning{' 2' * warns}</b> of the strategy</p>" in document
    assert document.index('<p class="verdict">') < document.index("The network found")
