"""The toolkit installed from its wheel, and through torch.hub, away from the clone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, TINY

from model import find_architecture, read_architecture
from setup import with_prefix

NOT_BUILT = shutil.ignore_patterns(".*", "runs", "datasets", "build", "*.egg-info", "__pycache__")
COMMANDS = "search train-supernet train-subnet evaluate-ranking compare-runs lookup-table".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the installed package, and its commands in bin/."""
    pytest.importorskip("pip")
    source = tmp_path_factory.mktemp("source") / "clone"
    shutil.copytree(ROOT, source, ignore=NOT_BUILT)
    target = tmp_path_factory.mktemp("site")
    flags = ("-q", "--no-deps", "--no-index", "--no-build-isolation", "--target")
    command = [sys.executable, "-m", "pip", "install", *flags, str(target), str(source)]
    subprocess.run(command, check=True)
    return target


def run(folder: Path, *words: object, site: Path | None = None) -> str:
    """Run Python in a folder whose own modules have the names of the toolkit's."""
    for name in ("model", "data", "utils", "search"):
        (folder / f"{name}.py").write_text("raise SystemExit('a module of the user')")
    env = {**os.environ, "PYTHONPATH": str(site or ""), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=folder, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_installed_commands_answer(name: str, site: Path, tmp_path: Path) -> None:
    assert "usage: " in run(tmp_path, site / f"bin/oneshot-{name}", "--help", site=site)


def test_an_installed_search_beside_the_users_own_modules(site: Path, tmp_path: Path) -> None:
    shutil.copy(TINY, tmp_path)
    flags = "--search-space tiny.yaml --epochs 1 --search-strategy random --random-iteration 3"
    run(tmp_path, site / "bin/oneshot-search", *flags.split(), "--title", "s", site=site)
    arch = tmp_path / "runs/s/best_architecture.yaml"
    code = f"from oneshot_nas.model import load_subnet; print(load_subnet('{arch}'))"
    assert "MBConv" in run(tmp_path, "-c", code, site=site)
    assert {p.name for p in site.iterdir() if "dist-info" not in p.name} == {"bin", "oneshot_nas"}


def test_torch_hub_loads_a_network_by_name(tmp_path: Path) -> None:
    call = f"torch.hub.load({str(ROOT)!r}, 'subnet', 'fbnet_c', source='local')"
    code = f"import torch; print(sum(p.numel() for p in {call}.parameters()))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == f"{read_architecture(find_architecture('fbnet_c'))['params']}\n"


def test_imports_are_rewritten_and_nothing_else() -> None:
    source = "import os\nfrom model import (\n    a,\n)\nx = 'from model import b'\n"
    source += "def f():\n    from utils.files import from_main\n"
    wanted = source.replace("from model import (", "from oneshot_nas.model import (")
    wanted = wanted.replace("from utils", "from oneshot_nas.utils")
    assert with_prefix(source) == wanted
    with pytest.raises(ValueError, match="line 1: write `from a import b`"):
        with_prefix("import model.space")
