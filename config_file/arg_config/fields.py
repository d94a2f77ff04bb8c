"""Flags as frozen dataclasses: one line per flag, from which argparse and a checked value are made.

    @dataclass(frozen=True, kw_only=True)
    class EvolutionConfig:
        title: ClassVar[str] = "evolution"  # the group of --help
        parent_num: int = flag(10, integer(1), "top candidates kept as parents", "N")

    @dataclass(frozen=True, kw_only=True)
    class SearchConfig:  # of a command: made of groups, and of flags of its own
        title: ClassVar[str] = "search"
        run: RunConfig = part(RunConfig)
        seeds: int = flag(1, integer(1), "searches with different random numbers", "K")
        evolution: EvolutionConfig = part(EvolutionConfig)

`make_parser(SearchConfig, text)` reads the flags, `take(SearchConfig, namespace)` is the value of
what was read, `changed(config, seeds=3)` another value. Flag names are unique within a command. A
class that inherits flags has them in the group of the class that declares them.
"""

from __future__ import annotations

import dataclasses
import inspect
import shutil
import sys
import textwrap
from argparse import Action, ArgumentParser, BooleanOptionalAction, Namespace
from argparse import HelpFormatter as WrappingFormatter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from utils.errors import nearest, one_line, wrapped

Kind = Callable[[str], Any] | Sequence[str]  # parses a word, or lists the words that are allowed
T = TypeVar("T")

NOT_SAVED = "not saved"  # not in config.yaml: it names the run or how it is shown
MAY_DIFFER = "may differ"  # on --resume
FROM_CHECKPOINT = "from checkpoint"  # by default as in the training of --checkpoint


def fit(line: str, width: int) -> list[str]:
    """Break a line of a description; a shell command can still be pasted."""
    if len(line) <= width:
        return [line]
    command, _, comment = line.partition("  # ")
    if comment:
        return [*fit(f"# {comment.strip()}", width), *fit(command.rstrip(), width)]
    if not line.startswith(("python ", "torchrun ")):
        return textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False)
    *first, last = textwrap.wrap(
        line, width - 2, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )
    return [*(f"{part} \\" for part in first), last]


class HelpFormatter(WrappingFormatter):
    """State every default that a flag has of its own; use a wide terminal up to 100 columns."""

    def __init__(self, prog: str) -> None:
        columns = min(100, shutil.get_terminal_size().columns)
        super().__init__(prog, max_help_position=26, width=columns)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Keep the lines of a description; those that are too wide become narrower ones."""
        return "\n".join(line for old in text.splitlines() for line in fit(old, width))

    def _get_help_string(self, action: Action) -> str | None:
        text, default = action.help or "", action.default
        if default in (None, "==SUPPRESS==") or "default" in text or not action.option_strings:
            return text
        if isinstance(default, bool):
            default = "on" if default else "off"
        return f"{text} (default: {default})"


class Parser(ArgumentParser):
    """argparse whose errors are one line, and which takes no abbreviated flags."""

    def __init__(self, description: str, usage: str = "%(prog)s [flags]") -> None:
        script = Path(sys.argv[0])
        super().__init__(
            prog=f"python -m {script.parent.name}" if script.name == "__main__.py" else script.name,
            description=description,
            usage=usage,
            formatter_class=HelpFormatter,
            allow_abbrev=False,
        )

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Namespace | None = None
    ) -> Namespace:
        """Parse the words; an unknown flag is an error with the nearest one."""
        read, unknown = self.parse_known_args(args, namespace)
        if unknown:
            hint = nearest(unknown[0].split("=")[0], self._option_string_actions)
            self.error(f"unknown argument {' '.join(unknown)}{hint}")
        return read

    def error(self, message: str) -> NoReturn:
        self.exit(2, wrapped(f"error: {one_line(message)} (see --help)") + "\n")


def flag(
    default: Any,
    kind: Kind = str,
    help: str = "",
    metavar: str | tuple[str, ...] | None = None,
    *,
    marks: Sequence[str] = (),
    **more: Any,
) -> Any:
    """A dataclass field that is a flag.

    Args:
        default: its value if nothing sets it; a tuple for flags with several values.
        kind: what makes the value of a word (see `types`), or the allowed words.
        marks: any of NOT_SAVED, MAY_DIFFER, FROM_CHECKPOINT.
        more: further arguments of `ArgumentParser.add_argument`; `names`: further spellings;
            `positional`: words without a flag.
    """
    kinds = {"type": kind} if callable(kind) else {"choices": tuple(kind)}
    options = {**kinds, "help": help, "metavar": metavar, **more}
    return dataclasses.field(default=default, metadata={"flag": options, "marks": marks})


def switch(default: bool | None, help: str, marks: Sequence[str] = ()) -> Any:
    """A field that is `--name` or `--no-name`; None: whatever a recipe says."""
    options = {"action": BooleanOptionalAction, "help": help}
    return dataclasses.field(default=default, metadata={"flag": options, "marks": marks})


def only(help: str, marks: Sequence[str] = ()) -> Any:
    """A field that is False unless `--name` is given."""
    options = {"action": "store_true", "help": help}
    return dataclasses.field(default=False, metadata={"flag": options, "marks": marks})


def part(kind: type | Mapping[str, type], title: str | None = None) -> Any:
    """A field that is a group of flags, or a mapping of names to such groups.

    Args:
        title: of its flags in --help, in place of the titles of the classes that declare them.
    """
    make = kind if isinstance(kind, type) else (lambda: {k: c() for k, c in kind.items()})
    return dataclasses.field(default_factory=make, metadata={"part": kind, "title": title})


def _kinds(field: dataclasses.Field) -> Sequence[type]:
    """The classes of a part; none for a flag."""
    kind = field.metadata.get("part", {})
    return (kind,) if isinstance(kind, type) else tuple(kind.values())


def groups(config: type, title: str | None = None) -> Iterator[tuple[str, dataclasses.Field]]:
    """Every flag of a class and of its parts, with the title of its group in --help."""
    for field in dataclasses.fields(config):
        if "flag" in field.metadata:
            owners = (
                c for c in reversed(config.__mro__) if field.name in inspect.get_annotations(c)
            )
            yield title or next(owners).title, field  # type: ignore[attr-defined]
        for kind in _kinds(field):
            yield from groups(kind, title or field.metadata["title"])


def flags(config: type) -> dict[str, dataclasses.Field]:
    """The flags of a class and of its parts, by name."""
    return {field.name: field for _, field in groups(config)}


def marked(config: type, mark: str) -> set[str]:
    """Names of the flags that carry a mark."""
    return {name for name, field in flags(config).items() if mark in field.metadata["marks"]}


def add_flags(parser: ArgumentParser, config: type) -> None:
    """Add the flags of a class to a parser, in groups; one that is there already stays."""
    titled = {group.title: group for group in parser._action_groups}
    there = {action.dest for action in parser._actions}
    for title, field in groups(config):
        if field.name in there:
            continue
        there.add(field.name)
        if title not in titled:
            titled[title] = parser.add_argument_group(title)
        options = dict(field.metadata["flag"])
        names = ["--" + field.name.replace("_", "-"), *options.pop("names", ())]
        if options.pop("positional", False):
            parser.add_argument(field.name, **options)
        else:
            titled[title].add_argument(*names, dest=field.name, default=field.default, **options)


def make_parser(config: type, description: str | None, usage: str = "%(prog)s [flags]") -> Parser:
    """The parser of a command's flags."""
    parser = Parser(description or "", usage)
    add_flags(parser, config)
    return parser


def answer_help(config: type, description: str | None) -> None:
    """Print the help of a command and exit, if that is all it is asked for."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        make_parser(config, description).print_help()
        sys.exit()


def take(config: type[T], values: Namespace) -> T:
    """The value of what argparse has read; lists become tuples."""
    read: dict[str, Any] = {}
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        kind = field.metadata.get("part")
        if isinstance(kind, type):
            read[field.name] = take(kind, values)
        elif kind is not None:
            read[field.name] = {name: take(c, values) for name, c in kind.items()}
        elif field.name in values:
            value = getattr(values, field.name)
            read[field.name] = tuple(value) if isinstance(value, list) else value
    return config(**read)


def values_of(config: Any) -> dict[str, Any]:
    """The value of every flag of a config, by name."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if "flag" in field.metadata:
            values[field.name] = value
        if "part" in field.metadata:
            for inner in value.values() if isinstance(value, dict) else (value,):
                values |= values_of(inner)
    return values


def changed(config: T, /, **values: Any) -> T:
    """The config with other values of some flags, given by name."""

    def renew(old: Any) -> Any:
        new: dict[str, Any] = {}
        for field in dataclasses.fields(old):
            value = getattr(old, field.name)
            if "flag" in field.metadata and field.name in values:
                new[field.name] = values[field.name]
            elif isinstance(field.metadata.get("part"), type):
                new[field.name] = renew(value)
            elif "part" in field.metadata:
                new[field.name] = {name: renew(inner) for name, inner in value.items()}
        return dataclasses.replace(old, **new)

    unknown = values.keys() - flags(type(config)).keys()
    assert not unknown, f"no flags of {type(config).__name__}: {sorted(unknown)}"
    return renew(config)


def plain(config: Any) -> dict[str, Any]:
    """The flags that describe a run as plain YAML values, by name: what config.yaml holds."""
    hidden = marked(type(config), NOT_SAVED)
    found = {name: value for name, value in values_of(config).items() if name not in hidden}

    def as_yaml(value: Any) -> Any:
        if isinstance(value, tuple):
            return [as_yaml(part) for part in value]
        return str(value) if isinstance(value, Path) else value

    return {name: as_yaml(value) for name, value in found.items()}
