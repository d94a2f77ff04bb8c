"""The copy of the search space in a run folder, which makes the folder complete and movable."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from model.space import SearchSpace, load_space
from model.space_file import load_space_file
from utils.files import write_text

SPACE_FILE = "search_space.yaml"


def keep_space(folder: Path, space: SearchSpace) -> None:
    """Write the space of a new run to its folder, with `extends` and widths resolved."""
    if (folder / "config.yaml").exists():  # resumed: the copy is there, or the run is an old one
        return
    content = yaml.safe_dump(dict(space.content), sort_keys=False, default_flow_style=None)
    size = f"# {space.input_size} px, {space.num_classes} classes\n"
    write_text(folder / SPACE_FILE, size + content)


def stored_space(folder: Path, name: str, widths: Sequence[int] | None) -> str:
    """Return the space that the run in a folder was made with: its name, or the run's own copy.

    The copy is returned if the file of that name has changed since or is gone.

    Args:
        name: the search space in the run's configuration.
        widths: the widths there.
    """
    copy = folder / SPACE_FILE
    if not copy.is_file():  # a run of an older version
        return name
    stored = load_space_file(copy)
    if stored["name"] != name:  # not a run's copy, but a user's file
        return name
    try:
        now = load_space(name, widths=widths).content
    except ValueError:  # gone, or no longer usable
        return str(copy)
    same = {**now, "paper": None} == {**stored, "paper": None}  # a link changes no network
    return name if same else str(copy)
