"""benchmarks/ranking_searches.py finds what search.py finds on the same scores."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import Command

from benchmarks import ranking_searches
from lookup_table import Equivalence
from lookup_table.builder import load_table
from model import load_space
from search_strategy.benchmark import Benchmark, digits, ranking_csv


@pytest.mark.parametrize("search", [("evolution", "--smooth"), ("additive",)])
def test_regret_is_that_of_the_search_command(
    search: tuple[str, ...],
    command: Command,
    rng: np.random.Generator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
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
    command("search.py", *flags, *search)
    found = yaml.safe_load((tmp_path / "runs" / "o" / "best_architecture.yaml").read_text())
    key = digits(space.encode(found["choices"]))
    inside = table.cost(networks, "flops") <= 63_000_000
    regret = accuracy[inside].max() - accuracy[keys.index(key)]

    words = ["ranking_searches", "--ranking", str(ranking), "--budgets", "63", "--seeds", "1"]
    monkeypatch.setattr(sys, "argv", words)
    ranking_searches.main()
    name = f"63 M  {' '.join(search)} "
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith(name)]
    assert line.split(" (")[0].split()[-1] == f"{regret:.2f}", line
    assert regret > 0.1, "the searches cannot be told from the best network"
