"""Architecture files: what a search writes and every `--arch` flag reads.

Keys: search_space, widths (if not the space's own), input_size, num_classes, choices, and what is
known of the network (flops, params, top1, target_hc, info_metric). Other keys are ignored.
`search_space` is the name of a shipped space, or the whole resolved content of another one, so that
a file loads anywhere and whatever became of the YAML it was made from. Files may also name a YAML,
beside them or in the current folder. Published networks are such files too, in
config_file/architecture/, and go by their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import yaml

from model.architecture_source import (
    find_architecture,
    published_architectures,
    read_architecture,
    read_source,
)
from model.space import Architecture, SearchSpace, load_space
from model.space_file import SPACE_SUFFIXES, load_space_file, shipped_spaces
from model.subnet import Subnet, count_costs, load_preprocessing, load_weights, read_weights


def _space_content(space: str | dict, file: Path) -> str | dict:
    """Return a shipped space's name, or the content of another space.

    A YAML is looked for in the folder of the architecture file, then in the current folder.

    Raises:
        ValueError: the YAML is gone or not usable.
    """
    if isinstance(space, dict) or not space.endswith(SPACE_SUFFIXES):
        return space
    found = [path for path in (file.parent / space, Path(space)) if path.is_file()]
    if not found:
        raise ValueError(
            f"search space {space} is neither in {file.parent} nor in the current folder; copy the "
            f"YAML to one of them"
        )
    return {**load_space_file(found[0]), "name": space}  # as `load_space` names a YAML: by its path


def _check_costs(path: Path, spec: dict, space: SearchSpace, architecture: np.ndarray) -> None:
    """Raise ValueError if the stored MACs or params are not those of the network."""
    costs = count_costs(space, architecture)
    for metric, cost in costs.items():
        if metric in spec and spec[metric] != cost:  # integers: no tolerance
            raise ValueError(
                f"{path} records {metric} {spec[metric]}, but with {space.name} as it is now the "
                f"network has {cost}; restore the search space that it was found in, or remove "
                f"{' and '.join(costs)} from the file to take the network as it is now"
            )


def load_architecture(
    name: str | Path, input_size: int | None = None, num_classes: int | None = None
) -> tuple[SearchSpace, np.ndarray]:
    """Load the space and the architecture, int [L], of a file or a published network.

    Args:
        name: a YAML or JSON file, the name of a published network, or another form of
            `architecture_source`.
        input_size: px, in place of the file's.
        num_classes: in place of the file's.

    Raises:
        ValueError: unreadable, a key is missing, a choice is unknown or not allowed, or the stored
            costs are not those of the network.
    """
    path, spec = read_source(name)
    widths = spec.get("widths")
    try:
        content = _space_content(spec["search_space"], path)
        space = load_space(content, spec["input_size"], spec["num_classes"], widths)
        architecture = space.encode(spec["choices"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    _check_costs(path, spec, space, architecture)  # at the file's own size and classes
    if input_size or num_classes:
        size, classes = input_size or space.input_size, num_classes or space.num_classes
        space = load_space(content, size, classes, widths)
    return space, architecture


def architecture_record(space: SearchSpace, architecture: Architecture) -> dict:
    """Return the keys of an architecture file that identify the network."""
    record: dict = {"search_space": space.name}
    if space.name not in shipped_spaces():
        record["search_space"] = dict(space.content)
    if space.widths != space.default_widths:
        record["widths"] = list(space.widths)
    record["input_size"] = space.input_size
    record["num_classes"] = space.num_classes
    record["choices"] = space.decode(architecture)
    return record


def architecture_text(record: Mapping[str, object]) -> str:
    """Return the YAML of an architecture file; the content of a space comes last."""
    space = record["search_space"]
    if isinstance(space, str):
        return yaml.safe_dump(dict(record), sort_keys=False)
    head = {key: value for key, value in record.items() if key != "search_space"}
    # default_flow_style None: lists of plain values on one line each
    return yaml.safe_dump(head, sort_keys=False) + yaml.safe_dump(
        {"search_space": space}, sort_keys=False, default_flow_style=None, width=100
    )


def load_subnet(
    architecture: str | Path, weights: str | Path | None = None, device: str | torch.device = "cpu"
) -> Subnet:
    """Load the standalone network of an architecture file, in eval mode.

    Args:
        architecture: a YAML or JSON file, or the name of a published network.
        weights: a .safetensors file; its classifier decides the number of classes. None: random.
        device: where the network is put.

    Returns:
        Images [B, 3, H, W] as its `preprocessing` makes them -> logits [B, classes]; its
        `classify` takes an image file.

    Raises:
        ValueError: a file is not usable, or the weights are of another network.
    """
    tensors = None if weights is None else read_weights(weights)
    preprocessing = None if weights is None else load_preprocessing(weights)
    size = None if preprocessing is None else preprocessing.input_size
    classifier = None if tensors is None else tensors.get("head.classifier.weight")  # [K, C]
    num_classes = None if classifier is None else classifier.shape[0]
    space, choices = load_architecture(architecture, size, num_classes)
    subnet = Subnet(space, choices)
    subnet.preprocessing = preprocessing
    if tensors is not None:
        load_weights(subnet, tensors, weights)
    return subnet.eval().to(device)


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
