"""What a command takes over from an earlier run: which script it was of, its flags, its files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from config_file.arg_config.fields import FROM_CHECKPOINT, Values, marked
from config_file.arg_config.run_config import Command

RUN_CONFIG = "config.yaml"  # in a run folder


def command_of(flags: Iterable[str]) -> str:
    """Return the script that has these flags: those of a parser, or of a run's config.yaml."""
    names = {str(name).replace("-", "_") for name in flags}
    if "search_strategy" in names:
        return "search.py"
    if "arch" in names:
        return "train_subnet.py"
    return "evaluate_ranking.py" if "benchmark" in names else "train_supernet.py"


def from_checkpoint(kind: type[Command], chosen: Values) -> Values:
    """Return space and data of the training that the chosen --checkpoint comes from.

    Raises:
        ValueError: it is not usable.
    """
    if chosen.get("checkpoint") is None:
        return {}
    from utils.checkpoint import load_checkpoint  # lazily, as it loads torch: --help is quick

    stored = load_checkpoint(str(chosen["checkpoint"]))["config"]
    other_space = chosen.get("search_space") not in (None, stored.get("search_space"))
    stored |= own_files(stored, Path(chosen["checkpoint"]).parent)  # its folder may have moved
    return inheritable(kind, stored | ({"widths": None} if other_space else {}))


def inheritable(kind: type[Command], stored: Values) -> Values:
    """Return the values of another run that a command takes as its defaults."""
    names = marked(kind, FROM_CHECKPOINT)
    return {name: stored[name] for name in names if stored.get(name) is not None}


def own_files(values: Values, folder: Path) -> Values:
    """Return replacements of files that a run's flags name by the copies in the run's folder.

    A folder may have been moved; the search space may have been edited or deleted since.
    """
    own: Values = {}
    if (folder / "search_space.yaml").is_file() and "search_space" in values:
        from model import stored_space  # lazily, as it loads torch
        from utils.run_folder import log

        name = str(values["search_space"])
        if (used := stored_space(folder, name, values.get("widths"))) != name:
            log.info(f"note: search space {name} has changed since, or is gone; {used} is used")
            own["search_space"] = used
    table = str(values.get("lookup_table") or "")
    if table and not Path(table).exists() and (folder / Path(table).name).is_file():
        own["lookup_table"] = str(folder / Path(table).name)
    return own
