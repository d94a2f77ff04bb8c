"""Flags of train_supernet.py; what commands that train a supernet have in common."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from config_file.arg_config.budget_config import BudgetConfig, LatencyConfig
from config_file.arg_config.data_config import (
    SPACE_AND_DATA,
    AugmentConfig,
    DataConfig,
    SpaceConfig,
)
from config_file.arg_config.fields import (
    BY_RECIPE,
    Values,
    flag,
    flags,
    option,
    part,
    plain,
    switch,
)
from config_file.arg_config.run_config import THE_RUN, Command, PlannedRunConfig
from config_file.arg_config.sampling_config import (
    DIFFERENTIABLE,
    WEIGHTED_SUMS,
    AlphaConfig,
    GumbelConfig,
    SamplingConfig,
)
from config_file.arg_config.training_config import CLIP, RecipeConfig
from config_file.arg_config.types import number, path

if TYPE_CHECKING:
    from lookup_table import LookupTable
    from model import SearchSpace

C = TypeVar("C", bound="SupernetCommand")
SUPERNET_TRAINING = "supernet training"  # a group of --help


@dataclass(frozen=True, kw_only=True)
class SupernetConfig(RecipeConfig):
    title: ClassVar[str] = SUPERNET_TRAINING

    supernet_init: str = flag(
        None,
        ("independent", "aligned"),
        "weights at the start; aligned: a layer's choices are one function, as short trainings "
        "need",
        marks=[BY_RECIPE],
    )
    init_from: Path | None = flag(
        None,
        path,
        "supernet.pt whose weights are the start instead, trained on images of any size: epochs "
        "of small images, then a few of large ones; or timm:NAME, as of train_subnet.py",
    )
    zero_init: bool | None = switch(
        None, "residual branches start at zero (default: where --supernet-init is aligned)"
    )
    grad_clip: float | None = flag(
        None,
        number(0),
        "gradient norm; 0 is none (default: recipe, or 0 for uniform and fair, whose gradients "
        f"differ in scale, and {CLIP:g} for others)",
    )
    sync_bn: bool = switch(False, "of several GPUs: batch norms over the images of all of them")

    @property
    def zeroes_residuals(self) -> bool:
        """True if residual branches start at zero: --zero-init, or its default."""
        return self.supernet_init == "aligned" if self.zero_init is None else self.zero_init

    def resolve(self, strategy: str | None) -> SupernetConfig:
        """Fill in the clipping that goes with a sampler."""
        clip = CLIP if strategy in DIFFERENTIABLE else 0.0
        return self if self.grad_clip is not None else replace(self, grad_clip=clip)


class SupernetCommand(Command):
    """A command that trains a supernet; each declares these parts itself, in --help's order."""

    run: PlannedRunConfig
    space: SpaceConfig
    data: DataConfig
    budget: BudgetConfig
    latency: LatencyConfig
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

    @property
    def sampler_section(self) -> str | None:
        """The name under which a recipe holds settings of the sampler that a run trains with.

        Raises:
            ValueError: the search space is not usable.
        """
        if not self.trains:
            return None
        superkernel = is_superkernel(self.space.search_space)
        config = self.resolved_sampling(superkernel)
        strategy = config.sampling.sample_strategy
        return "gumbel-hard" if strategy == "gumbel" and config.gumbel.gumbel_hard else strategy

    def problems(self) -> Iterator[str]:
        if self.run.dry_run and self.run.resume:
            yield "--dry-run plans a new run; leave --resume out"
        if self.trains:
            yield from self.training.problems(self.typed)
            superkernel = is_superkernel(self.space.search_space)
            yield from self.resolved_sampling(superkernel).sampling_problems(superkernel)

    def resolved_sampling(self: C, superkernel: bool) -> C:
        """Fill in the sampler, and what follows from it and from other flags."""
        epochs, gumbel = self.training.epochs, self.gumbel
        sampling = self.sampling.resolve(self.needs_alpha, superkernel)
        if gumbel.gumbel_hard is None:
            by_default = self.needs_alpha and self.sampling.sample_strategy is None
            gumbel = replace(gumbel, gumbel_hard=by_default and not superkernel)
        return replace(  # type: ignore[call-arg]
            self,
            training=self.training.resolve(sampling.sample_strategy),
            sampling=sampling,
            alpha=self.alpha.resolve(epochs),
            gumbel=gumbel.resolve(epochs, self.typed),
        )

    def sampling_problems(self, superkernel: bool) -> Iterator[str]:
        """Yield what does not go with the (resolved) sampler."""
        sampling, gumbel, name = self.sampling, self.gumbel, Path(self.space.search_space).stem
        strategy = sampling.sample_strategy
        if superkernel and strategy in WEIGHTED_SUMS:
            yield (
                f"--sample-strategy {strategy}: {name} is a superkernel, whose choices share one "
                "kernel and have no outputs to weigh; take threshold, uniform or fair"
            )
        if not superkernel and strategy == "threshold":
            yield (
                f"--sample-strategy threshold: {name} is no superkernel, its choices have no norms "
                f"to compare; take {', '.join(WEIGHTED_SUMS)}"
            )
        if strategy != "uniform" and (sampling.sample_in_budget or sampling.sandwich):
            form = "sample-in-budget" if sampling.sample_in_budget else "sandwich"
            yield f"--{form} is a form of --sample-strategy uniform, not of {strategy}"
        if sampling.sandwich and not superkernel:
            yield f"--sandwich needs a superkernel: choices of {name} have no order"
        if sampling.sandwich and sampling.sample_in_budget:
            yield (
                "--sandwich trains the largest and the smallest path, which --sample-in-budget "
                "rules out; take one of them"
            )
        if sampling.sample_bins > 1 and not sampling.sample_in_budget:
            yield "--sample-bins divides the budget: it needs --sample-in-budget"
        if sampling.sample_bins > 1 and self.budget.limit:
            yield (
                "--sample-bins divides the window of --info-metric, --min-hc to --target-hc; leave "
                "--limit out"
            )
        hard = strategy == "gumbel" and bool(gumbel.gumbel_hard)
        sums, one = strategy in ("softmax", "gumbel") and not hard, "hard " * hard + str(strategy)
        if sampling.checkpoint_activations and not sums:
            yield (
                "--checkpoint-activations is for sums of all choices (softmax, soft gumbel); "
                f"{one} keeps the activations of one path anyway"
            )
        if self.alpha.weight_paths != "never" and not sums:
            yield (
                "--weight-paths is for sums of all choices (softmax, soft gumbel); "
                f"{one} has no such steps; take one of them by --sample-strategy"
            )
        if strategy == "gumbel":
            yield from gumbel.problems(self.typed)
        if gumbel.gumbel_sampled_gradient and not gumbel.gumbel_hard:
            yield "--gumbel-sampled-gradient needs --gumbel-hard: else nothing is sampled"
        if self.alpha.binary_gates != "two" and strategy != "binary":
            yield f"--binary-gates is for gates of binary; {strategy} has none"
        if self.alpha.indicator_dropout and strategy != "threshold":
            yield f"--indicator-dropout closes the gates of threshold; {strategy} has none"
        warmup, epochs = self.alpha.a_warmup_epochs, self.training.epochs
        if strategy in DIFFERENTIABLE and warmup >= epochs:
            yield (
                f"--a-warmup-epochs {warmup} leaves none of {epochs} epochs to train the "
                "architecture; lower it"
            )

    def resolve(self: C, space: SearchSpace, table: LookupTable | None, threads: int | str) -> C:
        """Fill in what depends on the space and the machine: the last change to the config.

        Args:
            table: costs of the space; None where the run has no use for a budget.
            threads: the CPU threads that --threads came to.

        Raises:
            ValueError: --hc-loss does not go with the target.
        """
        config = self.resolved_sampling(space.supernet == "superkernel") if self.trains else self
        budget = config.budget if table is None else config.budget.resolve(table, self.typed)
        target = (
            budget.window[1] if table is not None and "hc_loss" not in config.idle_flags else None
        )
        if config.alpha.hc_loss == "log_ratio" and target is not None and target <= 1:
            raise ValueError(
                "--hc-loss log_ratio takes logarithms of millions or ms, so it needs a --target-hc "
                "above 1; take abs"
            )
        return replace(config.with_threads(threads), budget=budget)  # type: ignore[call-arg]

    @property
    def idle_parts(self) -> set[type]:
        """Groups of flags that have no effect in this run."""
        if not self.trains:
            return {SupernetConfig, AugmentConfig, SamplingConfig, AlphaConfig, GumbelConfig}
        strategy = self.sampling.sample_strategy
        idle: set[type] = set() if strategy in DIFFERENTIABLE else {AlphaConfig}
        return idle if strategy == "gumbel" else {*idle, GumbelConfig}

    @property
    def idle_flags(self) -> set[str]:
        """Names of the flags that have no effect in this run."""
        idle = self.training.idle_flags | self.alpha.idle(self.budget.target_hc is not None)
        return idle.union(*(flags(kind) for kind in self.idle_parts))

    def ignored_flags(self) -> list[str]:
        """Return the typed flags that have no effect: they are named, not silently ignored."""
        return sorted(option(name) for name in self.idle_flags & self.typed)

    def in_effect(self) -> Values:
        """Return the flags that have an effect as plain values, by name."""
        return {k: v for k, v in plain(self).items() if k not in self.idle_flags}


@functools.cache
def is_superkernel(search_space: str) -> bool:
    """True if the choices of a space's layers share one kernel. Its file is read once.

    Raises:
        ValueError: the search space is not usable.
    """
    from model.space_file import load_space_file  # lazily, as it loads torch

    return load_space_file(search_space)["supernet"] == "superkernel"


@dataclass(frozen=True, kw_only=True)
class TrainSupernetConfig(SupernetCommand):
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
