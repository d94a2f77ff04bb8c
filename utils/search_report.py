"""The end of a search: its answer in a file, the plot, and what the answer is compared with.

What comes from the search is passed in: nothing of ours is imported but
other utils.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from utils.files import write_text
from utils.plots import plot_pareto
from utils.report import clock, summary_table
from utils.run_folder import log
from utils.timing import Phases

MILLION = 1e6


class SearchReport:
    """Collects the controls of a search, then saves and prints everything.

    Args:
        config: the run's flags, a SearchConfig.
        folder: the run folder.
        history: all candidates of the search.
        facts: the winner's entries of an architecture file.
        chosen_by: how the strategy chooses, if not by the highest score.
    """

    def __init__(
        self, config: Any, folder: Path, history: Any, facts: dict, chosen_by: str
    ) -> None:
        self.config = config
        self.folder = folder
        self.history = history
        self.table = history.table
        self.unit = self.table.unit(config.budget.info_metric)
        self.top1 = float(facts["top1"])
        self.facts = facts
        self.facts |= {"target_hc": config.budget.target_hc, "min_hc": config.budget.min_hc}
        self.facts |= {"info_metric": config.budget.info_metric}
        self.facts["source"] = f"{config.search_strategy} search, run {folder.name}"
        self.tables: dict[str, dict[str, str]] = {}  # below the summary
        self.accuracy = "true accuracy" if config.oracle else "validation top-1"
        limit = (
            "none"
            if config.budget.target_hc is None
            else f"at most {config.budget.target_hc:,.3f} {self.unit}"
        )
        if config.budget.min_hc is not None:
            limit += f", at least {config.budget.min_hc:,.3f} {self.unit}"
        costs = {"MACs": f"{facts['flops'] / MILLION:,.3f} M"}
        costs["params"] = f"{facts['params'] / MILLION:,.3f} M"
        for metric in self.table.metrics[2:]:
            costs[metric] = f"{facts[metric]:,.4g} {self.table.unit(metric)}"
        self.rows = {
            "best architecture": " ".join(facts["choices"]),
            **costs,
            "budget": limit,
            self.accuracy: f"{self.top1:.2f} %",
        }
        reasons = []
        if config.evaluation.score == "probability":
            score = history.scores[history.best(config.budget.info_metric)]
            reasons.append(f"{score:.2f} % mean probability of the true class")
        if config.smooth:
            score = history.smoothed()[history.best(config.budget.info_metric)]
            reasons.append(f"{score:.2f} % smoothed (--smooth)")
        if chosen_by:
            reasons.append(chosen_by)
        if reasons:
            self.rows["chosen by"] = "; ".join(reasons)

    def add_test(self, top1: float) -> None:
        self.facts["test_top1"] = top1
        self.rows["test top-1"] = f"{top1:.2f} %  (supernet weights; the only use of the test set)"

    def add_uncalibrated(self, top1: float) -> None:
        self.rows["without BN calibration"] = (
            f"{top1:.2f} % ({top1 - self.top1:+.2f}: the supernet's own BN statistics)"
        )

    def add_random(self, control: Any) -> None:
        self.rows[f"{len(control)} random networks"] = (
            f"{self.accuracy}: mean {control.top1.mean():.2f} %, best {control.top1.max():.2f} %"
        )

    def add_largest(self, architecture: np.ndarray, top1: float) -> None:
        cost = self.table.cost(architecture, self.config.budget.info_metric) / MILLION
        self.rows["largest in budget"] = f"{top1:.2f} % at {cost:,.3f} {self.unit}"

    def add_seeds(self, bests: Sequence[float]) -> None:
        """The best of each of several searches; the first is the one that is reported."""
        self.rows[f"over {len(bests)} seeds"] = (
            f"best of each search: mean {np.mean(bests):.2f} %, standard deviation "
            f"{np.std(bests, ddof=1):.2f}, from {min(bests):.2f} to {max(bests):.2f} %"
        )

    def add_findings(
        self, rows: dict[str, str], caveat: str, tables: dict[str, dict[str, str]]
    ) -> None:
        """A strategy's own rows, a remark on the accuracy, and tables below the summary."""
        if caveat:
            self.rows[self.accuracy] += f"  ({caveat})"
        self.rows |= rows
        self.tables |= tables

    def finish(self, phases: Phases, writer: Any, flags: dict[str, Any]) -> dict[str, str]:
        """Save the best architecture, the plot and TensorBoard's hparams; print the summary.

        Returns:
            The rows of the summary.
        """
        config, history = self.config, self.history
        metric = config.budget.info_metric
        text = yaml.safe_dump(self.facts, sort_keys=False)
        write_text(self.folder / "best_architecture.yaml", text)
        plot_pareto(
            self.folder / "pareto.png",
            history.cost(metric) / MILLION,
            history.top1,
            history.rounds,
            history.best(metric),
            (config.budget.min_hc, config.budget.target_hc),
            self.unit,
            f"{config.search_strategy} on {history.space.name}, {config.data.dataset} "
            f"({len(history)} networks)",
        )
        writer.add_text("best_architecture", f"```\n{text}```")
        hparams = {k: v for k, v in flags.items() if isinstance(v, (str, int, float, bool))}
        numbers = ("top1", "test_top1", *self.table.metrics)
        finals = {f"final/{k}": self.facts[k] for k in numbers if k in self.facts}
        for count in ("final/flops", "final/params"):
            finals[count] /= MILLION
        writer.add_hparams(hparams, finals, run_name=".")

        self.rows["candidates"] = f"{len(history)} different networks, all within the budget"
        spent = ", ".join(f"{k} {clock(s)}" for k, s in phases.seconds.items())
        self.rows["wall time"] = spent
        self.rows["files"] = (
            f"{self.folder}/ (best_architecture.yaml, history.csv, report.html, ...)"
        )
        log.info(
            summary_table(f"\n{config.search_strategy} search, {history.space.name}", self.rows)
        )
        for title, rows in self.tables.items():
            log.info(summary_table(f"\n{title}", rows))
        return self.rows
