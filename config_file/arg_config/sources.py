"""The sources of a flag's value, in order of precedence, lowest first:

    default, dataset's recipe, its section of the sampler, checkpoint searched or architecture
    trained, --config FILE, its section of the sampler, command line

A file may hold settings that count for one sampler only: `sampler: {softmax: {a-lr: 0.1}}`.

All values are turned into command-line words and go through argparse, so that a value in a YAML
file is checked just as a typed one is. A resumed run takes its own config.yaml in place of all.
"""

from __future__ import annotations

import contextlib
import functools
import io
import sys
from argparse import Action, BooleanOptionalAction, Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from config_file.arg_config.earlier import RUN_CONFIG, command_of, own_files
from config_file.arg_config.fields import (
    MAY_DIFFER,
    NOT_SAVED,
    Values,
    make_parser,
    marked,
    option,
    plain,
    take,
)
from config_file.arg_config.names import DATASETS, SAMPLERS
from config_file.arg_config.run_config import C, Command
from config_file.arg_config.types import Kind, Words
from utils.errors import nearest
from utils.files import write_text
from utils.yaml_file import read_yaml, shown

SECTIONS = "sampler"  # the key of a file under which settings stand per sampler
SAMPLER_SECTIONS = (*SAMPLERS, "gumbel-hard")
REMOVED = ("cuda_graphs",)  # in old runs' config.yaml; it changed speed, not results
LOSS = ("hc_loss", "hc_weight")
# what is typed for something that a run works out
RESOLVED = {"target_hc": "median", "min_hc": "median", "sample_strategy": "differentiable"}
WORKED_OUT = {"grad_clip", "hc_weight"}  # where they are not given
Layer = dict[str | None, Values]  # of a file: values by section; under None those of all samplers


def load_config(kind: type[C], description: str | None, argv: Sequence[str] | None = None) -> C:
    """Return the flags of a command, all sources applied, checked against each other.

    Raises:
        ValueError: a file of flags, a checkpoint or a run to resume is not usable, or flags do not
            go together.
    """
    reader = Reader(kind, description, sys.argv[1:] if argv is None else argv)
    values = reader.resumed() if reader.typed.resume else reader.new()
    config = replace(take(kind, values), typed=frozenset(reader.given))
    config.check()
    return config


def settings(kind: type[C], **flags: Any) -> C:
    """Return a command's flags for use in a program: `settings(SearchConfig, dataset="digits")`.

    Sources and checks are those of the command line; what is not named has the dataset's default.

    Raises:
        ValueError: no such flag, a value that it does not take, or flags that do not go together.
    """
    actions = {action.dest: action for action in make_parser(kind, None)._actions}
    if unknown := sorted(flags.keys() - actions.keys()):
        raise ValueError(f"{kind.__name__} has no {unknown[0]}{nearest(unknown[0], actions)}")
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return load_config(kind, None, words_of(actions, flags, kind.__name__))
    except SystemExit as error:  # argparse's
        raise ValueError(said.getvalue().strip().removeprefix("error: ")) from error


class Reader:
    """Read the flags of a command from its sources; a wrong command line exits before any file.

    Attributes:
        actions: the flags that files may set.
        typed, given: values of the command line, and names of the flags that stand there.
    """

    def __init__(self, kind: type[Command], description: str | None, argv: Sequence[str]) -> None:
        self.kind = kind
        self.argv = argv
        self.parser = make_parser(kind, description)
        hidden = {"help", *marked(kind, NOT_SAVED)}
        self.actions = {a.dest: a for a in self.parser._actions if a.dest not in hidden}
        self.typed = self.parser.parse_args(argv)
        # argparse cannot tell a typed default from one left out; files must not override the first
        words = {word.split("=", 1)[0] for word in argv if word.startswith("--")}
        self.given = {a.dest for a in self.parser._actions if words & set(a.option_strings)}

    def new(self) -> Namespace:
        """Return the values of a new run."""
        path = self.typed.config
        config = self.file(path) if path else {None: {}}
        if path and path.name == RUN_CONFIG:
            config[None] |= own_files(config[None], path.parent)
        chosen = config[None] | {name: vars(self.typed)[name] for name in self.given}
        inherited = self.kind.inherited(chosen)
        dataset = chosen.get("dataset") or inherited.get("dataset") or self.typed.dataset
        recipe = self.recipe(dataset)
        where = str(path or chosen.get("checkpoint"))

        def parse(section: str | None) -> Namespace:
            files = [recipe[None], recipe.get(section, {}), inherited]  # lowest precedence first
            files += [config[None], config.get(section, {})]
            merged = functools.reduce(_over, files)
            merged = _over(merged, {n: chosen[n] for n in LOSS if n in self.given})
            return self.parser.parse_args([*words_of(self.actions, merged, where), *self.argv])

        values = parse(None)  # names the sampler, whose section is then read as well
        section = take(self.kind, values).sampler_section
        return parse(section) if section else values

    def resumed(self) -> Namespace:
        """Return the values in the run's own config.yaml; what is typed may only repeat them."""
        from utils.run_folder import check_run_folder, command_to_resume, log

        typed = vars(self.typed)
        check_run_folder(typed["run_dir"], typed["title"], resume=True)
        path = typed["run_dir"] / typed["title"] / RUN_CONFIG
        content, ours = read_yaml(path), command_of(self.actions)
        if isinstance(content, dict) and (theirs := command_of(content)) != ours:
            raise ValueError(
                f"{path.parent} is a run of {theirs}, not of {ours}; resume it by "
                + command_to_resume(theirs, path.parent)
            )
        written = self.file(path)[None]
        words = words_of(self.actions, written, str(path))
        if "config" in self.given:
            raise ValueError("--config cannot be given with --resume: the run has its config.yaml")
        stored = vars(self.parser.parse_args(words))  # as types of flags, to compare with typed
        for name in sorted(self.recipe(stored["dataset"])[None].keys() - WORKED_OUT):
            if stored[name] is None and name not in written:
                raise ValueError(f"{path}: key '{name.replace('_', '-')}' is missing")
        words_for = {n for n, word in RESOLVED.items() if n in self.given and typed[n] == word}
        for name in sorted(self.given - marked(self.kind, MAY_DIFFER, NOT_SAVED)):
            if name in words_for:  # config.yaml says to what
                log.info(f"note: the run goes on with its {option(name)} {stored[name]}")
            elif typed[name] != stored[name]:
                trained = path.parent / "supernet.pt"
                again = trained.exists() and "search_strategy" in self.actions
                raise ValueError(
                    f"{option(name)} {typed[name]} differs from the run to resume "
                    f"({stored[name]}); leave the flag out, or start another run"
                    + (f", perhaps with its supernet: --checkpoint {trained}" if again else "")
                )
        own = own_files(written, path.parent)
        if "search_space" in self.given & own.keys():
            raise ValueError(
                f"--search-space {typed['search_space']} has changed since the run began, or is "
                f"gone; leave the flag out to go on with the run's own {own['search_space']}"
            )
        words = words_of(self.actions, written | own, str(path))
        values = self.parser.parse_args([*words, *self.argv])  # typed: those that may differ
        vars(values).update({name: stored[name] for name in words_for})
        return values

    def file(self, path: Path, shared: bool = False) -> Layer:
        """Return the flags in a YAML file by name, and those of each sampler.

        Args:
            shared: by commands; flags that this one has not are left out.

        Raises:
            ValueError: unreadable, or a key that is no flag; with the nearest one.
        """
        content = {} if (read := read_yaml(path)) is None else read
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
        parts = {None: content, **sections}
        return {name: self.mapping(path, part, shared) for name, part in parts.items()}

    def mapping(self, path: Path, content: dict[object, object], shared: bool) -> Values:
        """Return the checked flags of one mapping; '-' and '_' are the same."""
        values: Values = {}
        for key, value in content.items():
            name = str(key).replace("-", "_")
            if name in REMOVED or (shared and name not in self.actions):
                continue
            if name in values:
                raise ValueError(f"{path}: '{name}' is given twice")
            if name not in self.actions:
                known = [name.replace("_", "-") for name in self.actions]
                raise ValueError(f"{path}: unknown key '{key}'{nearest(str(key), known)}")
            if isinstance(value, dict):
                raise ValueError(f"{path}: '{key}' cannot be a mapping")
            parts = value if isinstance(value, list) else [value]
            if not all(part is None or isinstance(part, (str, int, float)) for part in parts):
                raise ValueError(f"{path}: '{key}' must be a plain value or a list of such")
            values[name] = value
        self.parser.source = str(path)
        self.parser.parse_args(words_of(self.actions, values, str(path)))  # each file by itself
        self.parser.source = ""
        return values

    def recipe(self, dataset: object) -> Layer:
        """Return a dataset's values of the flags that the command has; later folders win."""
        recipe: Layer = {None: {}}
        for path in (folder / f"{dataset}.yaml" for folder in self.kind.recipes):
            if dataset in DATASETS and path.is_file():  # else an error later
                for name, values in self.file(path, shared=True).items():
                    recipe.setdefault(name, {}).update(values)
        return recipe


def _over(lower: Values, higher: Values) -> Values:
    """Return the values of two sources; the weight of one loss does not suit another."""
    kind, weight = LOSS
    if kind in lower and higher.get(kind, lower[kind]) != lower[kind]:
        lower = {name: value for name, value in lower.items() if name != weight}
    return lower | higher


def words_of(actions: dict[str, Action], values: Values, where: str) -> list[str]:
    """Return values as words of a command line.

    Raises:
        ValueError: a value is no switch's, or a list where one value is wanted; names `where`.
    """
    words = []
    for name, value in values.items():
        action, is_list = actions[name], isinstance(value, (list, tuple))
        if value is None:
            continue
        if action.nargs == 0:  # a switch
            if not isinstance(value, bool):
                raise ValueError(f"{where}: '{name}' must be true or false, not {shown(value)}")
            if value:
                words.append(option(name))
            elif isinstance(action, BooleanOptionalAction):
                words.append(option(f"no_{name}"))
        elif action.nargs == "+" and isinstance(value, list) and not isinstance(action, Words):
            words += [option(name), *map(str, value)] if value else []  # they may hold commas
        else:
            takes_list = isinstance(action.type, Kind) and action.type.is_list
            if is_list and not (takes_list or action.nargs in ("+", "*")):
                raise ValueError(f"{where}: '{name}' takes one value, not {shown(value)}")
            word = ",".join(map(str, value)) if is_list else value
            words.append(f"{option(name)}={word}")
    return words


def write_config(path: Path, config: Command) -> None:
    """Write config.yaml: feeding it back with --config gives the same run."""
    named = {name.replace("_", "-"): value for name, value in plain(config).items()}
    write_text(path, yaml.safe_dump(named, sort_keys=False, allow_unicode=True))
