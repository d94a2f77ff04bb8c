"""The forms of `--arch`: a file, a published name, a run, one of its candidates, or the choices.

runs/T/best_architecture.yaml      a file
fbnet_c                            a published network
runs/T                             what a search or a training has left in its folder
runs/T:17                          the candidate with index 17 of its history.csv
runs/T#3                           its third best candidate, as the report ranks them
"k3_e3 k5_e6 skip ..."             choices as in history.csv, of the shipped space they fit
"fbnet: k3_e1 k3_e6 ..."           the same with the space named
"""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path

from model.space import load_space
from model.space_file import SPACE_DIR, WIDTHS, nearest, shipped_spaces
from utils.yaml_file import read_yaml, shown

ARCHITECTURE_DIR = SPACE_DIR.parent / "architecture"
SUFFIXES = (".yaml", ".yml", ".json")
ALIASES = {"spos": "spos_megvii"}  # the network that SPOS's authors published
REQUIRED: dict[str, tuple[type, ...]] = {
    "search_space": (str, dict),
    "input_size": (int,),
    "num_classes": (int,),
    "choices": (list,),
}
FOUND, HISTORY = "best_architecture.yaml", "history.csv"  # of a run folder
CANDIDATE = re.compile(r"(?P<folder>.+)(?P<kind>[:#])(?P<number>\d+)")
TEXT = re.compile(r"((?P<space>[\w./-]+):)?(?P<choices>(\s*[a-z]\w*){2,})\s*")


def published_architectures() -> list[str]:
    """Return the names that `--arch` takes, sorted."""
    return sorted(path.stem for path in ARCHITECTURE_DIR.glob("*.yaml"))


def find_architecture(name: str | Path) -> Path:
    """Return the file of a published network; return a path unchanged.

    Raises:
        ValueError: neither a file nor a published network.
    """
    path = Path(str(name))  # a name in a configuration file can be a number
    if path.suffix in SUFFIXES or path.is_file():
        return path
    known = published_architectures()
    text = ALIASES.get(str(name), str(name))
    if text not in known:
        raise ValueError(
            f"architecture '{name}' is neither a file nor a published network"
            f"{nearest(str(name), known)}; `python train_subnet.py --list-architectures` lists them"
        )
    return ARCHITECTURE_DIR / f"{text}.yaml"


def read_architecture(path: str | Path) -> dict:
    """Read an architecture file and check its required keys.

    Raises:
        ValueError: unreadable, or a key is missing or of another type.
    """
    spec = read_yaml(Path(path))
    if not isinstance(spec, dict):
        raise ValueError(f"{path}: an architecture file must be a mapping of keys to values")
    for key, kinds in REQUIRED.items():
        if key not in spec:
            raise ValueError(f"{path}: key '{key}' is missing")
        if not isinstance(spec[key], kinds) or isinstance(spec[key], bool):  # bool is a kind of int
            names = " or ".join(kind.__name__ for kind in kinds)
            raise ValueError(f"{path}: '{key}' must be of type {names}")
    widths = spec.get("widths")
    if widths is not None and not WIDTHS[0](widths):
        raise ValueError(f"{path}: 'widths' must be {WIDTHS[1]}, not {shown(widths)}")
    return spec


def read_source(name: str | Path) -> tuple[Path, dict]:
    """Return the file that an architecture is stored in or came from, and its content.

    Raises:
        ValueError: nothing of that form is there.
    """
    text, path = str(name), Path(str(name))
    if os.path.isfile(path / FOUND):  # False for what is too long for a name
        return path / FOUND, read_architecture(path / FOUND)
    match = CANDIDATE.fullmatch(text)
    if match and Path(match["folder"]).is_dir() and not path.exists():  # a file of that name wins
        folder = Path(match["folder"])
        return folder / FOUND, _candidate(folder, match["kind"], int(match["number"]))
    words = TEXT.fullmatch(text)
    if words and " " in text.strip() and not os.path.exists(path):  # TEXT splits a single word too
        return ARCHITECTURE_DIR / "choices", _from_text(words["space"], words["choices"].split())
    path = find_architecture(name)
    return path, read_architecture(path)


def _history(path: Path) -> dict[int, dict]:
    """Return the rows of a history.csv by index, with the costs and top-1 as numbers."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {
                int(row["index"]): row
                | {"flops": int(row["flops"]), "params": int(row["params"])}
                | {"top1": float(row["top1"]), "choices": row["architecture"].split()}
                for row in csv.DictReader(file)
            }
    except (KeyError, ValueError, TypeError, AttributeError, csv.Error) as error:
        raise ValueError(f"{path} is damaged; repeat the search") from error


def _candidate(folder: Path, kind: str, number: int) -> dict:
    """Return a candidate of a search as the content of an architecture file."""
    if not (folder / FOUND).is_file() or not (folder / HISTORY).is_file():
        raise ValueError(f"{folder} holds no finished search: {FOUND} or {HISTORY} is missing")
    found = read_architecture(folder / FOUND)
    rows = _history(folder / HISTORY)
    if kind == "#":
        first = next(iter(rows.values()), {})
        score = next((key for key in ("smoothed", "score") if key in first), "top1")  # ranked by
        cost = str(found.get("info_metric", "flops"))
        # as `History` ranks: of equal scores the cheaper network first
        order = sorted(rows, key=lambda i: (-float(rows[i][score]), float(rows[i].get(cost) or 0)))
        rows = {rank: rows[index] for rank, index in enumerate(order, 1)}
    if number not in rows:
        raise ValueError(
            f"{folder}{kind}{number}: {HISTORY} has {'ranks' if kind == '#' else 'indices'} "
            f"{min(rows, default=0)} to {max(rows, default=0)}"
        )
    row = rows[number]
    kept = ("search_space", "widths", "input_size", "num_classes", "dataset")
    spec = {key: found[key] for key in kept if key in found}
    costs = {key: row[key] for key in ("flops", "params")}  # `load_architecture` checks them
    return spec | {"choices": row["choices"]} | costs


def _from_text(space: str | None, choices: list[str]) -> dict:
    """Return choices as the content of an architecture file, of the only space that has them."""
    fitting = []
    for name in [space] if space else shipped_spaces():
        try:
            load_space(name).encode(choices)
            fitting.append(name)
        except ValueError as error:
            if space:
                raise ValueError(f"--arch {space}: {error}") from error
    if len(fitting) != 1:
        which = f"those of {' and '.join(fitting)}" if fitting else "those of no shipped space"
        raise ValueError(
            f"--arch: the {len(choices)} choices are {which}; name the space, as in "
            f"'{(fitting or ['my_space.yaml'])[0]}: {' '.join(choices[:2])} ...'"
        )
    # ImageNet's, where `load_architecture` gets no others
    return {"search_space": fitting[0], "input_size": 224, "num_classes": 1000, "choices": choices}
