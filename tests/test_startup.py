"""--help answers before torch is loaded, and the names it shows are those of the registries."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from conftest import ROOT

import data
import sampler
from config_file.arg_config.fields import flags
from config_file.arg_config.names import DATASETS, SAMPLERS
from config_file.arg_config.sampling_config import HC_WEIGHTS
from config_file.arg_config.search_config import SearchConfig
from sampler import hardware_loss
from search_strategy.evaluator import PRECISIONS, SCORES


def test_names_that_need_no_torch_are_those_of_the_registries() -> None:
    options = {name: field.metadata["flag"] for name, field in flags(SearchConfig).items()}
    assert tuple(data.DATASETS) == DATASETS
    assert tuple(sampler.SAMPLERS) == SAMPLERS
    assert tuple(HC_WEIGHTS) == tuple(hardware_loss.HC_LOSSES)
    assert options["eval_precision"]["choices"] == tuple(PRECISIONS)
    assert options["score"]["choices"] == tuple(SCORES)


@pytest.mark.parametrize(
    "script",
    ["search.py", "train_supernet.py", "train_subnet.py", "evaluate_ranking.py", "-m lookup_table"],
)
def test_help_loads_no_torch(script: str) -> None:
    """What makes it quick, without a clock: no heavy module, and Ctrl-C is caught before numpy."""
    words = [sys.executable, "-X", "importtime", *script.split(), "--help"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, cwd=ROOT)
    name = script.replace("-m", "python -m")
    assert done.returncode == 0 and f"usage: {name} [flags]" in done.stdout
    loaded = re.findall(r"\|\s+([\w.]+)$", done.stderr, re.M)
    packages = {module.split(".")[0] for module in loaded}
    assert not packages & {"torch", "sklearn", "matplotlib", "scipy", "tensorboard"}
    assert loaded.index("utils.startup") < loaded.index("argparse")
    assert "numpy" not in loaded or loaded.index("utils.startup") < loaded.index("numpy")


def test_ctrl_c_during_imports_is_one_line() -> None:
    code = "import os, signal; from utils.startup import start_up; start_up(); "
    code += "os.kill(os.getpid(), signal.SIGINT); print('still here')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.startswith("stopped by Ctrl-C") and done.stderr.count("\n") == 1


def test_digits_are_loaded_without_scikit_learn() -> None:
    """Nor scipy, which it loads: a second before the first training step."""
    code = "import sys; from data import DATASETS; DATASETS['digits'](None); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert not {"sklearn", "scipy"} & set(done.stdout.split()) and "numpy" in done.stdout
