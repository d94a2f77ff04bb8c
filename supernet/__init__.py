"""What the scripts share about supernets: their inputs, their samplers, their training."""

from supernet.inputs import (
    build_costs,
    fit_to_data,
    load_data,
    load_inputs,
    load_supernet,
    new_supernet,
    resolve_budget,
    save_costs,
    save_splits,
    set_threads,
    supernet_facts,
)
from supernet.training import train

__all__ = [
    "build_costs",
    "fit_to_data",
    "load_data",
    "load_inputs",
    "load_supernet",
    "new_supernet",
    "resolve_budget",
    "save_costs",
    "save_splits",
    "set_threads",
    "supernet_facts",
    "train",
]
