"""Architecture files: what a search writes and every `--arch` flag reads.

Keys: search_space, widths (if not the space's own), input_size, num_classes, choices, and what is
known of it (flops, params, top1, target_hc, info_metric). Other keys are ignored.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from model.space import SearchSpace, load_space
from model.space_file import WIDTHS
from model.yaml_file import read_yaml, shown


def load_architecture(path: str | Path) -> tuple[SearchSpace, np.ndarray]:
    """The space and the architecture, int [L], of a YAML or JSON file.

    Raises:
        ValueError: unreadable, a key is missing, or a choice is unknown or not allowed.
    """
    spec = read_yaml(Path(path))
    if not isinstance(spec, dict):
        raise ValueError(f"{path}: an architecture file must be a mapping of keys to values")
    kinds = {"search_space": str, "input_size": int, "num_classes": int, "choices": list}
    for key, kind in kinds.items():
        if key not in spec:
            raise ValueError(f"{path}: key '{key}' is missing")
        if not isinstance(spec[key], kind) or isinstance(spec[key], bool):
            raise ValueError(f"{path}: '{key}' must be of type {kind.__name__}")
    widths = spec.get("widths")
    if widths is not None and not WIDTHS[0](widths):
        raise ValueError(f"{path}: 'widths' must be {WIDTHS[1]}, not {shown(widths)}")
    try:
        space = load_space(spec["search_space"], spec["input_size"], spec["num_classes"], widths)
        return space, space.encode(spec["choices"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def architecture_facts(space: SearchSpace, architecture: np.ndarray) -> dict:
    """The keys of an architecture file that identify the network, ready for YAML."""
    facts: dict = {"search_space": space.name}
    if space.widths != space.default_widths:
        facts["widths"] = list(space.widths)
    facts["input_size"] = space.input_size
    facts["num_classes"] = space.num_classes
    facts["choices"] = space.decode(architecture)
    return facts
