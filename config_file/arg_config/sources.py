"""Where a flag's value comes from; precedence, lowest to highest:

    default, dataset's recipe, its section of the sampler, checkpoint searched or architecture
    trained, --config FILE, its section of the sampler, command line

A file may hold settings that count for one sampler only: `sampler: {softmax: {a-lr: 0.1}}`.

All values are turned into command-line words and go through argparse, so that a value in a YAML
file is checked just as a typed one is. A resumed run takes its own config.yaml in place of all.
"""

from __future__ import annotations

import sys
from argparse import Action, ArgumentParser, ArgumentTypeError, BooleanOptionalAction, Namespace
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml

from config_file.arg_config.fields import (
    FROM_CHECKPOINT,
    MAY_DIFFER,
    NOT_SAVED,
    make_parser,
    marked,
    plain,
    take,
)
from config_file.arg_config.names import SAMPLERS
from config_file.arg_config.types import Words
from utils.errors import nearest
from utils.files import write_text
from utils.yaml_file import read_yaml, shown

SECTIONS = "sampler"  # the key of a file under which settings stand per sampler
SAMPLER_SECTIONS = (*SAMPLERS, "gumbel-hard")
RECIPES = Path(__file__).resolve().parent.parent / "dataset"
REMOVED = ("cuda_graphs",)  # in old runs' config.yaml; it changed speed, not results

Values = dict[str, Any]  # flag (with underscores) -> value; None: as if the flag was not given


@dataclass(frozen=True, kw_only=True)
class Command:
    """The flags of a command whose values come from several sources.

    Attributes:
        recipes: folders of YAML files by dataset; of two that set a flag the later wins.
        typed: names of the flags that stand on the command line.
    """

    recipes: ClassVar[tuple[Path, ...]] = (RECIPES,)
    typed: frozenset[str] = field(default=frozenset(), compare=False)

    @classmethod
    def inherited(cls, chosen: Values) -> Values:
        """The values that the flags given by --config and typed decide."""
        return {}

    @property
    def sampler_section(self) -> str | None:
        """The name under which a file holds settings of the run's sampler; None: it has none."""
        return None

    def check(self) -> None:
        """Raise ValueError where flags make no sense together."""

    def ignored_flags(self) -> list[str]:
        """Typed flags that have no effect in this run."""
        return []


C = TypeVar("C", bound=Command)


@dataclass(frozen=True)
class Layer:
    """Values of flags out of one file: for all samplers, and by section."""

    values: Values = field(default_factory=dict)
    sections: dict[str, Values] = field(default_factory=dict)

    def of(self, section: str | None) -> Values:
        return {**self.values, **self.sections.get(str(section), {})}


def load_config(kind: type[C], description: str | None, argv: Sequence[str] | None = None) -> C:
    """The flags of a command, all sources applied, checked against each other.

    Raises:
        ValueError: a file of flags, a checkpoint or a run to resume is not usable, or flags do not
            go together.
    """
    argv = sys.argv[1:] if argv is None else argv
    reader = Reader(kind, make_parser(kind, description))
    typed = reader.parser.parse_args(argv)  # checks the command line before any file is read
    words = {word.split("=", 1)[0] for word in argv if word.startswith("--")}
    given = {a.dest for a in reader.parser._actions if words & set(a.option_strings)}
    values = reader.resumed(argv, typed, given) if typed.resume else reader.all(argv, typed, given)
    config = replace(take(kind, values), typed=frozenset(given))
    config.check()
    return config


class Reader:
    """Reads the flags of a command from its sources.

    Args:
        kind: the class of its flags.
        parser: the parser of these.
    """

    def __init__(self, kind: type[Command], parser: ArgumentParser) -> None:
        self.kind = kind
        self.parser = parser
        hidden = {"help", *marked(kind, NOT_SAVED)}
        self.actions = {a.dest: a for a in parser._actions if a.dest not in hidden}

    def all(self, argv: Sequence[str], typed: Namespace, given: set[str]) -> Namespace:
        """The values of a new run."""
        config = self.file(typed.config) if typed.config else Layer()
        chosen = {**config.values, **{k: v for k, v in vars(typed).items() if k in given}}
        inherited = self.kind.inherited(chosen)
        dataset = chosen.get("dataset") or inherited.get("dataset") or typed.dataset
        recipe = Layer()
        if dataset in self.actions["dataset"].choices:  # a wrong name in a file is argparse's
            recipe = self.recipe(dataset)
        where = str(typed.config or chosen.get("checkpoint"))

        def parse(section: str | None) -> Namespace:
            merged = {**recipe.of(section), **inherited, **config.of(section)}
            return self.parser.parse_args([*words_of(self.actions, merged, where), *argv])

        values = parse(None)
        if not (recipe.sections or config.sections):
            return values
        return parse(take(self.kind, values).sampler_section)

    def resumed(self, argv: Sequence[str], typed: Namespace, given: set[str]) -> Namespace:
        """The values in the run's own config.yaml; what is typed may only repeat them."""
        from utils.run_folder import check_run_folder

        check_run_folder(typed.run_dir, typed.title, resume=True)
        path = typed.run_dir / typed.title / "config.yaml"
        stored = words_of(self.actions, self.file(path).values, str(path))
        values = self.parser.parse_args([*stored, *argv])
        if "config" in given:
            raise ValueError("--config cannot be given with --resume: the run has its config.yaml")
        as_stored = vars(self.parser.parse_args(stored))
        free = marked(self.kind, MAY_DIFFER) | marked(self.kind, NOT_SAVED)
        for name in sorted(given - free):
            value, old = vars(typed)[name], as_stored[name]
            if value != old and value not in ("median", "differentiable"):
                raise ValueError(
                    f"--{name.replace('_', '-')} {value} differs from the run to resume ({old}); "
                    f"leave the flag out, or start another run"
                )
        return values

    def file(self, path: Path) -> Layer:
        """Flags by name out of a YAML file, and those of each sampler; '-' and '_' are the same.

        Raises:
            ValueError: unreadable, or a key that is no flag; with the nearest one.
        """
        content = read_yaml(path)
        if content is None:
            return Layer()
        if not isinstance(content, dict):
            raise ValueError(f"{path}: a configuration must be a mapping of flags to values")
        sections = content.pop(SECTIONS, {})
        if not isinstance(sections, dict):
            raise ValueError(f"{path}: '{SECTIONS}' must map samplers to their flags")
        for name, section in sections.items():
            if name not in SAMPLER_SECTIONS or not isinstance(section, dict):
                raise ValueError(
                    f"{path}: '{SECTIONS}' must map samplers ({', '.join(SAMPLER_SECTIONS)}) to "
                    f"their flags, not '{name}'"
                )
        by_sampler = {name: self.mapping(path, section) for name, section in sections.items()}
        return Layer(self.mapping(path, content), by_sampler)

    def mapping(self, path: Path, content: dict) -> Values:
        """The checked flags of one mapping."""
        values: Values = {}
        for key, value in content.items():
            name = str(key).replace("-", "_")
            if name in values:
                raise ValueError(f"{path}: '{name}' is given twice")
            if name in REMOVED:
                continue
            if name not in self.actions:
                known = [name.replace("_", "-") for name in self.actions]
                raise ValueError(f"{path}: unknown key '{key}'{nearest(str(key), known)}")
            if isinstance(value, dict):
                raise ValueError(f"{path}: '{key}' cannot be a mapping")
            parts = value if isinstance(value, list) else [value]
            if not all(part is None or isinstance(part, (str, int, float)) for part in parts):
                raise ValueError(f"{path}: '{key}' must be a plain value or a list of such")
            values[name] = value
        return values

    def recipe(self, dataset: str) -> Layer:
        """A dataset's values of the flags that the command has; later folders win."""

        def of_command(content: dict) -> Values:
            named = {k.replace("-", "_"): v for k, v in content.items()}
            return {k: v for k, v in named.items() if k in self.actions}

        recipe = Layer()
        for path in (folder / f"{dataset}.yaml" for folder in self.kind.recipes):
            if path.is_file():
                content = read_yaml(path)
                sections = {k: of_command(v) for k, v in content.pop(SECTIONS, {}).items()}
                recipe.sections.update(sections)
                recipe.values.update(of_command(content))
        return recipe


def words_of(actions: dict[str, Action], values: Values, where: str) -> list[str]:
    """Values as words of a command line.

    Raises:
        ValueError: a value is no switch's, or a list where one value is wanted; names `where`.
    """
    words = []
    for name, value in values.items():
        action = actions[name]
        flag = action.option_strings[0]
        if value is None:
            continue
        if action.nargs == "+" and isinstance(value, list) and not isinstance(action, Words):
            words += [flag, *map(str, value)] if value else []  # paths, which may hold commas
        elif action.nargs == 0:  # a switch
            if not isinstance(value, bool):
                raise ValueError(f"{where}: '{name}' must be true or false, not {shown(value)}")
            if value:
                words.append(flag)
            elif isinstance(action, BooleanOptionalAction):
                words.append(flag.replace("--", "--no-", 1))
        else:
            text = str(value)
            if isinstance(value, (list, tuple)):
                text = ",".join(map(str, value))
                if not _takes_list(action, text):
                    raise ValueError(f"{where}: '{name}' takes one value, not {shown(value)}")
            words.append(f"{flag}={text}")
    return words


def _takes_list(action: Action, text: str) -> bool:
    """True if a flag makes a list of its text; a text that is wrong is argparse's to report."""
    if action.nargs in ("+", "*"):
        return True
    if not callable(action.type):
        return False
    try:
        return isinstance(action.type(text), (list, tuple))
    except (ArgumentTypeError, ValueError):
        return True


def from_checkpoint(kind: type[Command], checkpoint: str | Path | None) -> Values:
    """Space and data of the training that a supernet's checkpoint comes from.

    Raises:
        ValueError: it is not usable.
    """
    if checkpoint is None:
        return {}
    from utils.checkpoint import load_checkpoint  # lazily, as it loads torch: --help is quick

    stored = load_checkpoint(str(checkpoint))["config"]
    names: Iterable[str] = marked(kind, FROM_CHECKPOINT)
    return {name: stored[name] for name in names if stored.get(name) is not None}


def from_search(kind: type[Command], folder: Path) -> Values:
    """Dataset flags of a run of search.py.

    Raises:
        ValueError: it is no run.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        raise ValueError(f"{folder} is no run of search.py: {path} is missing")
    stored = {str(k).replace("-", "_"): v for k, v in read_yaml(path).items()}
    names = marked(kind, FROM_CHECKPOINT)
    return {name: stored[name] for name in names if stored.get(name) is not None}


def write_config(path: Path, config: Command) -> None:
    """Write config.yaml: feeding it back with --config gives the same run."""
    named = {name.replace("_", "-"): value for name, value in plain(config).items()}
    write_text(path, yaml.safe_dump(named, sort_keys=False, allow_unicode=True))
