"""The end of a search: write its answer, the plot and the page; compare it with controls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lookup_table import Limit
from model import architecture_text
from search_strategy.history import History
from search_strategy.report_page import report_page
from search_strategy.tallies import SCORES
from utils.files import write_text
from utils.metrics import METRICS, MILLION, accuracy_name, accuracy_text, standard_error
from utils.plots import CostPlot, Points, pareto_figure, save_png
from utils.report import Phases, clock, command_line, summary_table, write_hparams
from utils.run_files import count_images
from utils.run_folder import log

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from search_strategy.strategy import Findings

VERIFY = "Verify it against random networks, all trained alone"
Window = tuple[float | None, float | None]  # lowest and highest cost allowed; None is no bound


class SearchReport:
    """Collects the controls of a search, then saves and prints everything.

    Args:
        folder: the run folder; splits.npz there, if any, says how many images an accuracy is of.
        history: all candidates of the search.
        config: the flags with an effect by their names inside, for the page and TensorBoard.
        metric: what the budget limits.
        window: lowest and highest cost allowed, in the metric's unit.
        chosen_by: how the strategy chooses, if not by the highest score.
        limits: further limits, of other metrics.
        objectives: metrics that the search minimises besides, for the plot.
    """

    def __init__(
        self,
        folder: Path,
        history: History,
        config: Mapping[str, object],
        metric: str,
        window: Window,
        chosen_by: str = "",
        limits: Sequence[Limit] = (),
        objectives: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.history = history
        self.config = config
        self.metric = history.table.metric(metric)
        self.windows: dict[str, Window] = {metric: window}  # of each metric in the plot
        for limit in limits:
            low, high = (None if c is None else c / MILLION for c in (limit.low, limit.high))
            self.windows[limit.metric] = low, high
        self.windows |= {m: (None, None) for m in objectives if m not in self.windows}
        self.chosen_by = chosen_by
        self.accuracy = accuracy_name(config.get("oracle"))
        self.images = count_images(folder) if config.get("oracle") is None else {}
        self.score_name = SCORES[str(config.get("score", "probability"))]
        self.name = f"{config['search_strategy']} search"
        space = Path(history.space.name).stem
        self.title = f"{self.name} of {space}, {config['dataset']}"
        self.winner = history.best(metric)
        self.top1 = float(history.top1[self.winner])
        self.control: History | None = None
        self.probabilities: np.ndarray | None = None  # [L, C], of a differentiable search
        self.tables: dict[str, dict[str, str]] = {}  # below the summary, by title
        self.facts = history.winner_facts(metric) | {"dataset": config["dataset"]}
        self.facts |= {"target_hc": window[1], "min_hc": window[0], "info_metric": metric}
        for limit in limits:
            low, high = self.windows[limit.metric]
            ends = {name: end for name, end in (("max", high), ("min", low)) if end is not None}
            self.facts.setdefault("limits", {})[limit.metric] = ends
        self.facts["source"] = f"{self.name}, run {folder.name}"
        self.rows = {
            "best architecture": " ".join(self.facts["choices"]),
            **self.costs(),
            "budget": self.budget_text(),
            self.accuracy: self.percent(self.top1),
            **self._choice_rows(),
        }

    def costs(self) -> dict[str, str]:
        """Return the costs of the network found, by the metric's name."""
        metrics = map(self.history.table.metric, self.history.table.metrics)
        return {m.name: m.show(self.facts[m.key] * m.scale) for m in metrics}

    def budget_text(self) -> str:
        """Format all limits in their units."""
        limits = [
            f"{word} {self.history.table.metric(metric).show_alone(bound)}"
            for metric, window in self.windows.items()
            for word, bound in zip(("at most", "at least"), reversed(window), strict=True)
            if bound is not None
        ]
        return ", ".join(limits) or "none"

    def percent(self, top1: float, part: str = "validation") -> str:
        """Format an accuracy with its standard error, where its number of images is known."""
        return accuracy_text(top1, self.images.get(part))

    def plots(self) -> list[CostPlot]:
        """Return the candidates over each metric that is limited or minimised."""

        def points(history: History, metric: str) -> Points:
            return Points(history.cost(metric) / MILLION, history.top1, history.rounds)

        return [
            CostPlot(
                self.history.table.metric(metric),
                window,
                points(self.history, metric),
                None if self.control is None else points(self.control, metric),
            )
            for metric, window in self.windows.items()
        ]

    def _choice_rows(self) -> dict[str, str]:
        """Say what the answer was chosen by, if not its top-1 alone, and out of how many equals."""
        history, reasons, rows = self.history, [], {}
        if history.top1_of is not None:
            score = history.scores[self.winner]
            reasons.append(f"{score:.2f} % {self.score_name}")
        if history.smooth:
            reasons.append(f"{history.smoothed()[self.winner]:.2f} % smoothed (--smooth)")
        if self.chosen_by:
            reasons.append(self.chosen_by)
        if reasons:
            rows["chosen by"] = "; ".join(reasons)
        scores = history.ranking_scores()
        tied = int((scores == scores.max()).sum())  # equal counts give equal floats
        if tied > 1 and history.chosen is None:
            taken = f"taken: the lowest {self.metric.name}, then the first found"
            rows["tied at the top"] = f"{tied} of {len(scores):,} candidates; {taken}"
        return rows

    def _verdict(self, control: History) -> str:
        """Judge the answer beside the best random network and the noise of its images."""
        own, best = float(self.history.scores[self.winner]), float(control.scores.max())
        ahead, many = own - best, f"the best of {len(control):,} random networks"
        if self.history.top1_of is not None:
            many += f" by the {self.score_name}"
        if ahead < 0:
            return f"random search is better: {many} is {-ahead:.2f} points ahead"
        if ahead == 0:
            return f"random search is as good: {many} equals the answer"
        text = f"{ahead:.2f} points ahead of {many}"
        if (images := self.images.get("validation")) and self.history.top1_of is None:
            # of a difference, taken as if the two were independent, though they see the same images
            noise = math.hypot(*(standard_error(p, images) for p in (own, best)))
            word = "within" if ahead <= noise else "beyond"
            text += f", {word} the noise of {images:,} validation images (± {noise:.2f})"
        return text

    def _as_good(self) -> str:
        """Count the candidates of a random search that its images cannot tell from the answer."""
        images = self.images.get("validation")
        if not images or len(self.history) == 1:
            return ""
        noise = standard_error(self.top1, images)
        near = int((np.abs(self.history.top1 - self.top1) <= noise).sum()) - 1  # itself
        return (
            f"{near:,} of the other {len(self.history) - 1:,} candidates are within the noise of "
            f"{images:,} validation images (± {noise:.2f})"
        )

    def add_test(self, top1: float) -> None:
        """Add the test accuracy of the network found, in percent."""
        self.facts["test_top1"] = top1
        remark = "supernet weights; the only use of the test set"
        self.rows["test top-1"] = f"{self.percent(top1, 'test')}  ({remark})"

    def add_uncalibrated(self, top1: float) -> None:
        """Add the accuracy of the network found without its own BN statistics, in percent."""
        self.rows["without BN calibration"] = (
            f"{self.percent(top1)} ({top1 - self.top1:+.2f}: the supernet's own BN statistics)"
        )

    def add_random(self, control: History) -> None:
        """Compare with random candidates, which may be the search itself."""
        self.control = None if control is self.history else control
        best, mean = self.percent(control.top1.max()), float(control.top1.mean())
        self.rows[f"{len(control)} random networks"] = (
            f"{self.accuracy}: mean {mean:.2f} %, best {best}"
        )
        if verdict := self._as_good() if self.control is None else self._verdict(control):
            self.rows["verdict"] = verdict
        chance = 100 / self.history.space.num_classes
        if self.images and mean < 1.5 * chance:  # digits' fbnet and spos: 10.3 and 10.8 of 10 %
            self.warn(
                f"random networks score {mean:.2f} % on average, and guessing {chance:.2f} %: the "
                "supernet has not learned, so this answer is luck; train it longer (--epochs) or "
                "with another recipe"
            )

    def add_largest(self, architecture: np.ndarray, top1: float, exact: bool = True) -> None:
        """Add the most expensive architecture [L] of the budget, or (not exact) of many drawn."""
        cost = float(self.history.table.cost(architecture, self.metric.key)) / MILLION
        name = "largest in budget" if exact else "largest of 4,096 drawn"
        self.rows[name] = f"{self.percent(top1)} at {self.metric.show_alone(cost)}"

    def add_seeds(self, bests: Sequence[float]) -> None:
        """Add the best of each of several searches; the first is the one that is reported."""
        self.rows[f"over {len(bests)} seeds"] = (
            f"best of each search: mean {np.mean(bests):.2f} %, standard deviation "
            f"{np.std(bests, ddof=1):.2f}, from {min(bests):.2f} to {max(bests):.2f} %"
        )

    def warn(self, text: str) -> None:
        """Add a row of warning."""
        number = 1 + sum(row.startswith("warning") for row in self.rows)
        self.rows["warning" if number == 1 else f"warning {number}"] = text

    def add_findings(self, findings: Findings) -> None:
        """Add the strategy's own part: rows, tables and what its parameters have learned."""
        self.probabilities = findings.probabilities
        if findings.caveat:
            self.rows[self.accuracy] += f"  ({findings.caveat})"
        self.rows |= findings.rows
        for warning in findings.warnings:
            self.warn(warning)
        self.tables |= findings.tables

    def next_steps(self) -> dict[str, str]:
        """Map the next steps with the network found to their commands."""
        run, net = str(self.folder), f"{self.folder}_net"
        place = ["--run-dir", str(self.folder.parent)] if self.folder.parent != Path("runs") else []
        if (data := self.config.get("data_path")) is not None:
            place += ["--data-path", str(data)]
        train = ["--arch", run, "--title", f"{self.folder.name}_net", *place]
        verify = ["--verify", run, "--title", f"{self.folder.name}_verified", *place]
        export = ["--evaluate", f"{net}/weights.safetensors", "--export-onnx", f"{net}/net.onnx"]
        commands = {
            "Train the network found": ["train_subnet.py", *train],
            VERIFY: ["train_subnet.py", *verify],
            "Export it to ONNX": ["train_subnet.py", "--arch", net, *export, *place],
            "Compare the two": ["compare_runs.py", run, net],
        }
        if self.config.get("oracle") is not None:  # no supernet, whose scores would be verified
            del commands[VERIFY]
        return {text: command_line(*words) for text, words in commands.items()}

    def finish(self, phases: Phases, writer: SummaryWriter) -> None:
        """Save the best architecture, plot, page and TensorBoard's hparams; print the summary."""
        history, facts, spent = self.history, self.facts, phases.seconds
        text = architecture_text(facts)
        write_text(self.folder / "best_architecture.yaml", text)
        title = f"{self.title} ({len(history):,} network{'s' * (len(history) > 1)})"
        figure = pareto_figure(self.plots(), self.winner, self.accuracy, title)
        save_png(figure, self.folder / "pareto.png")

        writer.add_text("best_architecture", f"```\n{text}```")
        numbers = ("top1", "test_top1", *history.table.metrics)
        finals = {
            f"final/{k}": facts[k] / (MILLION if k in METRICS else 1) for k in numbers if k in facts
        }
        write_hparams(writer, self.folder.name, self.config, finals)

        networks = "network" if len(history) == 1 else "different networks, all"
        self.rows["candidates"] = f"{len(history):,} {networks} within the budget"
        self.rows["wall time"] = ", ".join(f"{k} {clock(s)}" for k, s in spent.items())
        self.rows["files"] = (
            f"{self.folder}/ (best_architecture.yaml, history.csv, report.html, ...)"
        )
        tables = {self.title: self.rows} | self.tables
        parts = [summary_table(title, rows) for title, rows in tables.items()]
        parts += [f"{text}:\n  {command}" for text, command in self.next_steps().items()]
        log.info("\n" + "\n\n".join(parts))
        write_text(self.folder / "report.html", report_page(self))  # last: it shows the log
