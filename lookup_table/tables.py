"""The latency tables that the toolkit ships, by name, and the check that a table fits a space.

A table fits a space that is what it was measured of: the same stem, layers, choices, widths, blocks
and input size, whatever the space is called. The number of classes decides the classifier alone,
which every network has, so a table of another number fits, and its fixed part is used as it is.
"""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Callable
from pathlib import Path

from lookup_table.table import LookupTable
from model.space import SearchSpace, load_space
from model.space_file import SPACE_DIR, WIDTHS, nearest
from utils.metrics import in_millions
from utils.yaml_file import read_yaml

log = logging.getLogger("oneshot_nas")
TABLE_DIR = SPACE_DIR.parent / "latency_table"
SUFFIXES = (".yaml", ".yml", ".json", ".csv")


def shipped_tables() -> list[str]:
    """Names that `--lookup-table` takes, sorted."""
    return sorted(path.stem for path in TABLE_DIR.glob("*.yaml"))


def find_table(name: str | Path) -> Path:
    """The file of a shipped table's name; a path stays what it is.

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


def differences(own: SearchSpace, other: SearchSpace) -> str | None:
    """The first thing in which a table's space is not a run's, `own (other)`; None for a fit."""
    for what, value in FACTS.items():
        if (mine := value(own)) != (theirs := value(other)):
            return f"{what} {mine}, here {theirs}"
    for i, (mine, theirs) in enumerate(zip(own.layers, other.layers, strict=True), 1):
        shapes = [
            f"{la.in_chs}→{la.out_chs} channels at {la.in_size} px, stride {la.stride}"
            for la in (mine, theirs)
        ]
        if shapes[0] != shapes[1]:
            return f"layer {i}: {shapes[0]}, here {shapes[1]}"
        if set(mine.choices) != set(theirs.choices):
            return f"layer {i}: {', '.join(mine.choices)}, here {', '.join(theirs.choices)}"
    return None


FACTS: dict[str, Callable[[SearchSpace], object]] = {
    "input size": lambda space: space.input_size,
    "searchable layers:": lambda space: space.num_layers,
    "channels": lambda space: ",".join(map(str, space.widths)),
    "stem stride": lambda space: space.stem_stride,
    "first block": lambda space: space.first_block or "none",
    "activation": lambda space: space.style.activation,
    "expansion conv in blocks of expansion 1:": lambda space: (
        "yes" if space.style.expand_e1 else "no"
    ),
}


def table_space(spec: dict, space: SearchSpace) -> SearchSpace | None:
    """The space that a table says it is of; what it leaves out is as in `space`.

    None where it names no space, or one that is not there any more.
    """
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


def check_fit(path: Path, spec: dict, space: SearchSpace) -> dict:
    """Check that a table is of a space; a remark where its number of classes differs.

    Raises:
        ValueError: the table is of another space; the message says what differs and what fits.
    """
    if spec.get("fingerprint") == space.fingerprint:  # whatever became of the YAML it names
        return {}
    own = table_space(spec, space)
    name = spec.get("search_space", space.name)
    command = f"--search-space {name} --input-size {spec.get('input_size', space.input_size)}"
    if own is not None and own.widths != own.default_widths:
        command += f" --widths {','.join(map(str, own.widths))}"
    size = spec.get("input_size", space.input_size)
    if str(size) != str(space.input_size):
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
    classes = spec.get("num_classes", space.num_classes)
    if str(classes) == str(space.num_classes):
        return {}
    log.info(
        f"note: {path} was measured with {classes} classes, this run has {space.num_classes}: its "
        f"fixed part (stem and head) is used as it is, which moves all networks by the same amount"
    )
    return {"fixed_part": f"of {classes} classes"}


def list_tables() -> str:
    """A paragraph per shipped table: device, space, unit, exactness, range, source, licence."""
    from lookup_table.user_table import read_user_table  # which asks this module whether it fits

    texts = []
    for name in shipped_tables():
        spec = read_yaml(TABLE_DIR / f"{name}.yaml")
        space = load_space(
            spec["search_space"], spec["input_size"], spec["num_classes"], spec["widths"]
        )
        table = read_user_table(name, space, LookupTable({}, {}, space.num_choices))
        low, high = map(in_millions, table.range(spec["metric"]))
        facts = {
            "device": spec["device"],
            "fits": f"--search-space {spec['search_space']} --input-size {spec['input_size']} "
            f"({spec['num_classes']} classes)",
            spec["metric"]: f"{low} to {high} {spec['unit']}",
            "exactness": spec["exactness"],
            "source": spec["source"],
            "licence": spec["licence"],
        }
        lines = [
            textwrap.fill(
                f"  {key + ':':<11}{value}",
                80,
                subsequent_indent=" " * 13,
                break_long_words=False,
                break_on_hyphens=False,
            )
            for key, value in facts.items()
        ]
        texts.append("\n".join((name, *lines)))
    return "\n".join(texts)
