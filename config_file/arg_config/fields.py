"""Flags as frozen dataclasses: one line per flag, from which argparse and a checked value are made.

    @dataclass(frozen=True, kw_only=True)
    class EvolutionConfig:
        title: ClassVar[str] = "evolution"  # the group of --help
        parent_num: int = flag(10, integer(1), "top candidates kept as parents")

    @dataclass(frozen=True, kw_only=True)
    class SearchConfig:  # of a command: made of groups, and of flags of its own
        title: ClassVar[str] = "search"
        run: RunConfig = part(RunConfig)
        seeds: int = flag(1, integer(1), "searches with different random numbers", "K")
        evolution: EvolutionConfig = part(EvolutionConfig)

`make_parser(SearchConfig, text)` reads the flags, `take(SearchConfig, namespace)` makes a value of
what was read, `changed(config, seeds=3)` another value. Flag names are unique within a command.
Flags that a class inherits stand in the group of the class that declares them.
"""

from __future__ import annotations

import dataclasses
import inspect
import shutil
import sys
import textwrap
from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from argparse import HelpFormatter as WrappingFormatter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from config_file.arg_config.types import Kind
from utils.errors import nearest, one_line, wrapped

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
Values = dict[str, Any]  # by flag, with underscores

NOT_SAVED = "not saved"  # not in config.yaml: it names the run or how it is shown
MAY_DIFFER = "may differ"  # on --resume
FROM_CHECKPOINT = "from checkpoint"  # by default as in the training of --checkpoint
BY_RECIPE = "by recipe"  # --help says that the dataset's recipe may set it


def flag(
    default: object,
    kind: Callable[[str], object] | Sequence[str] = str,
    help: str = "",
    metavar: str | tuple[str, ...] | None = None,
    *,
    marks: Sequence[str] = (),
    **more: object,
) -> Any:
    """Declare a dataclass field that is a flag.

    Args:
        default: its value if nothing sets it; a tuple for flags with several values.
        kind: what makes the value of a word (see `types`), or the allowed words.
        metavar: what --help shows for the value, if not what the kind says.
        marks: any of NOT_SAVED, MAY_DIFFER, FROM_CHECKPOINT, BY_RECIPE.
        more: further arguments of `ArgumentParser.add_argument`; `names`: further spellings;
            `positional`: words without a flag.
    """
    if isinstance(kind, Kind):
        metavar = metavar or kind.metavar
    parsed = {"type": kind} if callable(kind) else {"choices": tuple(kind)}
    return _field(default, marks, **parsed, help=help, metavar=metavar, **more)


def switch(default: bool | None, help: str, marks: Sequence[str] = ()) -> Any:
    """Declare a field that is `--name` or `--no-name`; None: whatever a recipe says."""
    return _field(default, marks, action=BooleanOptionalAction, help=help)


def only(help: str, marks: Sequence[str] = ()) -> Any:
    """Declare a field that is False unless `--name` is given."""
    return _field(False, marks, action="store_true", help=help)


def _field(default: object, marks: Sequence[str], *, help: str, **options: object) -> Any:
    """Make the field; its help states the default that it has of its own, or by a recipe."""
    shown = {True: "on", False: "off"}[default] if isinstance(default, bool) else default
    if BY_RECIPE in marks:
        shown = "the dataset's recipe" if default is None else f"recipe, or {shown}"
    if shown not in (None, ()) and "default" not in help:
        help = f"{help} (default: {shown})".lstrip()
    metadata = {"flag": {"help": help, **options}, "marks": marks}
    return dataclasses.field(default=default, metadata=metadata)


def part(kind: type | Mapping[str, type], title: str | None = None) -> Any:
    """Declare a field that is a group of flags, or a mapping of names to such groups.

    Args:
        title: of its flags in --help, in place of the titles of the classes that declare them.
    """
    make = kind if isinstance(kind, type) else (lambda: {k: c() for k, c in kind.items()})
    return dataclasses.field(default_factory=make, metadata={"part": kind, "title": title})


def groups(config: type, title: str | None = None) -> Iterator[tuple[str, dataclasses.Field]]:
    """Yield the flags of a class and of its parts, with the title of their group in --help."""
    for field in dataclasses.fields(config):
        if "flag" in field.metadata:
            bases = reversed(config.__mro__)
            owner = next(c for c in bases if field.name in inspect.get_annotations(c))
            yield title or owner.title, field  # type: ignore[attr-defined]
        kind = field.metadata.get("part", {})
        for inner in (kind,) if isinstance(kind, type) else kind.values():
            yield from groups(inner, title or field.metadata["title"])


def flags(config: type) -> dict[str, dataclasses.Field]:
    """Return the flags of a class and of its parts, by name."""
    return {field.name: field for _, field in groups(config)}


def marked(config: type, *marks: str) -> set[str]:
    """Return the names of the flags that carry one of the marks."""
    return {k for k, field in flags(config).items() if set(marks) & set(field.metadata["marks"])}


def option(name: str) -> str:
    """Return the flag as it is typed."""
    return "--" + name.replace("_", "-")


def fill(config: type[T], values: Mapping[str, Any]) -> T:
    """Return the value of a class whose flags have these values, or their defaults."""
    filled: Values = {}
    for field in dataclasses.fields(config):
        kind = field.metadata.get("part")
        if isinstance(kind, type):
            filled[field.name] = fill(kind, values)
        elif kind is not None:
            filled[field.name] = {name: fill(inner, values) for name, inner in kind.items()}
        elif field.name in values:
            filled[field.name] = values[field.name]
    return config(**filled)


def take(config: type[T], read: Namespace) -> T:
    """Return the value of what argparse has read; lists become tuples."""
    return fill(config, {k: tuple(v) if isinstance(v, list) else v for k, v in vars(read).items()})


def values_of(config: DataclassInstance) -> Values:
    """Return the value of every flag of a config, by name."""
    values: Values = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if "flag" in field.metadata:
            values[field.name] = value
        if "part" in field.metadata:
            for inner in value.values() if isinstance(value, dict) else (value,):
                values |= values_of(inner)
    return values


def changed(config: T, /, **values: object) -> T:
    """Return the config with other values of some flags, given by name."""
    unknown = values.keys() - flags(type(config)).keys()
    assert not unknown, f"no flags of {type(config).__name__}: {sorted(unknown)}"
    return fill(type(config), {**vars(config), **values_of(config), **values})


def plain(config: DataclassInstance) -> Values:
    """Return the flags that describe a run as plain YAML values, by name, as in config.yaml."""

    def as_yaml(value: object) -> object:
        if isinstance(value, tuple):
            return [as_yaml(part) for part in value]
        return str(value) if isinstance(value, Path) else value

    hidden = marked(type(config), NOT_SAVED)
    return {name: as_yaml(v) for name, v in values_of(config).items() if name not in hidden}


def fit(line: str, width: int) -> str:
    """Break a line of a description that is too wide; a shell command can still be pasted."""
    command, _, comment = line.partition("  # ")
    if len(line) <= width:
        return line
    if comment:
        return f"{fit('# ' + comment.strip(), width)}\n{fit(command.rstrip(), width)}"
    is_command = line.startswith(("python ", "torchrun "))
    parts = textwrap.wrap(line, width - 6, break_long_words=False, break_on_hyphens=False)
    return (" \\\n    " if is_command else "\n").join(parts)


class HelpFormatter(WrappingFormatter):
    """Use a wide terminal up to 100 columns, and keep the lines of a description that fit."""

    def __init__(self, prog: str) -> None:
        width = min(100, shutil.get_terminal_size().columns)
        super().__init__(prog, max_help_position=26, width=width)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(fit(line, width) for line in text.splitlines())


class Parser(ArgumentParser):
    """argparse whose errors are one line, and which takes no abbreviated flags.

    Attributes:
        source: the file that the words are of, for errors; "" for the command line.
    """

    source = ""

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
        where = f"in {self.source}; " if self.source else ""
        self.exit(2, wrapped(f"error: {one_line(message)} ({where}see --help)") + "\n")


def make_parser(config: type, description: str | None, usage: str = "%(prog)s [flags]") -> Parser:
    """Make the parser of a command's flags, in groups; of two with one name the first counts."""
    parser = Parser(description or "", usage)
    there, titled = set(), {}
    for title, field in groups(config):
        if field.name in there:
            continue
        there.add(field.name)
        options = dict(field.metadata["flag"])
        names = [option(field.name), *options.pop("names", ())]
        if options.pop("positional", False):
            parser.add_argument(field.name, **options)
            continue
        if title not in titled:
            titled[title] = parser.add_argument_group(title)
        titled[title].add_argument(*names, dest=field.name, default=field.default, **options)
    return parser


def answer_help(config: type, description: str | None) -> None:
    """Print the help of a command and exit, if that is all it is asked for."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        make_parser(config, description).print_help()
        sys.exit()
