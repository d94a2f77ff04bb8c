"""Samplers: draw the paths of each training step of a supernet; see docs/samplers.md.

An `ArchitectureSampler` also has architecture parameters and draws for their steps.
"""

from sampler.architecture import ArchitectureDraw, ArchitectureSampler
from sampler.base import Sampler
from sampler.binary import BinaryGateSampler
from sampler.fair import FairSampler
from sampler.gumbel import GumbelSampler
from sampler.sandwich import SandwichSampler
from sampler.softmax import SoftmaxSampler
from sampler.threshold import ThresholdSampler
from sampler.uniform import UniformSampler

SAMPLERS: dict[str, type[Sampler]] = {
    "uniform": UniformSampler,
    "fair": FairSampler,
    "softmax": SoftmaxSampler,
    "gumbel": GumbelSampler,
    "binary": BinaryGateSampler,
    "threshold": ThresholdSampler,
}

__all__ = [
    "SAMPLERS",
    "ArchitectureDraw",
    "ArchitectureSampler",
    "BinaryGateSampler",
    "FairSampler",
    "GumbelSampler",
    "Sampler",
    "SandwichSampler",
    "SoftmaxSampler",
    "ThresholdSampler",
    "UniformSampler",
]
