"""Costs that a user brings: `--lookup-table FILE|NAME`, measured anywhere, of any metric.

docs/lookup_tables.md shows the YAML (or JSON) and the CSV form; further keys are kept as they are.
A cost is rounded up to a millionth of its unit, so that what fits a budget here fits it there.
"""

from __future__ import annotations

import csv
import math
import re
import textwrap
from fractions import Fraction
from pathlib import Path

import numpy as np
import yaml

from lookup_table.table import LookupTable
from lookup_table.tables import check_fit, find_table, shipped_tables, space_facts
from model.space import SearchSpace, load_space
from utils.files import write_text
from utils.metrics import in_millions, metric_of
from utils.yaml_file import read_yaml

TABLE_FILE = "lookup_table.yaml"  # of a run, in its folder
MILLIONTHS = 10**6
MAX_COST = 1e9  # of one block, in its unit: sums of millionths stay far inside int64
METRIC_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")


def read_user_table(path: str | Path, space: SearchSpace, table: LookupTable) -> LookupTable:
    """Return `table` with the metric of a file, or of a shipped table's name.

    Raises:
        ValueError: the file is unreadable, of another space, or a cost is missing, negative or
            no number; the message names the layer and the choice.
    """
    path = find_table(path)
    try:
        spec = _read_csv(path) if path.suffix == ".csv" else read_yaml(path)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file ({error.reason})") from error
    if not isinstance(spec, dict):
        raise ValueError(f"{path}: a lookup table must be a mapping of keys to values")
    for key in ("metric", "fixed", "layers"):
        if key not in spec:
            raise ValueError(f"{path}: key '{key}' is missing")
    metric = spec["metric"]
    if not isinstance(metric, str) or not METRIC_NAME.fullmatch(metric):
        raise ValueError(f"{path}: metric {metric!r} is not a name such as latency or energy")
    note = check_fit(path, spec, space)
    costs, fixed = _costs(path, spec, space)
    unit = metric_of(metric, spec.get("unit") or None).full_unit
    source = {k: v for k, v in spec.items() if k not in ("metric", "unit", "fixed", "layers")}
    return table.with_metric(metric, costs, fixed, unit, {"file": str(path), **source, **note})


def _costs(path: Path, spec: dict, space: SearchSpace) -> tuple[np.ndarray, int]:
    layers = spec["layers"]
    n = len(layers) if isinstance(layers, list) else "no list of"
    if n != space.num_layers:
        raise ValueError(
            f"{path} has {n} layers, but {space.name} has {space.num_layers} searchable ones"
        )
    costs = np.zeros((space.num_layers, space.max_choices), dtype=np.int64)
    for i, (given, layer) in enumerate(zip(layers, space.layers, strict=True)):
        where = f"{path}: layer {i + 1} of {space.num_layers}"
        if not isinstance(given, dict):
            raise ValueError(f"{where} must be a mapping of choices to costs")
        if unknown := [str(c) for c in given if c not in layer.choices]:
            raise ValueError(
                f"{where}: choice '{unknown[0]}' is not in {space.name} there "
                f"(allowed: {', '.join(layer.choices)})"
            )
        for c, name in enumerate(layer.choices):
            if name not in given:
                raise ValueError(f"{where}: the cost of choice '{name}' is missing")
            costs[i, c] = millionths(given[name], f"{where}: choice '{name}'")
    return costs, millionths(spec["fixed"], f"{path}: fixed")


def millionths(value: object, where: str) -> int:
    """Convert a cost in its unit to whole millionths, rounded up."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{where}: cost {value!r} is not a number")
    if not math.isfinite(value) or not 0 <= value <= MAX_COST:
        raise ValueError(f"{where}: cost {value} must be a finite number from 0 to {MAX_COST:g}")
    return math.ceil(Fraction(str(value)) * MILLIONTHS)  # of the digits: float 0.1 is above 0.1


def _read_csv(path: Path) -> dict:
    """Read a CSV as the mapping that the YAML form has."""
    lines = path.read_text(encoding="utf-8-sig").splitlines()  # spreadsheets add a byte order mark
    notes = (line[1:].partition(":") for line in lines if line.startswith("#"))
    spec: dict[str, object] = {key.strip(): value.strip() for key, colon, value in notes if colon}
    rows = list(csv.reader(line for line in lines if line.strip() and not line.startswith("#")))
    if not rows or len(rows[0]) != 3 or [c.strip() for c in rows[0][:2]] != ["layer", "choice"]:
        raise ValueError(f"{path}: the first row must be layer,choice,METRIC (as in latency)")
    spec["metric"] = rows[0][2].strip()
    layers: dict[int, dict[str, float]] = {}
    for number, row in enumerate(rows[1:], 2):
        if len(row) != 3:
            raise ValueError(f"{path}: row {number} has {len(row)} fields, not 3")
        layer, choice, text = (word.strip() for word in row)
        try:
            cost = float(text)
        except ValueError:
            raise ValueError(f"{path}: row {number}: cost {text!r} is not a number") from None
        if layer == "fixed":
            spec["fixed"] = cost
        elif layer.isdecimal() and 1 <= int(layer) <= 10_000:  # bounds the list below
            known = layers.setdefault(int(layer), {})
            if choice in known:
                raise ValueError(f"{path}: row {number}: layer {layer}, '{choice}' is there twice")
            known[choice] = cost
        else:
            raise ValueError(f"{path}: row {number}: layer {layer!r} is no number, nor fixed")
    spec["layers"] = [layers.get(i + 1, {}) for i in range(max(layers, default=0))]
    return spec


def user_table_text(space: SearchSpace, table: LookupTable, metric: str) -> str:
    """Write one metric of a table as the YAML that `read_user_table` reads."""
    spec = {"metric": metric, "unit": table.unit(metric), **space_facts(space)}
    spec["fingerprint"] = space.fingerprint
    spec |= {k: v for k, v in table.sources.get(metric, {}).items() if k not in spec}
    spec["fixed"] = table.fixed[metric] / MILLIONTHS
    spec["layers"] = [
        {name: cost / MILLIONTHS for name, cost in zip(layer.choices, row.tolist(), strict=False)}
        for layer, row in zip(space.layers, table.costs[metric], strict=True)
    ]
    return yaml.safe_dump(spec, sort_keys=False, allow_unicode=True, width=1000)


def keep_costs(folder: Path, space: SearchSpace, table: LookupTable) -> Path | None:
    """Write costs that cannot be counted again to a run folder, a file per metric.

    Returns:
        The file of the first such metric; `kept_beside` finds the others. None if there is none.
    """
    first = folder / TABLE_FILE
    for i, metric in enumerate(table.sources):
        path = first if i == 0 else folder / f"{first.stem}_{metric}{first.suffix}"
        write_text(path, user_table_text(space, table, metric))
    return first if table.sources else None


def kept_beside(path: Path) -> list[Path]:
    """List the files of further metrics that `keep_costs` wrote beside a run's own table."""
    pattern = f"{path.stem}_*{path.suffix}"
    return sorted(path.parent.glob(pattern)) if path.name == TABLE_FILE else []


def list_tables() -> str:
    """Describe each shipped table: device, space, range, unit, exactness, source, licence."""
    wrapper = textwrap.TextWrapper(
        80, subsequent_indent=" " * 13, break_long_words=False, break_on_hyphens=False
    )
    texts = []
    for name in shipped_tables():
        spec = read_yaml(find_table(name))
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
        texts.append(name)
        texts += [wrapper.fill(f"  {key + ':':<11}{value}") for key, value in facts.items()]
    return "\n".join(texts)
