"""The README.md of a trained network, and where it comes from."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field

import yaml

from utils.files import ROOT
from utils.preprocessing import Preprocessing


def git_commit() -> str:
    """Return the toolkit's commit, `-dirty` where files differ; `unknown` outside a clone."""
    if not (ROOT / ".git").exists():  # git would find a repository that we are installed inside
        return "unknown"
    words = ["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *words], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()


def provenance(seed: int, device: str) -> dict[str, str]:
    """List facts with which the numbers can be judged and repeated."""
    import numpy
    import torch
    import torchvision

    return {
        "seed": str(seed),
        "toolkit's git commit": git_commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": numpy.__version__,
        "device": f"{device} ({platform.system()} {platform.machine()}, "
        f"{torch.get_num_threads()} CPU threads)",
    }


def _table(rows: dict[str, str]) -> list[str]:
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """Content of the README.md of a trained network; `text` makes it.

    Attributes:
        commands: that make the network again.
        recipe: of its training, by flag.
        made_with: see `provenance`.
        dataset: it was trained on.
    """

    title: str
    summary: str
    dataset: str
    numbers: dict[str, str]
    preprocessing: Preprocessing
    commands: Sequence[str] = ()
    recipe: dict[str, str] = field(default_factory=dict)
    made_with: dict[str, str]

    def text(self, architecture: str, weights: str, pictures: dict[str, str]) -> str:
        """Return Markdown that stands beside the files it names.

        Args:
            architecture, weights: names of the network's files.
            pictures: names of further files, by what they show.
        """
        p = self.preprocessing
        more = f", ... ({len(p.classes)})" if len(p.classes) > 20 else ""
        side = "" if p.resize == p.input_size else f"short side to {p.resize} px, centre crop to "
        rows = {
            "input": f"RGB, {side}{p.input_size} × {p.input_size} px, scaled to [0, 1]",
            "mean": ", ".join(f"{v:.4f}" for v in p.mean),
            "std": ", ".join(f"{v:.4f}" for v in p.std),
            "classes": ", ".join(p.classes[:20]) + more,
        }
        lines = [f"# {self.title}", "", self.summary, ""]
        lines += [line for what, file in pictures.items() for line in (f"![{what}]({file})", "")]
        lines += ["## Numbers", "", *_table(self.numbers), "", "## Use", ""]
        lines += [
            "In the toolkit's folder; where it is installed, from `oneshot_nas.model`:",
            "",
            "```python",
            "from model import load_subnet",
            f'net = load_subnet("{architecture}", "{weights}")',
            'label, probability = net.classify("image.jpg")',
            "logits = net(images)  # [B, 3, H, W] as net.preprocessing makes them -> [B, classes]",
            "```",
            "",
            *_table(rows),
            "",
        ]
        if self.commands:
            lines += ["## Reproduce", "", "```sh", *self.commands, "```", ""]
        if self.recipe:
            lines += [*_table(self.recipe), ""]
        return "\n".join([*lines, "## Provenance", "", *_table(self.made_with)]) + "\n"

    def hub_text(self, architecture: str, weights: str) -> str:
        """Return the same with the header that the Hugging Face Hub reads."""
        tags = ["image-classification", "neural-architecture-search"]
        header = {"library_name": "oneshot_nas", "tags": tags, "datasets": [self.dataset]}
        text = self.text(architecture, weights, {})
        return f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n\n{text}"
