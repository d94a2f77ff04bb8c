"""`python -m lookup_table`, in this process but for one start of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, TINY, Main

ARCHITECTURE = {
    "search_space": "proxylessnas",
    "input_size": 32,
    "num_classes": 10,
    "choices": ["k3_e3"] * 20 + ["k7_e6"],
}


def test_an_architecture_as_json_and_as_a_table(tmp_path: Path, lookup: Main) -> None:
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(ARCHITECTURE))
    words = [sys.executable, "-m", "lookup_table", "--arch", "a.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, env=environment, check=True)
    facts = json.loads(done.stdout)
    assert isinstance(facts["flops"], int) and isinstance(facts["params"], int)
    assert facts["measured"] == {"flops": facts["flops"], "params": facts["params"]}
    text = lookup("--arch", "a.yaml", "--table")
    assert text.count("*k3_e3") == 20 and text.count("*k7_e6") == 1
    assert f"{facts['flops'] / 1e6:,.3f}" in text
    assert (tmp_path / ".cache").is_dir()


def test_a_space(lookup: Main) -> None:
    flags = ("--search-space", "spos", "--input-size", 32, "--num-classes", 10)
    facts = json.loads(lookup(*flags))
    assert facts["architectures"] == 4**20 and facts["layers"] == 20
    assert facts["flops"][0] < facts["flops"][1] and facts["params"][0] < facts["params"][1]
    text = lookup("--search-space", TINY, "--input-size", 8, "--table")
    assert "192 architectures, 156 different networks" in text


def test_latency_is_measured_saved_and_brought_again(tmp_path: Path, lookup: Main) -> None:
    flags = ("--search-space", TINY, "--input-size", 8, "--num-classes", 10)
    quick = ("--latency-seconds", 0.001, "--latency-networks", 3, "--device", "cpu")
    facts = json.loads(lookup(*flags, "--latency", *quick, "--save", "cpu.yaml"))
    against = facts["latency_against_whole_networks"]
    assert len(against["measured_ms"]) == against["num_networks"] == 3
    assert facts["latency_source"]["batch_size"] == 1 and facts["networks"] == 156
    assert 0 < facts["latency"][0] < facts["latency"][1]
    saved = yaml.safe_load((tmp_path / "cpu.yaml").read_text())
    assert saved["device"].endswith("(cpu)") and saved["validation"]["num_networks"] == 3
    assert saved["exactness"].startswith("over 3 networks: rank correlation")
    again = json.loads(lookup(*flags, "--lookup-table", "cpu.yaml"))
    assert again["latency"] == facts["latency"]
    flags = ("--search-space", TINY, "--input-size", 16, "--lookup-table", "cpu.yaml")
    assert "fix --input-size" in lookup(*flags, ok=False)


@pytest.mark.parametrize(
    ("change", "flags", "says"),
    [
        ({"choices": ["k3_e3"] * 3}, (), "3 choices, but proxylessnas has 21"),
        ({"choices": ["skip"] + ["k3_e3"] * 20}, (), "layer 1 of 21: choice 'skip' is not allowed"),
        ({"choices": ["k3_e9"] * 21}, (), "layer 1 of 21: choice 'k3_e9' is unknown"),
        ({"search_space": "fbnet"}, (), "fbnet has 22"),
        ({}, ("--search-space", "spos"), "fix --search-space"),
        ({}, ("--input-size", 64), "fix --input-size"),
        ({"input_size": "big"}, (), "'input_size' must be of type int"),
        ({}, ("--arch", "none.yaml"), "none.yaml"),
        ({}, ("--search-space", "fbnt"), "did you mean 'fbnet'"),
        ({}, ("--latency", "--save", "gone/x.yaml"), "its folder does not exist"),
    ],
)
def test_bad_architectures(
    tmp_path: Path, lookup: Main, change: dict, flags: tuple, says: str
) -> None:
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(ARCHITECTURE | change))
    assert says in lookup("--arch", "a.yaml", *flags, ok=False)
