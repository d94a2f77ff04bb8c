"""Search spaces, supernets, standalone networks and architecture files."""

from model.architecture import (
    architecture_facts,
    find_architecture,
    load_architecture,
    published_architectures,
    read_architecture,
)
from model.blocks import zero_residuals
from model.describe import choice_colors, describe
from model.space import Architecture, SearchSpace, load_space
from model.subnet import (
    Preprocessing,
    Subnet,
    add_drop_path,
    count_params,
    fold_batch_norms,
    inherit_weights,
    load_preprocessing,
    load_subnet,
    load_weights,
    read_weights,
    save_weights,
    set_dropout,
)
from model.superkernel import SUPERNETS, SuperkernelSupernet, build_supernet
from model.supernet import SUPERNET_INITS, Supernet, align_choices, path_bns

__all__ = [
    "SUPERNETS",
    "SUPERNET_INITS",
    "Architecture",
    "Preprocessing",
    "SearchSpace",
    "Subnet",
    "SuperkernelSupernet",
    "Supernet",
    "add_drop_path",
    "align_choices",
    "architecture_facts",
    "build_supernet",
    "choice_colors",
    "count_params",
    "describe",
    "find_architecture",
    "fold_batch_norms",
    "inherit_weights",
    "load_architecture",
    "load_preprocessing",
    "load_space",
    "load_subnet",
    "load_weights",
    "path_bns",
    "published_architectures",
    "read_architecture",
    "read_weights",
    "save_weights",
    "set_dropout",
    "zero_residuals",
]
