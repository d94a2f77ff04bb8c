"""The base of search strategies: all that the search, its report and --help use of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

import numpy as np

from lookup_table import Budget, architecture_keys

if TYPE_CHECKING:
    from search_strategy.history import History


OPTIMISTIC = "optimistic: these images trained the architecture parameters"


@dataclass(frozen=True, kw_only=True)
class StrategyConfig:
    """Flags of a strategy; this one has none."""

    def check(self) -> None:
        """Raise ValueError where flags make no sense together; only of the strategy in use."""


Flags = TypeVar("Flags", bound=StrategyConfig)


@dataclass(frozen=True, kw_only=True)
class FinishedSearch:
    """A finished search, as its strategy sees it for its part of the report.

    Attributes:
        folder: the run folder, for files of the strategy's own.
        history: all candidates.
        answer: the architecture chosen, int [L].
        metric: the cost that is limited.
        target: upper limit of that cost, in the table's integer units; None is no limit.
        top1: top-1 in percent [N] of architectures [N, L], which are scored where they are not yet.
        validation_trained: the validation images have trained the architecture parameters.
    """

    folder: Path
    history: History
    answer: np.ndarray
    metric: str
    target: int | None
    top1: Callable[[np.ndarray], np.ndarray]
    validation_trained: bool


@dataclass(frozen=True)
class Findings:
    """A strategy's part of the report.

    Attributes:
        rows: rows of the summary.
        caveat: a remark beside the answer's accuracy.
        tables: further tables below the summary, by title.
        probabilities: of the choices, float [L, C], if a prior was learned.
        warnings: each with what to change.
    """

    rows: dict[str, str] = field(default_factory=dict)
    caveat: str = ""
    tables: dict[str, dict[str, str]] = field(default_factory=dict)
    probabilities: np.ndarray | None = None
    warnings: Sequence[str] = ()


class SearchStrategy(Generic[Flags]):
    """Base of the searches by ask and tell, which see no data; a subclass replaces what differs.

    Args:
        config: the flags, a `Config`.
        rng: the source of all its randomness.
        prior: probabilities float [L, C] of a differentiably trained supernet; None elsewhere.

    Attributes:
        Config: frozen dataclass of its flags.
        aliases: further names on the command line.
        about: a few words about it for --help.
        needs_prior: it reads its answer from the prior, so the supernet must be trained with
            architecture parameters, and known accuracies (--oracle) cannot take its place.
        by_score: its answer is the candidate with the highest score, so --smooth applies.
        needs_top1: the scores must be top-1, so no other --score applies.
        is_random: it is a random search, which needs no random control.
        chosen_by: how it chooses its answer, if not by the highest score; for the summary.
        chosen: its own answer, int [L], if not the highest score; known when the search is over.
        seen: the candidates so far and their scores.
    """

    Config: ClassVar[type] = StrategyConfig
    aliases: ClassVar[tuple[str, ...]] = ()
    about: ClassVar[str] = ""
    needs_prior: ClassVar[bool] = False
    by_score: ClassVar[bool] = True
    needs_top1: ClassVar[bool] = False
    is_random: ClassVar[bool] = False
    chosen_by: ClassVar[str] = ""
    chosen: np.ndarray | None = None

    def __init__(
        self,
        config: Flags,
        budget: Budget,
        rng: np.random.Generator,
        prior: np.ndarray | None = None,
    ) -> None:
        self.config, self.budget, self.rng, self.prior = config, budget, rng, prior
        self.num_choices = budget.counts.num_choices  # [L]
        self.seen: dict[tuple[int, ...], float] = {}  # in the order of asking

    @classmethod
    def costs(cls, config: Flags) -> Sequence[str]:
        """Return the metrics of the table that it uses besides the limited one."""
        return ()

    @property
    def total(self) -> int:
        """Most candidates that it will ask for."""
        raise NotImplementedError

    def ask(self) -> np.ndarray:
        """Return the next candidates, int [N, L]; none when the search is over."""
        raise NotImplementedError

    def tell(self, architectures: np.ndarray, scores: np.ndarray) -> None:
        """Take the scores of what was asked, float [N], higher is better."""
        self.seen.update(zip(architecture_keys(architectures), scores.tolist(), strict=True))

    @property
    def metrics(self) -> dict[str, float]:
        """Numbers of the search so far, for TensorBoard."""
        return {}

    def findings(self, search: FinishedSearch) -> Findings:
        """Write files of its own to the run folder; return its part of the report."""
        steered = self.prior is not None and not self.is_random
        return Findings(caveat=OPTIMISTIC if steered and search.validation_trained else "")
