"""benchmarks/regret.py finds what search.py finds on the same scores."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import Main

import search
from benchmarks import regret as measurement
from lookup_table import Equivalence
from lookup_table.builder import load_table
from model import load_space
from search_strategy.benchmark import Benchmark, digits, ranking_csv


@pytest.mark.parametrize("strategy", [("evolution", "--smooth"), ("additive",)])
def test_regret_is_that_of_the_search_command(
    strategy: tuple[str, ...], main: Main, rng: np.random.Generator, tmp_path: Path
) -> None:
    space = load_space("nas_bench_macro", 32, 10)
    table = load_table(space)
    codes = rng.integers(0, 3, (1700, 8))  # more networks than are evaluated
    networks = np.unique(Equivalence(space).canonical(codes), axis=0)
    accuracy, score = 90 + rng.normal(size=(2, len(networks)))  # bare noise: regrets are large
    known = Benchmark(architectures=networks, accuracy=accuracy, std=None, num_codes=1700)
    ranking = tmp_path / "ranking.csv"
    ranking.write_text(ranking_csv(space, table, known, {"score": score}))
    keys = [digits(network) for network in networks]
    entries = {key: {"mean_acc": value} for key, value in zip(keys, score, strict=True)}
    (tmp_path / "scores.json").write_text(json.dumps(entries))

    flags = ("--oracle", "scores.json", "--input-size", 32, "--title", "o", "--target-hc", 63)
    flags += ("--search-space", "nas_bench_macro", "--no-random-control", "--search-strategy")
    main(search, *flags, *strategy)
    found = yaml.safe_load((tmp_path / "runs" / "o" / "best_architecture.yaml").read_text())
    key = digits(space.encode(found["choices"]))
    inside = table.cost(networks, "flops") <= 63_000_000
    regret = accuracy[inside].max() - accuracy[keys.index(key)]

    out = main(measurement, "--ranking", ranking, "--budgets", 63, "--seeds", 1)
    name = f"63 M  {' '.join(strategy)} "
    (line,) = [x for x in out.splitlines() if x.startswith(name)]
    assert line.split(" (")[0].split()[-1] == f"{regret:.2f}", line
    assert regret > 0.1, "the searches cannot be told from the best network"


def test_regret_of_searches_on_true_accuracies(main: Main, tmp_path: Path) -> None:
    """Within 50 evaluations evolution is ahead, and nothing is behind the best in the end."""
    entries = {
        "".join(map(str, code)): {"mean_acc": 80.0 + sum(code)}
        for code in itertools.product(range(3), repeat=8)
    }
    (tmp_path / "oracle.json").write_text(json.dumps(entries))
    flags = ("--oracle", "oracle.json", "--budgets", 63, "--seeds", 1)
    rows = [line.split() for line in main(measurement, *flags).splitlines()[1:]]
    regret = {row[-5]: [float(cell) for cell in row[-4:]] for row in rows}
    assert list(regret) == ["random", "evolution", "aging", "pareto"]
    assert regret["evolution"][0] <= regret["random"][0]
    assert all(after <= before for r in regret.values() for before, after in itertools.pairwise(r))
