"""Flags of train_supernet.py, and what all commands that train a supernet resolve and check."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from config_file.arg_config.budget_config import BudgetConfig, LatencyConfig
from config_file.arg_config.data_config import (
    BY_DATASET,
    SPACE_AND_DATA,
    AugmentConfig,
    DataConfig,
    SpaceConfig,
)
from config_file.arg_config.fields import flag, flags, part, switch
from config_file.arg_config.run_config import THE_RUN, PlannedRunConfig
from config_file.arg_config.sampling_config import (
    DIFFERENTIABLE,
    HC_WEIGHTS,
    AlphaConfig,
    GumbelConfig,
    SamplingConfig,
    check_sampling,
)
from config_file.arg_config.sources import Command
from config_file.arg_config.training_config import RecipeConfig
from config_file.arg_config.types import path
from lookup_table import LookupTable

if TYPE_CHECKING:
    from model import SearchSpace

C = TypeVar("C", bound="SupernetCommand")
SUPERNET_TRAINING = "supernet training"  # a group of --help


@dataclass(frozen=True, kw_only=True)
class SupernetConfig(RecipeConfig):
    """What the training of a supernet takes beside the recipe."""

    title: ClassVar[str] = SUPERNET_TRAINING

    supernet_init: str = flag(
        None,
        ("independent", "aligned"),
        "weights at the start; aligned: a layer's choices are slices of one kernel, as short "
        f"trainings need ({BY_DATASET})",
    )
    init_from: Path | None = flag(
        None,
        path,
        "supernet.pt whose weights are the start instead, trained on images of any size: epochs "
        "of small images, then a few of large ones",
        "FILE",
    )
    sync_bn: bool = switch(False, "of several GPUs: batch norms over the images of all of them")


class SupernetCommand(Command):
    """A command that trains a supernet. Each names these parts itself, in its order of --help."""

    run: PlannedRunConfig
    space: SpaceConfig
    data: DataConfig
    budget: BudgetConfig
    training: SupernetConfig
    augment: AugmentConfig
    sampling: SamplingConfig
    alpha: AlphaConfig
    gumbel: GumbelConfig

    @property
    def trains(self) -> bool:
        """True if a supernet is trained, not loaded or replaced."""
        return True

    @property
    def begun(self) -> bool:
        """True if the weights are there already, in a checkpoint."""
        folder = self.run.folder
        resumed = self.run.resume and folder is not None and (folder / "supernet.pt").exists()
        return resumed or not self.trains

    @property
    def needs_alpha(self) -> bool:
        """True if architecture parameters must be trained whatever --sample-strategy says."""
        return False

    def resolved_sampler(self: C, superkernel: bool) -> C:
        """Fill in the sampler and what follows from it and from other flags."""
        strategy = self.sampling.sample_strategy
        if strategy is None:
            strategy = "differentiable" if self.needs_alpha else "uniform"
        if strategy == "differentiable":
            strategy = "threshold" if superkernel else "softmax"
        alpha, gumbel, epochs = self.alpha, self.gumbel, self.training.epochs
        if alpha.a_warmup_epochs is None:
            alpha = replace(alpha, a_warmup_epochs=epochs // 5)
        if alpha.hc_weight is None:
            alpha = replace(alpha, hc_weight=HC_WEIGHTS[alpha.hc_loss])
        if gumbel.temperature_decay is None:
            ratio = min(1.0, gumbel.temperature_final / gumbel.temperature_init)
            gumbel = replace(gumbel, temperature_decay=ratio ** (1 / max(1, epochs - 1)))
        sampling = replace(self.sampling, sample_strategy=strategy)
        return replace(self, sampling=sampling, alpha=alpha, gumbel=gumbel)  # type: ignore[type-var]

    @property
    def sampler_section(self) -> str | None:
        """The name under which a recipe holds settings of the sampler that a run trains with.

        Raises:
            ValueError: the search space is not usable.
        """
        if not self.trains:
            return None
        superkernel = False
        if self.sampling.sample_strategy in (None, "differentiable"):
            superkernel = is_superkernel(self.space.search_space)
        strategy = self.resolved_sampler(superkernel).sampling.sample_strategy
        return "gumbel-hard" if strategy == "gumbel" and self.gumbel.gumbel_hard else strategy

    def check(self) -> None:
        """Check the flags against each other.

        Raises:
            ValueError: flags that make no sense together; the message says why.
        """
        self.run.check()
        if not self.trains:
            return
        superkernel = is_superkernel(self.space.search_space)
        resolved = self.resolved_sampler(superkernel)
        check_sampling(
            resolved.sampling,
            resolved.alpha,
            resolved.gumbel,
            self.training.epochs,
            Path(self.space.search_space).stem,
            superkernel,
        )

    def resolve(self: C, space: SearchSpace, table: LookupTable | None, threads: int | str) -> C:
        """Fill in what depends on the space and the machine: the last change to the config.

        Args:
            table: costs of the space; None where the run has no use for a budget.
            threads: the CPU threads that --threads came to.
        """
        config = self.resolved_sampler(space.supernet == "superkernel") if self.trains else self
        run, budget = replace(config.run, threads=threads), config.budget
        if table is not None:
            budget = budget.resolve(table, self.typed)
        return replace(config, run=run, budget=budget)  # type: ignore[type-var]

    @property
    def idle_parts(self) -> set[type]:
        """Groups of flags that have no effect in this run."""
        if not self.trains:
            return {SupernetConfig, AugmentConfig, SamplingConfig, AlphaConfig, GumbelConfig}
        strategy = self.sampling.sample_strategy
        idle: set[type] = set() if strategy in DIFFERENTIABLE else {AlphaConfig}
        return idle if strategy == "gumbel" else {*idle, GumbelConfig}

    def ignored_flags(self) -> list[str]:
        """Typed flags that have no effect in this run, to be named and not silently ignored."""
        idle = {name for kind in self.idle_parts for name in flags(kind)}
        return sorted("--" + name.replace("_", "-") for name in idle & self.typed)


def is_superkernel(search_space: str) -> bool:
    """True if the choices of a space's layers share one kernel.

    Raises:
        ValueError: the search space is not usable.
    """
    from model.space_file import load_space_file  # lazily, as it loads torch

    return load_space_file(search_space)["supernet"] == "superkernel"


@dataclass(frozen=True, kw_only=True)
class TrainSupernetConfig(SupernetCommand):
    """Flags of train_supernet.py."""

    run: PlannedRunConfig = part(PlannedRunConfig, THE_RUN)
    space: SpaceConfig = part(SpaceConfig)
    data: DataConfig = part(DataConfig, SPACE_AND_DATA)
    training: SupernetConfig = part(SupernetConfig, SUPERNET_TRAINING)
    augment: AugmentConfig = part(AugmentConfig)
    sampling: SamplingConfig = part(SamplingConfig)
    alpha: AlphaConfig = part(AlphaConfig)
    gumbel: GumbelConfig = part(GumbelConfig)
    budget: BudgetConfig = part(BudgetConfig)
    latency: LatencyConfig = part(LatencyConfig)

    @property
    def needs_budget(self) -> bool:
        """True if the training looks at costs."""
        differentiable = self.sampling.sample_strategy in (*DIFFERENTIABLE, "differentiable")
        return self.sampling.sample_in_budget or differentiable

    @property
    def idle_parts(self) -> set[type]:
        budget = set() if self.needs_budget else {BudgetConfig, LatencyConfig}
        return super().idle_parts | budget
