"""The one reader of YAML: plain values only, no key twice; an error names file and line."""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 1 << 20
MAX_VALUES = 200_000  # of a document, aliases unfolded
MAX_NUMBER = 2**63 - 1

_shown = reprlib.Repr()
_shown.maxstring = _shown.maxother = 60


def shown(value: object) -> str:
    """Format a value for an error message, shortened."""
    return _shown.repr(value)


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses duplicate keys, alias bombs and numbers that are not finite."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.sizes: dict[yaml.Node, int] = {}  # values that a composed node unfolds to

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node | None:
        """Refuse small files whose aliases of aliases mean billions of values, or have no end."""
        is_alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        if is_alias and node not in self.sizes:
            raise _problem("an alias must not contain itself", node)
        children = node.value if isinstance(node, yaml.CollectionNode) and not is_alias else []
        if isinstance(node, yaml.MappingNode):
            children = [child for pair in children for child in pair]
        self.sizes.setdefault(node, 1 + sum(self.sizes[child] for child in children))
        if self.sizes[node] > MAX_VALUES:
            raise _problem(f"it unfolds to more than {MAX_VALUES:,} values", node)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        merge = "tag:yaml.org,2002:merge"  # its keys may be overridden
        own = [key for key, _ in node.value if key.tag != merge]
        mapping = super().construct_mapping(node, deep)  # refuses keys that are no plain values
        seen = set()
        for key_node in own:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise _problem(f"key {shown(key)} is given twice", key_node)
            seen.add(key)
        return mapping

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        is_integer = node.tag.endswith(":int")
        value = self.construct_yaml_int(node) if is_integer else self.construct_yaml_float(node)
        if not abs(value) <= MAX_NUMBER:  # NaN compares as false
            raise _problem("a number must be finite and fit 64 bits", node)
        return value


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_number)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_number)


def _problem(text: str, node: yaml.Node) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, text, node.start_mark)


def read_yaml(path: str | Path) -> Any:
    """Read a YAML (or JSON) file of plain values.

    Raises:
        ValueError: it cannot be read, is larger than MAX_BYTES, or is not such YAML.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)  # also ends for a device or an endless pipe
        text = content.decode("utf-8")
    except UnicodeError as error:
        raise ValueError(f"cannot read {path}: it is not UTF-8 text") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise ValueError(f"cannot read {path}: {getattr(error, 'strerror', error)}") from error
    if len(content) > MAX_BYTES:
        raise ValueError(f"cannot read {path}: it is larger than {MAX_BYTES / 2**20:g} MiB")
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError as error:
        raise ValueError(f"{path} is not valid YAML: it is nested too deeply") from error
    except yaml.MarkedYAMLError as error:
        line = f" at line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"{path} is not valid YAML{line}: {error.problem}") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is not valid YAML: {reason}") from error
