"""Entry points of torch.hub: `torch.hub.load(DIR, "subnet", NAME, source="local")`."""

from __future__ import annotations

from pathlib import Path

import torch

from model import load_subnet

dependencies = ["torch", "yaml", "safetensors"]


def subnet(
    architecture: str | Path, weights: str | Path | None = None, device: str | torch.device = "cpu"
) -> torch.nn.Module:
    """Return a network in eval mode; see model.load_subnet.

    Args:
        architecture: a published network's name, or the best_architecture.yaml of a run.
        weights: the .safetensors file of its training; None: random weights.
    """
    return load_subnet(architecture, weights, device)
