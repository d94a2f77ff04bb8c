"""Architecture files: what a search writes and every `--arch` flag reads.

Keys: search_space, widths (if not the space's own), input_size, num_classes, choices, and what is
known of it (flops, params, top1, target_hc, info_metric). Other keys are ignored. Published
networks are such files too, in config_file/architecture/, and go by their names.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from model.space import SearchSpace, load_space
from model.space_file import SPACE_DIR, WIDTHS, nearest
from utils.yaml_file import read_yaml, shown

ARCHITECTURE_DIR = SPACE_DIR.parent / "architecture"
SUFFIXES = (".yaml", ".yml", ".json")
ALIASES = {"spos": "spos_megvii"}


def published_architectures() -> list[str]:
    """Names that `--arch` takes, sorted."""
    return sorted(path.stem for path in ARCHITECTURE_DIR.glob("*.yaml"))


def find_architecture(name: str | Path) -> Path:
    """The file of a published network's name; a path stays what it is.

    Raises:
        ValueError: neither a file nor a published network.
    """
    path = Path(str(name))  # out of a configuration it can be a number
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


def _find_space(name: str, file: Path) -> str:
    """A space's YAML is looked for from the current folder, then from the architecture's folder."""
    beside = file.parent / name
    if name.endswith((".yaml", ".yml")) and not Path(name).is_file() and beside.is_file():
        return str(beside)
    return name


def read_architecture(path: str | Path) -> dict:
    """The content of an architecture file, its required keys checked.

    Raises:
        ValueError: unreadable, a key is missing or of another type.
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
    return spec


def load_architecture(
    name: str | Path, input_size: int | None = None, num_classes: int | None = None
) -> tuple[SearchSpace, np.ndarray]:
    """The space and the architecture, int [L], of a file or a published network.

    Args:
        name: a YAML or JSON file, the name of a published network, or another form of
            `architecture_source`.
        input_size: px, in place of the file's.
        num_classes: in place of the file's.

    Raises:
        ValueError: unreadable, a key is missing, or a choice is unknown or not allowed.
    """
    from model.architecture_source import read_source  # which needs this module

    path, spec = read_source(name)
    size = input_size or spec["input_size"]
    classes = num_classes or spec["num_classes"]
    try:
        file = _find_space(spec["search_space"], path)
        space = load_space(file, size, classes, spec.get("widths"))
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


def published_text() -> str:
    """List the networks that `--arch` takes by name, by search space and MACs."""
    specs = {name: read_architecture(find_architecture(name)) for name in published_architectures()}
    order = sorted(specs, key=lambda n: (specs[n]["search_space"], specs[n]["flops"]))
    lines = [f"{'name':<22}{'space':<18}{'px':>5}{'M MACs':>10}{'M params':>10}  source"]
    for name in order:
        spec = specs[name]
        macs, params = (f"{spec[m] / 1e6:,.1f}" for m in ("flops", "params"))
        space = Path(spec["search_space"]).stem
        lines.append(
            f"{name:<22}{space:<18}{spec['input_size']:>5}{macs:>10}{params:>10}  "
            f"{spec.get('paper') or spec['source'].split()[0]}"
        )
    return "\n".join(lines)
