"""Samplers: what a supernet trains on, step by step. Imports model only.

`step_paths()` gives the supernet's second arguments for one weight step, whose gradients add up
before one update: paths, int [L], or weights, float [L, C]. `distills`: the first of them teaches
the others. `state_dict` and `load_state_dict` hold all its state. An `ArchitectureSampler` also has
`draw()`, what an architecture step runs. See docs/samplers.md.
"""

from sampler.architecture import ArchitectureDraw, ArchitectureSampler
from sampler.binary import BinaryGateSampler
from sampler.fair import FairSampler
from sampler.gumbel import GumbelSampler
from sampler.sandwich import SandwichSampler
from sampler.softmax import SoftmaxSampler
from sampler.threshold import ThresholdSampler
from sampler.uniform import UniformSampler

SAMPLERS = {
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
    "SandwichSampler",
    "SoftmaxSampler",
    "ThresholdSampler",
    "UniformSampler",
]
