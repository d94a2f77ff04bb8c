"""The end of a search: its answer in a file, the plot, the page, and what it is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml

from search_strategy.history import History
from search_strategy.report_page import report_page
from utils.files import write_text
from utils.metrics import METRICS, MILLION, accuracy_name
from utils.plots import Points, pareto_figure, save_png
from utils.report import clock, summary_table
from utils.run_folder import log
from utils.timing import Phases

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import SummaryWriter

    from lookup_table import Limit
    from search_strategy.strategy import Findings


def points_of(history: History, metric: str) -> Points:
    """A history's candidates for a plot over one metric."""
    return Points(history.cost(metric) / MILLION, history.top1, history.rounds)


class SearchReport:
    """Collects the controls of a search, then saves and prints everything.

    Args:
        folder: the run folder.
        history: all candidates of the search.
        config: every flag of the run by its name inside, for the page and TensorBoard.
        metric: what the budget limits.
        window: lowest and highest cost allowed, in the metric's unit; None where there is no bound.
        chosen_by: how the strategy chooses, if not by the highest score.
        further: limits on other metrics.
    """

    def __init__(
        self,
        folder: Path,
        history: History,
        config: Mapping[str, object],
        metric: str,
        window: tuple[float | None, float | None],
        chosen_by: str = "",
        further: Sequence[Limit] = (),
    ) -> None:
        self.folder = folder
        self.history = history
        self.config = config
        self.metric = history.table.metric(metric)
        self.window = window
        self.chosen_by = chosen_by
        self.further = further
        self.accuracy = accuracy_name(config.get("oracle"))
        self.name = f"{config['search_strategy']} search"
        self.title = f"{self.name} of {history.space.name}, {config['dataset']}"
        self.winner = history.best(metric)
        self.top1 = float(history.top1[self.winner])
        self.control: History | None = None
        self.probabilities: np.ndarray | None = None  # [L, C], of a differentiable search
        self.tables: dict[str, dict[str, str]] = {}  # below the summary, by title
        self.facts = history.winner_facts(metric) | {"dataset": config["dataset"]}
        self.facts |= {"target_hc": window[1], "min_hc": window[0], "info_metric": metric}
        self.facts["source"] = f"{self.name}, run {folder.name}"
        bounds = zip(("at most", "at least"), reversed(window), strict=True)
        limits = [f"{w} {self.metric.show_alone(hc)}" for w, hc in bounds if hc is not None]
        for limit in further:
            ends = {"max": limit.high, "min": limit.low}
            known = {name: cost / MILLION for name, cost in ends.items() if cost is not None}
            self.facts.setdefault("limits", {})[limit.metric] = known
            cost = history.table.metric(limit.metric)
            words = {"max": "at most", "min": "at least"}
            limits += [f"{cost.name} {words[k]} {cost.show(v)}" for k, v in known.items()]
        self.rows = {
            "best architecture": " ".join(self.facts["choices"]),
            **self.costs(),
            "budget": ", ".join(limits) or "none",
            self.accuracy: f"{self.top1:.2f} %",
        }
        if reasons := self._reasons():
            self.rows["chosen by"] = "; ".join(reasons)

    def costs(self) -> dict[str, str]:
        """Every cost of the network found, by the metric's name."""
        metrics = map(self.history.table.metric, self.history.table.metrics)
        return {m.name: m.show(self.facts[m.key] * m.scale) for m in metrics}

    def points(self) -> tuple[Points, Points | None]:
        """The candidates and, if there are any, the random ones beside them, for a plot."""
        control = None if self.control is None else points_of(self.control, self.metric.key)
        return points_of(self.history, self.metric.key), control

    def pareto_figure(self, size: tuple[float, float], title: str = "") -> Figure:
        """The candidates over the metric of the budget; `size` in inches."""
        metric, accuracy = self.metric, self.accuracy
        return pareto_figure(
            *self.points(), self.winner, self.window, metric, accuracy, title, size
        )

    def _reasons(self) -> list[str]:
        """What the answer was chosen by, where that is not its top-1 alone."""
        history, reasons = self.history, []
        if history.top1_of is not None:
            score = history.scores[self.winner]
            reasons.append(f"{score:.2f} % mean probability of the true class")
        if history.smooth:
            reasons.append(f"{history.smoothed()[self.winner]:.2f} % smoothed (--smooth)")
        if self.chosen_by:
            reasons.append(self.chosen_by)
        return reasons

    def add_test(self, top1: float) -> None:
        """Test accuracy of the network found, in percent."""
        self.facts["test_top1"] = top1
        self.rows["test top-1"] = f"{top1:.2f} %  (supernet weights; the only use of the test set)"

    def add_uncalibrated(self, top1: float) -> None:
        """Accuracy of the network found without its own BN statistics, in percent."""
        self.rows["without BN calibration"] = (
            f"{top1:.2f} % ({top1 - self.top1:+.2f}: the supernet's own BN statistics)"
        )

    def add_random(self, control: History) -> None:
        """Random candidates, which may be the search itself."""
        self.control = None if control is self.history else control
        self.rows[f"{len(control)} random networks"] = (
            f"{self.accuracy}: mean {control.top1.mean():.2f} %, best {control.top1.max():.2f} %"
        )

    def add_largest(self, architecture: np.ndarray, top1: float) -> None:
        """The most expensive architecture [L] within the budget."""
        cost = float(self.history.table.cost(architecture, self.metric.key)) / MILLION
        self.rows["largest in budget"] = f"{top1:.2f} % at {self.metric.show_alone(cost)}"

    def add_seeds(self, bests: Sequence[float]) -> None:
        """The best of each of several searches; the first is the one that is reported."""
        self.rows[f"over {len(bests)} seeds"] = (
            f"best of each search: mean {np.mean(bests):.2f} %, standard deviation "
            f"{np.std(bests, ddof=1):.2f}, from {min(bests):.2f} to {max(bests):.2f} %"
        )

    def add_findings(self, findings: Findings) -> None:
        """The strategy's own part: rows, tables and what its parameters have learned."""
        self.probabilities = findings.probabilities
        if findings.caveat:
            self.rows[self.accuracy] += f"  ({findings.caveat})"
        self.rows |= findings.rows
        self.tables |= findings.tables

    def finish(self, phases: Phases, writer: SummaryWriter) -> None:
        """Save the best architecture, plot, page and TensorBoard's hparams; print the summary."""
        history, facts, spent = self.history, self.facts, phases.seconds
        text = yaml.safe_dump(facts, sort_keys=False)
        write_text(self.folder / "best_architecture.yaml", text)
        figure = self.pareto_figure((9, 5.5), f"{self.title} ({len(history)} networks)")
        save_png(figure, self.folder / "pareto.png")

        writer.add_text("best_architecture", f"```\n{text}```")
        flags = {k: v for k, v in self.config.items() if isinstance(v, (str, int, float, bool))}
        numbers = ("top1", "test_top1", *history.table.metrics)
        finals = {
            f"final/{k}": facts[k] / (MILLION if k in METRICS else 1) for k in numbers if k in facts
        }
        writer.add_hparams(flags, finals, run_name=".")

        self.rows["candidates"] = f"{len(history)} different networks, all within the budget"
        self.rows["wall time"] = ", ".join(f"{k} {clock(s)}" for k, s in spent.items())
        self.rows["files"] = (
            f"{self.folder}/ (best_architecture.yaml, history.csv, report.html, ...)"
        )
        log.info(summary_table(f"\n{self.name}, {history.space.name}", self.rows))
        for title, rows in self.tables.items():
            log.info(summary_table(f"\n{title}", rows))
        write_text(self.folder / "report.html", report_page(self))
