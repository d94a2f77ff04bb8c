"""Tables that users bring, and latency measured here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from helpers import all_codes

from lookup_table import (
    Budget,
    BudgetCounts,
    Equivalence,
    LookupTable,
    architecture_keys,
    latency,
)
from lookup_table.builder import load_costs
from lookup_table.latency import (
    LatencySettings,
    corrected,
    latency_rows,
    measure_latency,
    source,
    validate,
    validation_text,
)
from lookup_table.user_table import keep_costs, read_user_table, user_table_text
from model import SearchSpace

CPU = torch.device("cpu")
QUICK = LatencySettings(device=CPU, seconds=1e-4)


def spec_of(space: SearchSpace, seed: int = 0) -> dict:
    costs = np.random.default_rng(seed).random((space.num_layers, space.max_choices))
    return {
        "metric": "latency",
        "device": "phone",
        "fixed": 0.25,
        "layers": [
            {name: float(costs[i, c]) for c, name in enumerate(layer.choices)}
            for i, layer in enumerate(space.layers)
        ],
    }


def write(path: Path, spec: dict) -> Path:
    path.write_text(yaml.safe_dump(spec))
    return path


def test_yaml_and_csv_give_the_same_costs(
    tiny: SearchSpace, tiny_table: LookupTable, tmp_path: Path
) -> None:
    spec = spec_of(tiny)
    table = read_user_table(write(tmp_path / "t.yaml", spec), tiny, tiny_table)
    rows = ["# device: phone", "layer,choice,latency", "fixed,,0.25"]
    rows += [f"{i + 1},{n},{v}" for i, layer in enumerate(spec["layers"]) for n, v in layer.items()]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    same = read_user_table(tmp_path / "t.csv", tiny, tiny_table)
    assert np.array_equal(table.costs["latency"], same.costs["latency"])
    assert table.unit("latency") == "ms" and same.sources["latency"]["device"] == "phone"
    architecture = np.array([0, 1, 2, 3])
    names = tiny.decode(architecture)
    total = 0.25 + sum(layer[n] for layer, n in zip(spec["layers"], names, strict=True))
    assert table.cost(architecture, "latency") == pytest.approx(total * 1e6, abs=5)
    text = user_table_text(tiny, table, "latency")
    (tmp_path / "again.yaml").write_text(text)
    again = read_user_table(tmp_path / "again.yaml", tiny, tiny_table)
    assert np.array_equal(again.costs["latency"], table.costs["latency"])
    assert again.fixed == table.fixed


def test_a_budget_on_floats_is_kept_exactly(
    tiny: SearchSpace, tiny_table: LookupTable, tmp_path: Path, rng: np.random.Generator
) -> None:
    """The sum of the file's own numbers never exceeds the target, at any feasible target."""
    spec = spec_of(tiny, 1)
    table = read_user_table(write(tmp_path / "t.yaml", spec), tiny, tiny_table)
    counts = BudgetCounts(table, "latency", Equivalence(tiny))
    everyone = Budget(counts, None, None).enumerate()
    sums = np.array(
        [
            0.25 + sum(la[n] for la, n in zip(spec["layers"], tiny.decode(a), strict=True))
            for a in everyone
        ]
    )
    for target in (sums.min() + 1e-5, np.median(sums), sums.max()):
        budget = Budget(counts, None, round(target * 1e6))
        drawn = set(architecture_keys(budget.sample(2000, rng)))
        allowed = set(architecture_keys(everyone[sums <= target]))
        near = set(architecture_keys(everyone[(sums > target - 1e-5) & (sums <= target)]))
        assert drawn <= allowed and len(allowed - near) <= len(budget.enumerate())


def test_wide_costs_are_counted_in_cells_and_still_exact(rng: np.random.Generator) -> None:
    """Nanoseconds of seconds: also at the tightest budgets, against brute force."""
    costs = rng.integers(10**8, 10**9, size=(6, 4)) | 1
    table = LookupTable({"latency": costs}, {"latency": 7}, np.full(6, 4))
    counts = BudgetCounts(table, "latency")
    assert not counts.exact
    true = table.cost(everyone := all_codes(table), "latency")
    for k in (0, 1, 5, 4095):
        budget = Budget(counts, None, int(np.sort(true)[k]))
        inside = set(architecture_keys(everyone[true <= budget.high]))
        assert budget.count == k + 1
        assert set(architecture_keys(budget.sample(4000, rng))) <= inside
        assert set(architecture_keys(budget.sample_unique(k + 1, rng))) == inside
        assert table.cost(budget.largest(), "latency") == np.sort(true)[k]
    with pytest.raises(ValueError, match="its range is"):
        Budget(counts, None, int(true.min()) - 1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.pop("fixed"), "key 'fixed' is missing"),
        (lambda s: s["layers"].pop(), "has 3 layers, but .* has 4"),
        (lambda s: s["layers"][1].pop("skip"), "layer 2 of 4: the cost of choice 'skip' is miss"),
        (lambda s: s["layers"][1].update(k9_e9=1), "layer 2 of 4: choice 'k9_e9' is not in"),
        (lambda s: s["layers"][0].update(skip=-1.0), "layer 1 of 4: choice 'skip': cost -1.0"),
        (lambda s: s["layers"][0].update(skip=float("nan")), "must be (a )?finite"),
        (lambda s: s["layers"][0].update(skip="fast"), "cost 'fast' is not a number"),
        (lambda s: s.update(search_space="fbnet"), "of search_space fbnet, this run of"),
        (lambda s: s.update(input_size=224), "of input_size 224, this run of 8; fix --input-size"),
        (lambda s: s.update(metric="Zeit in ms"), "is not a name"),
        (lambda s: s.update(layers="none"), "has no list of layers"),
    ],
)
def test_what_is_wrong_is_said(tiny, tiny_table, tmp_path, change, says: str) -> None:
    spec = spec_of(tiny)
    change(spec)
    with pytest.raises(ValueError, match=says):
        read_user_table(write(tmp_path / "t.yaml", spec), tiny, tiny_table)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n", "the first row must be layer,choice,METRIC"),
        ("layer,choice,latency\n1,skip,x\n", "row 2: cost 'x' is not a number"),
        ("layer,choice,latency\n0,skip,1\n", "layer '0' is no number, nor fixed"),
        ("layer,choice,latency\n1,skip,1\n1,skip,1\n", "is there twice"),
        ("layer,choice,latency\nfixed,,1\n1,skip,nan\n", "has 1 layers"),
    ],
)
def test_what_is_wrong_in_a_csv_is_said(tiny, tiny_table, tmp_path, text: str, says: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=says):
        read_user_table(tmp_path / "t.csv", tiny, tiny_table)


def test_latency_is_measured_and_compared_with_whole_networks(
    tiny: SearchSpace, tiny_table: LookupTable, tmp_path: Path
) -> None:
    table = measure_latency(tiny, tiny_table, QUICK)
    costs = table.costs["latency"]
    skips = [layer.choices.index("skip") for layer in tiny.layers if "skip" in layer.choices]
    assert (costs[:, 0] > 0).all() and table.fixed["latency"] > 0
    assert costs[0, skips[0]] == 0 and (costs % 100 == 0).all()
    assert np.array_equal(costs[0], costs[1])  # one shape: one measurement
    architectures = np.array([[0, 0, 0, 0], [1, 1, 1, 1], [2, 3, 2, 3]])
    report = validate(tiny, table, architectures, QUICK)
    assert report["num_networks"] == 3 == len(report["measured_ms"])
    predicted, measured = np.array(report["predicted_ms"]), np.array(report["measured_ms"])
    errors = abs(predicted - measured) / measured
    assert report["mean_relative_error"] == pytest.approx(errors.mean(), abs=2e-3)
    assert report["bias"] == pytest.approx((predicted / measured).mean(), abs=2e-3)
    assert predicted == pytest.approx(table.cost(architectures, "latency") / 1e6, abs=1e-4)


def test_a_measured_table_is_used_again(tiny: SearchSpace, tmp_path: Path) -> None:
    """Measuring twice gives other numbers; the second time they come from the cache."""
    first = load_costs(tiny, ["latency"], tmp_path, None, QUICK)
    again = load_costs(tiny, ["latency"], tmp_path, None, QUICK)
    assert np.array_equal(first.costs["latency"], again.costs["latency"])
    load_costs(tiny, ["latency"], tmp_path, None, replace(QUICK, batch_size=2))
    assert len(list(tmp_path.glob("latency_*.yaml"))) == 2
    with pytest.raises(ValueError, match="metric 'energy' is unknown"):
        load_costs(tiny, ["energy"], tmp_path, None, QUICK)


def test_a_correction_takes_the_common_factor_out(
    tiny: SearchSpace, tiny_table: LookupTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole networks that take 1.5 times the sum of their blocks, but for one that stalled."""
    costs = np.full((4, 4), 200_000)
    table = tiny_table.with_metric("latency", costs, 100_000, "ms", {"device": "x"})

    def whole(space, table, networks, settings) -> tuple[np.ndarray, np.ndarray]:
        sums = table.cost(networks, "latency") / 1e6
        measured = 1.5 * sums
        measured[0] *= 100
        return sums, measured

    monkeypatch.setattr(latency, "sums_and_wholes", whole)
    settings = replace(QUICK, correction=7)
    found = corrected(tiny, table, settings)
    assert (found.costs["latency"] == 300_000).all() and found.fixed["latency"] == 150_000
    assert found.sources["latency"]["correction_factor"] == 1.5
    assert "correction" not in source(QUICK) and source(settings)["correction"] == 7


def test_the_end_of_a_run_states_the_error_of_the_model(
    tiny: SearchSpace, tiny_table: LookupTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = np.array([0, 1, 2, 0])
    budget = Budget(BudgetCounts(tiny_table, "flops"), None, None)
    assert latency_rows(tiny, budget, answer, QUICK) == {}

    def rows(facts: dict) -> dict[str, str]:
        costs = np.arange(1, 17).reshape(4, 4) * 10**6
        table = tiny_table.with_metric("latency", costs, 10**6, "ms", facts)
        budget = Budget(BudgetCounts(table, "flops"), None, None)
        return latency_rows(tiny, budget, answer, QUICK)

    exact = rows({"device": "Phone 1", "exactness": "exact"})
    assert exact == {"latency table": "Phone 1; exact"}
    found = {"num_networks": 20, "spearman": 0.98, "mean_relative_error": 0.07, "bias": 0.95}
    facts = {"device": "Phone 1", "exactness": validation_text(found)}  # as the command saves it
    measured_before = rows(facts)["latency table"]
    assert "rank correlation 0.98, mean error 7%" in measured_before

    def whole(space, table, networks, settings) -> tuple[np.ndarray, np.ndarray]:
        assert np.array_equal(networks[0], answer) and len(networks) == 12
        sums = table.cost(networks, "latency") / 1e6
        return sums, sums.max() + 1 - sums  # the wrong way round

    monkeypatch.setattr(latency, "sums_and_wholes", whole)
    here = rows(source(QUICK))
    assert "rank correlation -1.00" in here["latency model"]
    assert "below 0.9" in here["latency warning"]
    assert "32.000 ms by the table" in here["latency, measured"]


def test_a_run_keeps_all_costs_that_cannot_be_counted_again(
    tiny: SearchSpace, tiny_table: LookupTable, tmp_path: Path
) -> None:
    """A brought energy and a measured latency, from one folder, without cache."""
    table = measure_latency(tiny, tiny_table, QUICK)
    table = table.with_metric("energy", table.costs["flops"], 5, "mJ", {"device": "meter"})
    kept = keep_costs(tmp_path, tiny, table)
    again = load_costs(tiny, ["energy", "latency"], None, kept, QUICK)
    for metric in ("energy", "latency"):
        assert np.array_equal(again.costs[metric], table.costs[metric])
        assert again.fixed[metric] == table.fixed[metric]
    assert keep_costs(tmp_path, tiny, tiny_table) is None
