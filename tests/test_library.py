"""The toolkit from a program: settings, the examples, the page of the API, other trackers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT, TINY, Command
from torch import nn

from config_file.arg_config.sources import settings
from config_file.arg_config.supernet_config import TrainSupernetConfig
from model import BLOCKS, BlockStyle, build_supernet, load_space
from search_strategy.evaluator import Evaluator
from utils.tracker import load_callback


def test_settings_are_those_of_the_command_line() -> None:
    config = settings(TrainSupernetConfig, search_space=TINY, epochs=3, augment=False)
    assert config.training.epochs == 3 and not config.augment.augment
    assert config.data.input_size == 8  # the dataset's recipe
    for flags, words in {
        "epoch": "no epoch (did you mean 'epochs'?)",
        "epochs": "argument --epochs",
    }.items():
        with pytest.raises(ValueError, match=words.replace("(", r"\(").replace("?)", r"\?\)")):
            settings(TrainSupernetConfig, **{flags: -1})


def test_the_quickstart_notebook_runs(tmp_path: Path) -> None:
    cells = json.loads((ROOT / "examples/quickstart.ipynb").read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in code)
    program = tmp_path / "notebook.py"
    program.write_text("\n".join("".join(cell["source"]) for cell in code))
    command = [sys.executable, str(program)]
    done = subprocess.run(command, cwd=ROOT / "examples", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    printed = "".join("".join(out.get("text", "")) for cell in code for out in cell["outputs"])
    assert done.stdout.split()[:8] == printed.split()[:8]  # losses differ between machines


def test_own_blocks_are_searched(capsys: pytest.CaptureFixture[str]) -> None:
    from examples.own_model import main

    main(epochs=1)
    out = capsys.readouterr().out
    assert "40 of 192 networks scored" in out, out
    for name in ("plain", "bottleneck", "wide"):
        del BLOCKS[name]


def test_a_block_of_ones_own_may_have_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BLOCKS, "my_gate", BLOCKS.get)  # not a `_g2` of groups
    content = yaml.safe_load((ROOT / "tests/tiny.yaml").read_text())
    space = load_space(content | {"choices": ["k3_e3", "my_gate"]}, 8, 10)
    assert space.layers[0].choices == ("k3_e3", "my_gate")


def test_a_batch_norm_of_ones_own_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def block(in_chs: int, out_chs: int, stride: int, style: BlockStyle) -> nn.Module:
        return nn.Sequential(nn.Conv2d(in_chs, out_chs, 1, stride), nn.BatchNorm2d(out_chs))

    monkeypatch.setitem(BLOCKS, "mine", block)
    text = TINY.read_text().replace("choices: [", "choices: [mine, ", 1)
    (tmp_path / "s.yaml").write_text(text)
    supernet = build_supernet(load_space(tmp_path / "s.yaml", 8, 10))
    images, labels = torch.randn(4, 3, 8, 8), torch.zeros(4, dtype=torch.long)
    evaluate = Evaluator(supernet, [images], [(images, labels)])
    with pytest.raises(ValueError, match=r"build convolutions by model\.conv_bn"):
        evaluate(supernet.space.num_choices[None] * 0)


def test_the_page_of_the_api_is_up_to_date() -> None:
    sys.path.insert(0, str(ROOT / "docs"))
    import make_api

    assert (ROOT / "docs/api.md").read_text() == make_api.page(), "run python docs/make_api.py"


TRACKER = """
import json
def scalars(values, step):
    with open("tracked.jsonl", "a") as file:
        print(json.dumps([values, step]), file=file)
def figure(name, figure, step):
    figure.savefig(name.replace("/", "_") + f"_{step}.png")
"""


def test_another_tracker_gets_what_tensorboard_gets(command: Command, tmp_path: Path) -> None:
    (tmp_path / "tracker.py").write_text(TRACKER)
    flags = ("--search-space", TINY, "--sample-strategy", "softmax", "--epochs", 2, "--title", "t")
    command("train_supernet.py", *flags, "--tracker", "tracker.py", "--batch-size", 256)
    lines = [json.loads(line) for line in (tmp_path / "tracked.jsonl").read_text().splitlines()]
    assert [step for values, step in lines if "train/loss" in values] == [1, 2]
    assert (tmp_path / "arch_probabilities_2.png").exists()
    with pytest.raises(ValueError, match=r"--tracker gone\.py: FileNotFoundError"):
        load_callback(Path("gone.py"))
