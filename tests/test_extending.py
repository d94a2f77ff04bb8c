"""docs/extending.md: its files are written into a copy of the repository, its commands run."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml
from conftest import ROOT

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", flags=re.M | re.S)
PLACE = re.compile(r"# (file|append): (\S+)\n")
# one process runs all commands: importing torch for each would take longer than they do
DRIVER = """
import runpy, shlex, sys
for line in open("commands.sh").read().splitlines():
    python, *words = shlex.split(line)
    assert python == "python", line
    print("$", line, flush=True)
    module = words[0] == "-m"
    sys.argv = words[1:] if module else words
    (runpy.run_module if module else runpy.run_path)(sys.argv[0], run_name="__main__")
"""


def copy_repository(target: Path) -> None:
    for path in ROOT.iterdir():
        if path.is_dir() and list(path.glob("*.py")) and path.name not in ("tests", "benchmarks"):
            shutil.copytree(path, target / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.suffix == ".py":
            shutil.copy(path, target)


def test_the_worked_examples(tmp_path: Path) -> None:
    copy_repository(tmp_path)
    commands: list[str] = []
    for kind, text in BLOCK.findall((ROOT / "docs" / "extending.md").read_text(encoding="utf-8")):
        if kind == "sh":
            commands += text.splitlines()
            continue
        place = PLACE.match(text)
        assert place, f"a block says neither '# file: NAME' nor '# append: NAME':\n{text}"
        how, name = place.groups()
        assert (tmp_path / name).exists() == (how == "append"), name
        with (tmp_path / name).open("a", encoding="utf-8") as file:
            file.write(text[place.end() :])
    (tmp_path / "commands.sh").write_text("\n".join(commands))
    words = [sys.executable, "-c", DRIVER]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert len(commands) == 6 and done.stdout.count("$ python") == 6
    assert '"architectures": 243' in done.stdout  # three choices in each of five layers
    assert "best 100 %" in done.stdout  # local search found the goal
    runs = tmp_path / "runs"
    config = yaml.safe_load((runs / "local" / "config.yaml").read_text())
    assert (config["search-strategy"], config["starts"], config["max-neighbours"]) == (
        "local",
        5,
        4,
    )
    rounds = np.loadtxt(runs / "local" / "history.csv", str, delimiter=",", skiprows=1)[:, 1]
    assert (np.bincount(rounds.astype(int)) <= [5] + [4] * int(rounds[-1])).all()
    words = [sys.executable, "search.py", "--help"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    text = " ".join(done.stdout.split())
    assert "differentiable,local}" in text and "local (neighbours of the best)" in text
    assert "--starts N" in text and "--max-neighbours N" in text
    assert "random, evolution, local: select by the mean of score" in text
    assert (runs / "mirrored" / "supernet.pt").exists()
    best = yaml.safe_load((runs / "stripes" / "best_architecture.yaml").read_text())
    assert best["num_classes"] == 2 and best["top1"] > 75
