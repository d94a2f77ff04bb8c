"""The numerics over spaces, tables and paths that hypothesis draws."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from helpers import all_codes, batches, independent_counts, trained_like
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from lookup_table import Budget, BudgetCounts, LookupTable, architecture_keys
from lookup_table.builder import load_table
from model import SearchSpace, Subnet, inherit_weights, load_space
from search_strategy.evaluator import Evaluator

MULTIPATH = ["k3_e1", "k3_e3", "k5_e2", "k7_e1", "k3_e1_g2", "k5_e6", "identity", "skip"]
SUPERKERNEL = ["k3_e1", "k3_e3", "k5_e1", "k5_e3", "k7_e2", "skip"]
SPOS = ["shuffle_k3", "shuffle_k5", "xception"]


def few(examples: int) -> Callable:
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def spaces(draw: Callable) -> SearchSpace:
    """Any small space: widths, strides, stages, choices per stage and layer, activation, forms."""
    kind = draw(st.sampled_from(["multipath", "spos", "superkernel"]))
    names = {"multipath": MULTIPATH, "spos": SPOS, "superkernel": SUPERKERNEL}[kind]
    choice_lists = st.lists(st.sampled_from(names), min_size=1, max_size=4, unique=True)
    stages = []
    width = 4
    for _ in range(draw(st.integers(1, 3))):
        width = width * 2 if kind == "spos" else 2 * draw(st.integers(1, 6))
        stage = {
            "width": width,
            "layers": draw(st.integers(1, 3)),
            "stride": 2 if kind == "spos" else draw(st.integers(1, 2)),
        }
        if draw(st.booleans()):
            stage["choices"] = draw(choice_lists)
        if draw(st.booleans()):
            stage["layer_choices"] = {draw(st.integers(1, stage["layers"])): draw(choice_lists)}
        stages.append(stage)
    spec = {
        "name": "drawn",
        "supernet": "superkernel" if kind == "superkernel" else "multipath",
        "stem": {"width": 4, "stride": draw(st.integers(1, 2))},
        "first": draw(st.sampled_from([None, {"width": 4, "block": "k3_e1"}])),
        "stages": stages,
        "choices": draw(choice_lists),
        "last": draw(st.integers(1, 24)),
        "classifier": {"bias": draw(st.booleans()), "dropout": 0.0},
        "activation": draw(st.sampled_from(["relu", "relu6", "hswish", "swish"])),
        "bn": {"eps": 0.001, "affine_in_supernet": draw(st.booleans())},
        "expand_e1": kind == "multipath" and draw(st.booleans()),
        "small_images": draw(st.sampled_from(["cifar", "as_is"])),
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "drawn.yaml"
        file.write_text(yaml.safe_dump(spec))
        try:
            return load_space(file, draw(st.integers(8, 20)), draw(st.integers(1, 12)))
        except ValueError:  # a layer without choices: skip alone where the shape changes
            assume(False)
            raise


@few(25)
@given(spaces(), st.integers(0, 2**32 - 1))
def test_the_table_adds_up_to_the_built_network(space: SearchSpace, seed: int) -> None:
    """MACs by PyTorch's counter, params by counting; to the unit."""
    architecture = np.random.default_rng(seed).integers(0, space.num_choices)
    table = load_table(space)
    costs = table.cost(architecture, "flops"), table.cost(architecture, "params")
    assert costs == independent_counts(space, architecture)


@few(25)
@given(spaces(), st.integers(0, 2**32 - 1), st.booleans())
def test_a_path_equals_its_standalone_network(space: SearchSpace, seed: int, training) -> None:
    supernet = trained_like(space).train(training)
    path = np.random.default_rng(seed).integers(0, space.num_choices)
    subnet = Subnet(space, path)
    inherit_weights(subnet, supernet, path)
    subnet.train(training)
    x = torch.randn(4, 3, space.input_size, space.input_size)
    with torch.no_grad():
        assert torch.allclose(supernet(x, path), subnet(x), atol=1e-4, rtol=1e-4)


@few(15)
@given(spaces(), st.integers(0, 2**32 - 1))
def test_calibrating_again_changes_nothing(space: SearchSpace, seed: int) -> None:
    """A score does not depend on the statistics that were there, nor on a score taken before."""
    supernet = trained_like(space)
    architecture = np.random.default_rng(seed).integers(0, space.num_choices, (2, space.num_layers))
    labelled = [(x, y % space.num_classes) for x, y in batches(1, space.input_size, 1)]
    calibration = [x for x, _ in batches(1, space.input_size, 2)]
    first = Evaluator(supernet, calibration, labelled)(architecture)
    again = Evaluator(supernet, calibration, labelled)(architecture)
    for m in supernet.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.running_mean.fill_(3.0)
            m.running_var.fill_(0.1)
    other = Evaluator(supernet, calibration, labelled)(architecture[::-1])[::-1]
    assert first.tolist() == again.tolist() == other.tolist()


@st.composite
def tables(draw: Callable, most: int = 60) -> LookupTable:
    """Up to 5 layers of up to 4 choices with any costs."""
    num_choices = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    unit = draw(st.sampled_from([1, 7, 1000]))
    costs = np.zeros((len(num_choices), max(num_choices)), dtype=np.int64)
    for row, n in zip(costs, num_choices, strict=True):
        row[:n] = [unit * c for c in draw(st.lists(st.integers(0, most), min_size=n, max_size=n))]
    fixed = draw(st.integers(0, 500))
    return LookupTable(
        {"flops": costs, "params": costs},
        {"flops": fixed, "params": fixed},
        np.array(num_choices),
    )


@few(80)
@given(tables(), st.data())
def test_counts_of_a_window_equal_brute_force(table: LookupTable, data: st.DataObject) -> None:
    """Number, list and draws of what is inside; an empty window is an error with the range."""
    architectures = all_codes(table)
    cost = np.array(
        [sum(table.costs["flops"][i, c] for i, c in enumerate(a)) for a in architectures]
    )
    cost += table.fixed["flops"]
    low = data.draw(st.one_of(st.none(), st.integers(-5, int(cost.max()) + 5)))
    high = data.draw(st.one_of(st.none(), st.sampled_from(cost.tolist()), st.integers(0, 10**5)))
    inside = (cost >= (-1 if low is None else low)) & (cost <= (10**9 if high is None else high))
    counts = BudgetCounts(table, "flops")
    assert counts.median == np.sort(cost)[-(-len(cost) // 2) - 1]
    if not inside.any():
        with pytest.raises(ValueError, match="its range is"):
            Budget(counts, low, high)
        return
    budget = Budget(counts, low, high)
    assert budget.count == inside.sum()
    assert np.array_equal(budget.enumerate(), architectures[inside])
    rng = np.random.default_rng(0)
    keys = set(architecture_keys(architectures[inside]))
    assert set(architecture_keys(budget.sample(50, rng))) <= keys
    assert set(architecture_keys(budget.sample_unique(10**4, rng))) == keys
