"""Search spaces, supernets, standalone networks and architecture files."""

from model.architecture import (
    architecture_record,
    architecture_text,
    find_architecture,
    load_architecture,
    load_subnet,
    published_architectures,
    read_architecture,
)
from model.blocks import BLOCKS, BlockStyle, conv_bn, zero_residuals
from model.describe import choice_colors, describe
from model.space import Architecture, SearchSpace, load_space
from model.space_copy import keep_space, stored_space
from model.subnet import (
    Subnet,
    add_drop_path,
    count_costs,
    count_params,
    fold_batch_norms,
    inherit_weights,
    load_preprocessing,
    load_trained,
    load_weights,
    save_weights,
)
from model.superkernel import SuperkernelSupernet, build_supernet
from model.supernet import Supernet
from model.supernet_file import extract_subnet
from utils.preprocessing import Preprocessing

__all__ = [
    "BLOCKS",
    "Architecture",
    "BlockStyle",
    "Preprocessing",
    "SearchSpace",
    "Subnet",
    "SuperkernelSupernet",
    "Supernet",
    "add_drop_path",
    "architecture_record",
    "architecture_text",
    "build_supernet",
    "choice_colors",
    "conv_bn",
    "count_costs",
    "count_params",
    "describe",
    "extract_subnet",
    "find_architecture",
    "fold_batch_norms",
    "inherit_weights",
    "keep_space",
    "load_architecture",
    "load_preprocessing",
    "load_space",
    "load_subnet",
    "load_trained",
    "load_weights",
    "published_architectures",
    "read_architecture",
    "save_weights",
    "stored_space",
    "zero_residuals",
]
