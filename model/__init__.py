"""Search spaces, supernets and standalone networks. Imports nothing else of this repository."""

from model.architecture import architecture_facts, load_architecture
from model.space import SearchSpace, load_space
from model.subnet import Subnet, count_params, inherit_weights
from model.superkernel import SUPERNETS, SuperkernelSupernet, build_supernet
from model.supernet import Supernet, path_bns

__all__ = [
    "SUPERNETS",
    "SearchSpace",
    "Subnet",
    "SuperkernelSupernet",
    "Supernet",
    "architecture_facts",
    "build_supernet",
    "count_params",
    "inherit_weights",
    "load_architecture",
    "load_space",
    "path_bns",
]
