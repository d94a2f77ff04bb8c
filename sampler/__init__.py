"""Samplers: which paths a supernet trains on. Imports model only."""

from sampler.uniform import UniformSampler

SAMPLERS = {"uniform": UniformSampler}

__all__ = ["SAMPLERS", "UniformSampler"]
