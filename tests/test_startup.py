"""--help answers before torch is loaded, and the names it shows are those of the registries."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from conftest import ROOT

from config_file.arg_config import names
from data import DATASETS, PIPELINES
from lookup_table import METRICS
from model.supernet import SUPERNET_INITS
from sampler import SAMPLERS
from sampler.hardware_loss import HC_LOSSES
from search_strategy.evaluator import PRECISIONS, SCORES
from utils.acceleration import AMP
from utils.finite import ON_NAN
from utils.optim import LR_SCHEDULERS, OPTIMIZERS


def test_names_are_those_of_the_registries() -> None:
    registries = {
        "DATASETS": DATASETS,
        "PIPELINES": PIPELINES,
        "METRICS": METRICS,
        "SUPERNET_INITS": SUPERNET_INITS,
        "SAMPLERS": SAMPLERS,
        "HC_LOSSES": HC_LOSSES,
        "ON_NAN": ON_NAN,
        "OPTIMIZERS": OPTIMIZERS,
        "LR_SCHEDULERS": LR_SCHEDULERS,
        "AMP": AMP,
        "EVAL_PRECISIONS": PRECISIONS,
        "SCORES": SCORES,
    }
    listed = {name for name in vars(names) if name.isupper()}
    assert listed == registries.keys()
    for name, registry in registries.items():
        assert getattr(names, name) == tuple(registry), name


@pytest.mark.parametrize(
    "script", ["search.py", "train_supernet.py", "train_subnet.py", "evaluate_ranking.py"]
)
def test_help_loads_no_torch(script: str) -> None:
    """What makes it quick, without a clock: no heavy module is imported."""
    words = [sys.executable, "-X", "importtime", str(ROOT / script), "--help"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "usage:" in done.stdout
    loaded = {m.split(".")[0] for m in re.findall(r"\|\s+([\w.]+)$", done.stderr, re.M)}
    assert "argparse" in loaded
    assert not loaded & {"torch", "sklearn", "matplotlib", "scipy", "tensorboard"}


def test_digits_are_loaded_without_scikit_learn() -> None:
    """Nor scipy, which it loads: a second before the first training step."""
    code = "import sys; from data import DATASETS; DATASETS['digits'](None); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert not {"sklearn", "scipy"} & set(done.stdout.split()) and "numpy" in done.stdout
