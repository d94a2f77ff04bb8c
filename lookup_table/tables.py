"""The latency tables that the toolkit ships, by name, and the check that a table fits a space.

A table fits a space that is what it was measured of: the same stem, layers, choices, widths, blocks
and input size, whatever the space is called. The number of classes decides the classifier alone,
which every network has, so a table of another number fits, and its fixed part is used as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from model.space import SearchSpace, load_space
from model.space_file import SPACE_DIR, WIDTHS, nearest

log = logging.getLogger("oneshot_nas")
TABLE_DIR = SPACE_DIR.parent / "latency_table"
SUFFIXES = (".yaml", ".yml", ".json", ".csv")


def shipped_tables() -> list[str]:
    """Return the names that `--lookup-table` takes, sorted."""
    return sorted(path.stem for path in TABLE_DIR.glob("*.yaml"))


def find_table(name: str | Path) -> Path:
    """Return the file of a shipped table; return a path unchanged.

    Raises:
        ValueError: neither a file nor a shipped table.
    """
    path, known = Path(name), shipped_tables()
    if path.is_file():
        return path
    if path.suffix in SUFFIXES or len(path.parts) != 1:
        raise ValueError(f"--lookup-table {path} does not exist; check the path")
    if str(name) not in known:
        raise ValueError(
            f"--lookup-table {name} does not exist{nearest(str(name), known)}: give a file, or one "
            f"of {', '.join(known)} (`python -m lookup_table --list-tables` describes them)"
        )
    return TABLE_DIR / f"{name}.yaml"


def _facts(space: SearchSpace) -> Iterator[tuple[str, str, object]]:
    """Yield what costs depend on, for a comparison: a name, how it is shown, and its value."""
    widths = ",".join(map(str, space.widths))
    expands = "yes" if space.style.expand_e1 else "no"
    for name, value in (
        ("input size", space.input_size),
        ("searchable layers:", space.num_layers),
        ("channels", widths),
        ("stem stride", space.stem_stride),
        ("first block", space.first_block or "none"),
        ("activation", space.style.activation),
        ("expansion conv in blocks of expansion 1:", expands),
    ):
        yield name, str(value), value
    for i, la in enumerate(space.layers, 1):
        shape = f"{la.in_chs}→{la.out_chs} channels at {la.in_size} px, stride {la.stride}"
        yield f"layer {i}:", shape, shape
        yield f"layer {i}:", ", ".join(la.choices), set(la.choices)  # in any order


def differences(own: SearchSpace, other: SearchSpace) -> str | None:
    """Describe the first difference between a table's space and a run's; None for a fit."""
    # not strict: if the lengths differ, the numbers of layers have differed before
    for (name, mine, key), (_, theirs, other_key) in zip(_facts(own), _facts(other), strict=False):
        if key != other_key:
            return f"{name} {mine}, here {theirs}"
    return None


def table_space(spec: dict, space: SearchSpace) -> SearchSpace | None:
    """Return the space that a table names, as `space` in what it leaves out; None if unknown."""
    name = str(spec.get("search_space", space.name))
    widths = spec.get("widths")
    if isinstance(widths, str):  # of a CSV
        widths = [int(word) if word.strip().isdigit() else 0 for word in widths.split(",")]
    if widths is None and name == space.name:
        widths = space.widths
    if widths is not None and not WIDTHS[0](list(widths)):
        return None
    try:
        size = int(spec.get("input_size", space.input_size))
        return load_space(name, size, space.num_classes, widths)
    except (ValueError, TypeError):
        return None


def space_facts(space: SearchSpace) -> dict[str, object]:
    """Return the keys by which a file states what it was measured of."""
    return {
        "search_space": space.name,
        "widths": list(space.widths),
        "input_size": space.input_size,
        "num_classes": space.num_classes,
    }


def check_fit(path: Path, spec: dict, space: SearchSpace) -> dict:
    """Check that a table is of a space; return a remark where its number of classes differs.

    Raises:
        ValueError: the table is of another space; the message says what differs and what fits.
    """
    if spec.get("fingerprint") == space.fingerprint:  # whatever became of the YAML it names
        return {}
    facts = space_facts(space) | spec
    name, size, classes = (facts[key] for key in ("search_space", "input_size", "num_classes"))
    own = table_space(spec, space)
    command = f"--search-space {name} --input-size {size}"
    if own is not None and own.widths != own.default_widths:
        command += f" --widths {','.join(map(str, own.widths))}"
    if str(size) != str(space.input_size):  # a CSV's values are texts
        raise ValueError(
            f"{path} is of input_size {size}, this run of {space.input_size}; fix --input-size "
            f"(it fits {command})"
        )
    difference = None if own is None else differences(own, space)
    if difference or (own is None and str(name) != space.name):
        raise ValueError(
            f"{path} is of search_space {name}, this run of {space.name}"
            f"{': ' + difference if difference else ''}; it fits {command}"
        )
    if str(classes) == str(space.num_classes):
        return {}
    log.info(
        f"note: {path} was measured with {classes} classes, this run has {space.num_classes}: its "
        f"fixed part (stem and head) is used as it is, which moves all networks by the same amount"
    )
    return {"fixed_part": f"of {classes} classes"}
