"""Flags as frozen dataclasses: one line per flag, from which argparse and a checked value are made.

    @dataclass(frozen=True, kw_only=True)
    class EvolutionConfig:
        title: ClassVar[str] = "evolution"  # the group of --help
        parent_num: int = flag(10, integer(1), "top candidates kept as parents", "N")

`add_flags(parser, EvolutionConfig)` adds `--parent-num`; `take(EvolutionConfig, values)` is the
dataclass made of what argparse has read. A class that inherits flags has them in the group of the
class that declares them, so that classes with a common base share its group.
"""

from __future__ import annotations

import dataclasses
import inspect
from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

Kind = Callable[[str], Any] | Sequence[str]  # parses a word, or lists the words that are allowed
T = TypeVar("T")


def flag(default: Any, kind: Kind = str, help: str = "", metavar: str | None = None, **more: Any):
    """A dataclass field that is a flag.

    Args:
        default: its value if nothing sets it; a tuple for flags with several values.
        kind: what makes the value of a word (see `types`), or the allowed words.
        more: further arguments of `ArgumentParser.add_argument`; `names`: further spellings.
    """
    kinds = {"type": kind} if callable(kind) else {"choices": tuple(kind)}
    options = {**kinds, "help": help, "metavar": metavar, **more}
    return dataclasses.field(default=default, metadata={"flag": options})


def switch(default: bool | None, help: str) -> Any:
    """A field that is `--name` or `--no-name`; None: whatever a recipe says."""
    options = {"action": BooleanOptionalAction, "help": help}
    return dataclasses.field(default=default, metadata={"flag": options})


def only(help: str) -> Any:
    """A field that is False unless `--name` is given."""
    return dataclasses.field(
        default=False, metadata={"flag": {"action": "store_true", "help": help}}
    )


def groups(config: type) -> Iterator[tuple[str, list[dataclasses.Field]]]:
    """Title and fields of each class that declares flags of `config`, base classes first."""
    fields = {f.name: f for f in dataclasses.fields(config) if "flag" in f.metadata}
    for owner in reversed(config.__mro__):
        own = [fields[name] for name in inspect.get_annotations(owner) if name in fields]
        if own:
            yield owner.title, own


def add_flags(parser: ArgumentParser, *configs: type) -> None:
    """Add the flags of the classes to a parser, in groups; one that is there already stays."""
    titled = {group.title: group for group in parser._action_groups}
    for config in configs:
        for title, fields in groups(config):
            group = titled.setdefault(title, None) or parser.add_argument_group(title)
            titled[title] = group
            for f in fields:
                options = dict(f.metadata["flag"])
                names = ["--" + f.name.replace("_", "-"), *options.pop("names", ())]
                if names[0] not in parser._option_string_actions:
                    group.add_argument(*names, dest=f.name, default=f.default, **options)


def take(config: type[T], values: Namespace) -> T:
    """The dataclass of what argparse has read."""
    names = [f.name for f in dataclasses.fields(config) if f.init]
    read = {name: getattr(values, name) for name in names if hasattr(values, name)}
    return config(**{k: tuple(v) if isinstance(v, list) else v for k, v in read.items()})
