"""Peak memory and weights, against the built networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import ROOT
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from lookup_table import Equivalence, Limit, LookupTable, build_budget
from lookup_table.builder import load_table
from lookup_table.memory import add_memory
from model import SearchSpace, Subnet, load_space
from model.space_file import shipped_spaces
from model.subnet import fold_batch_norms

LAYERS = (nn.Conv2d, nn.Linear)
IN_PLACE = (nn.BatchNorm2d, nn.ReLU, nn.ReLU6, nn.Dropout, nn.Identity)


def live_elements(subnet: nn.Module, size: int) -> int:
    """The most elements live at any convolution or linear layer, by liveness in the whole graph.

    A tensor is live from the step that computes it to the last that reads it. Steps that a device
    does in place (BN, activations, additions) give their input's tensor another name.
    """
    traced = fx.symbolic_trace(subnet.eval())
    ShapeProp(traced).propagate(torch.zeros(1, 3, size, size))
    nodes = [n for n in traced.graph.nodes if "tensor_meta" in n.meta]
    modules = dict(traced.named_modules())
    position = {node: i for i, node in enumerate(traced.graph.nodes)}
    owner: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        into = [n for n in node.all_input_nodes if "tensor_meta" in n.meta]
        is_module = node.op == "call_module"
        in_place = is_module and isinstance(modules[node.target], IN_PLACE)
        in_place |= "add" in str(node.target) or node.target in ("view", "transpose")
        owner[node] = owner[into[-1]] if in_place else node
    until: dict[fx.Node, int] = {}
    for node in nodes:
        last = max((position[user] for user in node.users), default=position[node])
        until[owner[node]] = max(until.get(owner[node], 0), last)
    most = 0
    for step in nodes:
        if step.op == "call_module" and isinstance(modules[step.target], LAYERS):
            now = position[step]
            live = [n for n in until if position[n] <= now <= until[n]]
            most = max(most, sum(n.meta["tensor_meta"].shape.numel() for n in live))
    return most


@pytest.mark.parametrize("name", shipped_spaces())
@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_the_built_network_needs_what_the_table_says(
    name: str, dtype: str, rng: np.random.Generator
) -> None:
    space = load_space(name, 32, 10)
    table = add_memory(space, load_table(space), dtype)
    width = {"int8": 1, "float32": 4}[dtype]
    some = rng.integers(0, space.num_choices, size=(6, space.num_layers))
    for architecture in some:
        subnet = Subnet(space, architecture)
        assert table.cost(architecture, "peak_memory") == width * live_elements(subnet, 32)
        folded = list(fold_batch_norms(subnet).named_parameters())
        weights = sum(p.numel() for name, p in folded if name.endswith("weight"))
        biases = sum(p.numel() for name, p in folded if name.endswith("bias"))
        assert table.cost(architecture, "weights") == width * weights + 4 * biases
    assert (table.unit("peak_memory"), table.unit("weights")) == ("MB peak memory", "MB weights")
    assert table.facts(some[0])["weights"] == table.cost(some[0], "weights") / 1e6


def test_residuals_and_groups() -> None:
    """Expansion 1 with and without expansion conv, in groups: what is kept beside the input."""
    for expand in ("fbnet", str(ROOT / "config_file/architecture/space/fbnet_expand_e1.yaml")):
        space = load_space(expand, 32, 10)
        table = add_memory(space, load_table(space), "int8")
        for choice in range(3):
            code = np.full(space.num_layers, choice)
            assert table.cost(code, "peak_memory") == live_elements(Subnet(space, code), 32)


def test_a_limit_on_memory_is_kept(tiny: SearchSpace, tiny_table: LookupTable) -> None:
    table = add_memory(tiny, tiny_table)
    low, high = table.range("peak_memory")
    flops = Limit("flops", None, table.range("flops")[1])
    budget = build_budget(table, [flops, Limit("peak_memory", None, high - 1)], Equivalence(tiny))
    kept = table.cost(budget.enumerate(), "peak_memory")
    assert low <= kept.max() < high
    assert budget.count < Equivalence(tiny).size
