"""Where a flag's value comes from: the later of these wins.

    parser's default < dataset's recipe < its settings of the sampler < checkpoint searched or
    architecture trained < --config FILE < its settings of the sampler < command line

A file may hold settings that count for one sampler only: `sampler: {softmax: {a-lr: 0.1}}`.

Every layer is turned into command-line tokens and goes through argparse, so that a value in a YAML
file is checked just as a typed one is. A resumed run takes its own config.yaml in place of all.
"""

from __future__ import annotations

import difflib
from argparse import Action, ArgumentParser, ArgumentTypeError, BooleanOptionalAction, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from config_file.arg_config.sampling_config import SAMPLER_SECTIONS, sampler_section
from utils.files import write_text
from utils.yaml_file import read_yaml, shown

SECTIONS = "sampler"  # the key of a file under which settings stand per sampler
RECIPES = Path(__file__).resolve().parent.parent / "dataset"
SUBNET_RECIPES = RECIPES.parent / "subnet_recipe"
NOT_IN_CONFIG = (  # they name a run, or are no training; they do not describe it
    "title",
    "config",
    "resume",
    "quiet",
    "dry_run",
    "list_architectures",
    "evaluate",
)
MAY_DIFFER = (
    "device",
    "threads",
    "num_workers",
    "run_dir",
    "cache_dir",
    "data_path",
)  # on resuming
REMOVED = ("cuda_graphs",)  # in old runs' config.yaml; it changed speed, not results
FROM_CHECKPOINT = (
    "search_space",
    "widths",
    "dataset",
    "data_path",
    "input_size",
    "eval_batch_size",
    "train_portion",
)

Values = dict[str, Any]  # flag (with underscores) -> value; None: as if the flag was not given


def _flags(parser: ArgumentParser) -> dict[str, Any]:
    return {
        a.dest: a
        for a in parser._actions
        if a.dest not in ("help", *NOT_IN_CONFIG)
        and not (a.dest == "benchmark" and a.nargs == 0)  # a switch that is no training either
    }


def read_layer(path: Path, parser: ArgumentParser) -> tuple[Values, dict[str, Values]]:
    """Flags by name out of a YAML file, and those of each sampler; '-' and '_' are the same.

    Raises:
        ValueError: unreadable, or a key that is no flag; with the nearest one.
    """
    content = read_yaml(path)
    if content is None:
        return {}, {}
    if not isinstance(content, dict):
        raise ValueError(f"{path}: a configuration must be a mapping of flags to values")
    sections = content.pop(SECTIONS, {})
    if not isinstance(sections, dict):
        raise ValueError(f"{path}: '{SECTIONS}' must map samplers to their flags")
    for name, section in sections.items():
        if name not in SAMPLER_SECTIONS or not isinstance(section, dict):
            raise ValueError(
                f"{path}: '{SECTIONS}' must map samplers ({', '.join(SAMPLER_SECTIONS)}) to their "
                f"flags, not '{name}'"
            )
    by_sampler = {name: _read_values(path, part, parser) for name, part in sections.items()}
    return _read_values(path, content, parser), by_sampler


def _read_values(path: Path, content: dict, parser: ArgumentParser) -> Values:
    """The checked flags of one mapping."""
    flags, values = _flags(parser), {}
    for key, value in content.items():
        name = str(key).replace("-", "_")
        if name in values:
            raise ValueError(f"{path}: '{name}' is given twice")
        if name in REMOVED:
            continue
        if name not in flags:
            near = difflib.get_close_matches(name, flags, n=1)
            hint = f" (did you mean '{near[0].replace('_', '-')}'?)" if near else ""
            raise ValueError(f"{path}: unknown key '{key}'{hint}")
        if isinstance(value, dict):
            raise ValueError(f"{path}: '{key}' cannot be a mapping")
        parts = value if isinstance(value, list) else [value]
        if not all(part is None or isinstance(part, (str, int, float)) for part in parts):
            raise ValueError(f"{path}: '{key}' must be a plain value or a list of such")
        values[name] = value
    return values


def _tokens(parser: ArgumentParser, values: Values, where: str) -> list[str]:
    tokens = []
    for name, value in values.items():
        action = _flags(parser)[name]
        flag = action.option_strings[0]
        if value is None:
            continue
        if action.nargs == 0:  # a switch
            if not isinstance(value, bool):
                raise ValueError(f"{where}: '{name}' must be true or false, not {shown(value)}")
            if value:
                tokens.append(flag)
            elif isinstance(action, BooleanOptionalAction):
                tokens.append(flag.replace("--", "--no-", 1))
        else:
            text = str(value)
            if isinstance(value, (list, tuple)):
                text = ",".join(map(str, value))
                if not _takes_list(action, text):
                    raise ValueError(f"{where}: '{name}' takes one value, not {shown(value)}")
            tokens.append(f"{flag}={text}")
    return tokens


def _takes_list(action: Action, text: str) -> bool:
    """Whether a flag makes a list of its text; a text that is wrong is argparse's to report."""
    if action.nargs in ("+", "*"):
        return True
    if not callable(action.type):
        return False
    try:
        return isinstance(action.type(text), (list, tuple))
    except (ArgumentTypeError, ValueError):
        return True


def unused_flags(parser: ArgumentParser, argv: Sequence[str], groups: set[str]) -> list[str]:
    """Typed flags out of groups of --help that have no effect in this run, sorted."""
    actions = [a for g in parser._action_groups if g.title in groups for a in g._group_actions]
    idle = {a.dest for a in actions} & _given(parser, argv)
    return sorted("--" + name.replace("_", "-") for name in idle)


def _given(parser: ArgumentParser, argv: Sequence[str]) -> set[str]:
    """Names of the flags that stand on the command line."""
    words = {word.split("=", 1)[0] for word in argv if word.startswith("--")}
    return {a.dest for a in parser._actions if words & set(a.option_strings)}


def read_recipe(
    dataset: str, folders: Sequence[Path], parser: ArgumentParser
) -> tuple[Values, dict[str, Values]]:
    """A dataset's values of the flags that the command has, and by sampler; later folders win."""
    known = _flags(parser)

    def of_command(content: dict) -> Values:
        named = {k.replace("-", "_"): v for k, v in content.items()}
        return {k: v for k, v in named.items() if k in known}

    values: Values = {}
    sections: dict[str, Values] = {}
    for path in (folder / f"{dataset}.yaml" for folder in folders):
        if path.is_file():  # a wrong name in a file is argparse's to report
            content = read_yaml(path)
            sections |= {k: of_command(v) for k, v in content.pop(SECTIONS, {}).items()}
            values |= of_command(content)
    return values, sections


def parse(
    parser: ArgumentParser,
    argv: Sequence[str],
    recipes: Sequence[Path] = (RECIPES,),
    inherit: Callable[[Values], Values] = lambda chosen: {},
) -> Namespace:
    """The flags of a command, all layers applied.

    Args:
        recipes: folders of YAML files by dataset; of two that set a flag the later wins.
        inherit: what the flags chosen (by --config and typed) decide of the others.

    Raises:
        ValueError: a file of flags, a checkpoint or a run to resume is not usable.
    """
    typed = parser.parse_args(argv)  # checks the command line before any file is read
    given = _given(parser, argv)
    if typed.resume:
        return _resumed(parser, argv, typed, given)
    config, config_of = read_layer(typed.config, parser) if typed.config else ({}, {})
    checkpoint = typed.checkpoint if "checkpoint" in given else config.get("checkpoint")
    inherited = inherit({**config, **{k: v for k, v in vars(typed).items() if k in given}})
    if checkpoint is not None:
        from utils.checkpoint import load_checkpoint

        stored = load_checkpoint(str(checkpoint))["config"]
        inherited = {k: stored[k] for k in FROM_CHECKPOINT if stored.get(k) is not None}
    dataset = typed.dataset
    if "dataset" not in given:
        dataset = config.get("dataset") or inherited.get("dataset") or typed.dataset
    recipe: Values = {}
    recipe_of: dict[str, Values] = {}
    if dataset in _flags(parser)["dataset"].choices:  # a wrong name in a file is argparse's, below
        recipe, recipe_of = read_recipe(dataset, recipes, parser)
    merged = {**recipe, **inherited, **config}
    where = str(typed.config or checkpoint)
    args = parser.parse_args([*_tokens(parser, merged, where), *argv])
    if not (recipe_of or config_of) or "sample_strategy" not in args:
        return args
    sampler = str(sampler_section(args))
    merged = {**recipe, **recipe_of.get(sampler, {}), **inherited}
    merged |= {**config, **config_of.get(sampler, {})}
    return parser.parse_args([*_tokens(parser, merged, where), *argv])


def _resumed(
    parser: ArgumentParser, argv: Sequence[str], typed: Namespace, given: set[str]
) -> Namespace:
    """The flags of the run's own config.yaml; what is typed may only repeat them."""
    from utils.run_folder import check_run_folder

    check_run_folder(typed.run_dir, typed.title, resume=True)
    path = typed.run_dir / typed.title / "config.yaml"
    stored, _ = read_layer(path, parser)
    args = parser.parse_args([*_tokens(parser, stored, str(path)), *argv])
    if "config" in given:
        raise ValueError("--config cannot be given with --resume: the run has its config.yaml")
    as_stored = parser.parse_args(_tokens(parser, stored, str(path)))
    for name in sorted(given - set(MAY_DIFFER) - set(NOT_IN_CONFIG)):
        typed_value, value = getattr(typed, name), getattr(as_stored, name)
        if typed_value != value and typed_value not in ("median", "differentiable"):
            flag = name.replace("_", "-")
            raise ValueError(
                f"--{flag} {typed_value} differs from the run to resume ({value}); leave the flag "
                f"out, or start another run"
            )
    return args


def config_values(parser: ArgumentParser, args: Namespace) -> Values:
    """Every flag that describes the run, as plain YAML values, by its name inside."""
    values = {name: getattr(args, name) for name in _flags(parser)}
    return {k: str(v) if isinstance(v, Path) else v for k, v in values.items()}


def write_config(path: Path, values: Values) -> None:
    """config.yaml: feeding it back with --config gives the same run."""
    named = {name.replace("_", "-"): value for name, value in values.items()}
    write_text(path, yaml.safe_dump(named, sort_keys=False, allow_unicode=True))
