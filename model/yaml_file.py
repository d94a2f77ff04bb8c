"""Reading YAML that people and other programs wrote: plain values only, nothing ambiguous.

Refused, each with file and line: tags of other languages' objects, a key twice in one mapping,
aliases that unfold to more than MAX_VALUES values, integers beyond 64 bits, large files.
"""

from __future__ import annotations

import math
import reprlib
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 1 << 20
MAX_VALUES = 200_000  # of a document, aliases unfolded
MAX_INTEGER = 2**63 - 1

_shown = reprlib.Repr()
_shown.maxstring = _shown.maxother = 60


def shown(value: Any) -> str:
    """A value for an error message, shortened."""
    return _shown.repr(value)


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses what a configuration never means."""

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _count_values(node, {})
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        if isinstance(node, yaml.MappingNode):
            seen = set()
            for key_node, _ in node.value:
                if key_node.tag == "tag:yaml.org,2002:merge":
                    continue
                key = self.construct_object(key_node, deep=True)
                try:
                    twice = key in seen
                    seen.add(key)
                except TypeError:
                    raise _problem("a key must be a plain value", key_node) from None
                if twice:
                    raise _problem(f"key {shown(key)} is given twice", key_node)
        return super().construct_mapping(node, deep)

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        try:
            value = super().construct_yaml_int(node)
        except ValueError:
            raise _problem("it is not an integer of at most 64 bits", node) from None
        if abs(value) > MAX_INTEGER:
            raise _problem("an integer must fit 64 bits", node)
        return value

    def construct_number(self, node: yaml.ScalarNode) -> float:
        value = super().construct_yaml_float(node)
        if not math.isfinite(value):
            raise _problem("a number must be finite", node)
        return value

    def refuse(self, node: yaml.Node) -> Any:
        raise _problem(f"the tag {shown(node.tag)} is not allowed, only plain values", node)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_number)
_Loader.add_constructor(None, _Loader.refuse)  # all that no other constructor knows


def _problem(text: str, node: yaml.Node) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, text, node.start_mark)


def _count_values(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node unfolds to; a small file of aliases of aliases can mean billions."""
    if id(node) in known:
        if known[id(node)] == 0:
            raise _problem("an alias must not contain itself", node)
        return known[id(node)]
    known[id(node)] = 0  # being counted
    children: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        children = node.value
    elif isinstance(node, yaml.MappingNode):
        children = [child for pair in node.value for child in pair]
    total = 1 + sum(_count_values(child, known) for child in children)
    if total > MAX_VALUES:
        raise _problem(f"it unfolds to more than {MAX_VALUES:,} values", node)
    known[id(node)] = total
    return total


def read_yaml(path: str | Path, max_bytes: int = MAX_BYTES) -> Any:
    """A YAML (or JSON) file's content, of plain values.

    Raises:
        ValueError: it cannot be read, is too large, or is not such YAML; names file and line.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(max_bytes + 1)  # also ends for a device or an endless pipe
        text = content.decode("utf-8")
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a NUL in the path
        reason = getattr(error, "strerror", None)
        if reason is None:
            reason = "it is not UTF-8 text" if isinstance(error, UnicodeError) else str(error)
        raise ValueError(f"cannot read {path}: {reason}") from error
    if len(content) > max_bytes:
        raise ValueError(f"cannot read {path}: it is larger than {max_bytes / 2**20:g} MiB")
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError as error:
        raise ValueError(f"{path} is not valid YAML: it is nested too deeply") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None)
        reason = f": {problem}" if problem else ""
        raise ValueError(f"{path} is not valid YAML{line}{reason}") from error
