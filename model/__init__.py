"""Search spaces, supernets and standalone networks. Imports nothing else of this repository."""

from model.architecture import (
    architecture_facts,
    find_architecture,
    load_architecture,
    published_architectures,
    read_architecture,
)
from model.describe import choice_colors, describe
from model.load import load_preprocessing, load_subnet, load_weights, read_weights, save_weights
from model.space import SearchSpace, load_space
from model.subnet import (
    Subnet,
    add_drop_path,
    count_params,
    fold_batch_norms,
    inherit_weights,
    set_dropout,
    zero_residuals,
)
from model.superkernel import SUPERNETS, SuperkernelSupernet, build_supernet
from model.supernet import Supernet, path_bns

__all__ = [
    "SUPERNETS",
    "SearchSpace",
    "Subnet",
    "SuperkernelSupernet",
    "Supernet",
    "add_drop_path",
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
