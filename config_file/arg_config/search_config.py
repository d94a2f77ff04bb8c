"""Flags of search.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from config_file.arg_config.budget_config import BudgetConfig, LatencyConfig
from config_file.arg_config.data_config import (
    SPACE_AND_DATA,
    AugmentConfig,
    DataConfig,
    EvaluationConfig,
    SpaceConfig,
)
from config_file.arg_config.earlier import from_checkpoint
from config_file.arg_config.fields import Values, flag, flags, part, switch
from config_file.arg_config.run_config import THE_RUN, PlannedRunConfig
from config_file.arg_config.sampling_config import (
    DIFFERENTIABLE,
    AlphaConfig,
    GumbelConfig,
    SamplingConfig,
)
from config_file.arg_config.supernet_config import (
    SUPERNET_TRAINING,
    SupernetCommand,
    SupernetConfig,
)
from config_file.arg_config.types import integer, one_of, path
from search_strategy import STRATEGIES
from search_strategy.strategy import SearchStrategy, StrategyConfig

STRATEGY_NAMES = {
    spelling: name for name, kind in STRATEGIES.items() for spelling in (name, *kind.aliases)
}
BY_SCORE = ", ".join(name for name, kind in STRATEGIES.items() if kind.by_score)


def strategy_help() -> str:
    """Format the strategies with their other names and what is said about them."""
    parts = []
    for name, kind in STRATEGIES.items():
        notes = [f"also: {alias}" for alias in kind.aliases] + ([kind.about] if kind.about else [])
        parts.append(f"{name} ({'; '.join(notes)})" if notes else name)
    return ", ".join(parts[:-1]) + f", or {parts[-1]}"


@dataclass(frozen=True, kw_only=True)
class SearchConfig(SupernetCommand):
    """Flags of search.py; `strategies` has those of each strategy, by its name."""

    title: ClassVar[str] = "search"

    run: PlannedRunConfig = part(PlannedRunConfig, THE_RUN)
    space: SpaceConfig = part(SpaceConfig)
    data: DataConfig = part(DataConfig, SPACE_AND_DATA)
    search_strategy: str = flag(
        "evolution", one_of(STRATEGY_NAMES), strategy_help(), "{" + ",".join(STRATEGIES) + "}"
    )
    checkpoint: Path | None = flag(
        None,
        path,
        "search this supernet.pt; its space and dataset are the defaults, nothing is trained",
    )
    random_control: bool = switch(
        True, "compare with as many random candidates; doubles the evaluations"
    )
    seeds: int = flag(
        1,
        integer(1, 1000),
        "searches with different random numbers, of which the spread is reported",
        "K",
    )
    supernet_seeds: int = flag(
        1,
        integer(1, 100),
        "supernets trained with different seeds, each searched; how far they agree is reported",
        "K",
    )
    oracle: Path | None = flag(
        None, path, "JSON of known accuracies in place of a supernet: nothing is trained"
    )
    smooth: bool = switch(
        False,
        f"{BY_SCORE}: select by the mean of score and additive least-squares fit; reduces "
        "selection noise",
    )
    evaluation: EvaluationConfig = part(EvaluationConfig)
    strategies: dict[str, StrategyConfig] = part(
        {name: kind.Config for name, kind in STRATEGIES.items()}
    )
    budget: BudgetConfig = part(BudgetConfig)
    latency: LatencyConfig = part(LatencyConfig)
    training: SupernetConfig = part(SupernetConfig, SUPERNET_TRAINING)
    augment: AugmentConfig = part(AugmentConfig)
    sampling: SamplingConfig = part(SamplingConfig)
    alpha: AlphaConfig = part(AlphaConfig)
    gumbel: GumbelConfig = part(GumbelConfig)

    @classmethod
    def inherited(cls, chosen: Values) -> Values:
        return from_checkpoint(cls, chosen)

    @property
    def strategy(self) -> type[SearchStrategy]:
        return STRATEGIES[self.search_strategy]

    @property
    def trains(self) -> bool:
        return self.checkpoint is None

    @property
    def needs_alpha(self) -> bool:
        return self.strategy.needs_prior

    @property
    def metrics(self) -> list[str]:
        """The costs that the run looks at."""
        more = self.strategy.costs(self.strategies[self.search_strategy])
        return sorted({*self.budget.metrics, *more})

    def problems(self) -> Iterator[str]:
        kind, name, sampler = self.strategy, self.search_strategy, self.sampling.sample_strategy
        if self.oracle and self.checkpoint:
            yield "--oracle takes the place of a supernet; leave --checkpoint out"
        if self.supernet_seeds > 1 and (self.oracle or self.checkpoint):
            yield "--supernet-seeds trains supernets; leave --oracle and --checkpoint out"
        score = self.evaluation.score
        if score != "top1" and (self.oracle or kind.needs_top1):
            others = ", ".join(k for k, other in STRATEGIES.items() if not other.needs_top1)
            yield f"--score {score} needs a supernet and {others} search; leave it out"
        if self.smooth and not kind.by_score:
            yield (
                f"--smooth goes with {BY_SCORE} search, which choose by the highest score; leave "
                f"it out with {name}"
            )
        if self.oracle and kind.needs_prior:
            yield "--oracle has no gradients; take another --search-strategy"
        self.strategies[name].check()
        yield from super().problems()
        trained = (None, "differentiable", *DIFFERENTIABLE)
        if self.trains and kind.needs_prior and sampler not in trained:
            yield (
                f"--search-strategy {name}: --sample-strategy {sampler} trains no architecture "
                f"parameters; take {', '.join(DIFFERENTIABLE)}, or another search"
            )

    @property
    def idle_flags(self) -> set[str]:
        others = {name for kind in STRATEGIES.values() for name in flags(kind.Config)}
        return super().idle_flags | others - flags(self.strategy.Config).keys()

    @property
    def idle_parts(self) -> set[type]:
        idle: set[type] = {SupernetConfig, AugmentConfig} if self.oracle else set()
        if "latency" not in self.metrics and self.latency.lookup_table is None:
            idle.add(LatencyConfig)
        return super().idle_parts | idle
