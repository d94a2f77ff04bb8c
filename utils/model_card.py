"""The README.md of a trained network, and where it comes from."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def git_commit() -> str:
    """The toolkit's commit, `-dirty` where files differ from it; `unknown` outside a clone."""
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
    """What somebody needs to judge and repeat the numbers."""
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


def model_card(
    title: str,
    summary: str,
    numbers: dict[str, str],
    classes: Sequence[str],
    preprocessing: dict[str, str],
    commands: Sequence[str],
    recipe: dict[str, str],
    made_with: dict[str, str],
    confusion: bool,
) -> str:
    """Markdown that stands in the run folder beside the files it names."""
    names = ", ".join(classes[:20]) + (f", ... ({len(classes)})" if len(classes) > 20 else "")
    lines = [f"# {title}", "", summary, "", "![the network, layer by layer](architecture.png)", ""]
    lines += ["## Numbers", "", *_table(numbers), ""]
    if confusion:
        lines += ["![confusion matrix on the test images](confusion.png)", ""]
    lines += [
        "## Use",
        "",
        "With the toolkit's `model/`, `utils/` and `config_file/search_space/` on the path:",
        "",
        "```python",
        "from model import load_subnet",
        'net = load_subnet("best_architecture.yaml", "weights.safetensors")',
        "logits = net(images)  # [B, 3, H, W], normalised -> [B, classes]",
        "```",
        "",
        *_table({**preprocessing, "classes": names}),
        "",
        "## Reproduce",
        "",
        "```sh",
        *commands,
        "```",
        "",
        *_table(recipe),
        "",
        "## Provenance",
        "",
        *_table(made_with),
    ]
    return "\n".join(lines) + "\n"
