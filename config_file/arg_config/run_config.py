"""Flags of every run (its folder, its seed, the device), and what every command has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, TypeVar

from config_file.arg_config.fields import MAY_DIFFER, NOT_SAVED, Values, flag, only, switch
from config_file.arg_config.types import integer, path, threads

C = TypeVar("C", bound="Command")
DEVICES = ("auto", "cuda", "cpu", "mps")
THE_RUN = "the run"  # its group in --help
RECIPES = Path(__file__).resolve().parent.parent / "dataset"


def cache_dir_flag() -> Path:
    return flag(Path(".cache"), path, "lookup tables already built", "DIR", marks=[MAY_DIFFER])


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    title: str | None = flag(
        None, str, "name of the run's folder (default: kind and time)", marks=[NOT_SAVED]
    )
    config: Path | None = flag(None, path, "YAML of flags by name", marks=[NOT_SAVED])
    resume: bool = switch(False, "go on with run --title", [NOT_SAVED])
    quiet: bool = only("show errors only; log.txt has it all", [NOT_SAVED])
    run_dir: Path = flag(Path("runs"), path, "folder of all runs", "DIR", marks=[MAY_DIFFER])
    cache_dir: Path = cache_dir_flag()
    random_seed: int = flag(0, integer(0, 2**32 - 1), "seed of all")
    device: str = flag(
        "auto",
        DEVICES,
        "where to compute; auto: the first of cuda, mps, cpu that is there",
        marks=[MAY_DIFFER],
    )
    tracker: Path | None = flag(
        None,
        path,
        "Python file with scalars(values, step) and figure(name, figure, step), which get what "
        "TensorBoard gets (docs/runs.md; default: none)",
        "FILE",
        marks=[MAY_DIFFER],
    )
    threads: int | str = flag(
        "auto",
        threads,
        "CPU threads; auto: as many as a few timed steps show to pay, of those that affinity, "
        "container quota and OMP_NUM_THREADS allow; cores that are left score candidates in "
        "processes of their own",
        marks=[MAY_DIFFER],
    )

    @property
    def cache(self) -> Path | None:
        """Folder of lookup tables that are kept; None keeps none."""
        return self.cache_dir

    @property
    def folder(self) -> Path | None:
        """The run folder; None before an automatic title is chosen."""
        return self.run_dir / self.title if self.title else None


@dataclass(frozen=True, kw_only=True)
class PlannedRunConfig(RunConfig):
    dry_run: bool = only(
        "print the plan: steps, sizes, candidates, files; write no run", [NOT_SAVED]
    )

    @property
    def cache(self) -> Path | None:
        return None if self.dry_run else self.cache_dir  # a dry run reads no cache and writes none


@dataclass(frozen=True, kw_only=True)
class Command:
    """The flags of a command whose values come from several sources.

    Attributes:
        recipes: folders of YAML files by dataset; of two that set a flag the later wins.
        typed: names of the flags that stand on the command line.
    """

    run: RunConfig
    recipes: ClassVar[tuple[Path, ...]] = (RECIPES,)
    typed: frozenset[str] = field(default=frozenset(), compare=False)

    @classmethod
    def inherited(cls, chosen: Values) -> Values:
        """Return values that follow from flags of --config and the command line."""
        return {}

    @property
    def sampler_section(self) -> str | None:
        """The name under which a file holds settings of the run's sampler; None: it has none."""
        return None

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the flags, taken together; a user sees the first."""
        yield from ()

    def check(self) -> None:
        """Raise ValueError where flags make no sense together."""
        for problem in self.problems():
            raise ValueError(problem)

    def ignored_flags(self) -> list[str]:
        """Return the typed flags that have no effect in this run."""
        return []

    def with_threads(self: C, threads: int | str) -> C:
        """Return the config with what --threads comes to on this machine."""
        return replace(self, run=replace(self.run, threads=threads))
