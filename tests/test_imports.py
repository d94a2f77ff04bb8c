"""Imports point down (read from the syntax tree); docs/layout.md has the order."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from conftest import ROOT

# scripts > search_strategy > sampler > lookup_table > model, data > utils
BELOW_STRATEGY = {"sampler", "lookup_table", "model", "data", "utils"}
ALLOWED: dict[str, set[str]] = {
    "utils": set(),
    "model": {"utils"},
    "data": {"utils", "config_file"},
    "lookup_table": {"model", "data", "utils"},
    "sampler": {"lookup_table", "model", "data", "utils", "config_file"},
    "search_strategy": {*BELOW_STRATEGY, "config_file"},
}
OURS = {path.name for path in ROOT.iterdir() if path.is_dir() and list(path.rglob("*.py"))} | {
    path.stem for path in ROOT.glob("*.py")
}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("package", ALLOWED)
def test_import_direction(package: str) -> None:
    files = [f for f in (ROOT / package).rglob("*.py") if f.name != "__main__.py"]  # a script
    assert files
    for file in files:
        wrong = (imported(file) & OURS) - ALLOWED[package] - {package}
        assert not wrong, f"{file.relative_to(ROOT)} imports {sorted(wrong)}"
