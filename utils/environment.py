"""The set-up that a result depends on to the last bit: versions, device, processor, threads."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

import torch
import yaml

from utils.files import write_text
from utils.ranks import world_size
from utils.run_folder import log
from utils.threads import processor
from utils.yaml_file import read_yaml

FILE = "environment.yaml"  # in a run folder


def environment(device: torch.device) -> dict[str, str]:
    """The set-up of this process; call it after the number of threads is set."""
    on_gpu = device.type == "cuda"
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),  # with the build, as in +cpu
        **{name: version(name) for name in ("torchvision", "numpy", "pillow")},
        "device": torch.cuda.get_device_name(device) if on_gpu else device.type,
        "processor": processor(),
        "cpu capability": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
        "processes": str(world_size()),
    }


def note_environment(folder: Path, device: torch.device, config_file: Path | None) -> None:
    """Write environment.yaml of a new run; note where that of the run it repeats is another.

    Args:
        config_file: the --config of a new run; beside that of a run stands its environment.
    """
    now = environment(device)
    path = folder / FILE
    first = path if path.exists() or config_file is None else config_file.parent / FILE
    if first.exists():
        then = read_yaml(first)
        changes = [f"{k} {then[k]}, now {v}" for k, v in now.items() if then.get(k, v) != v]
        if changes:
            log.info(
                f"note: results may differ from {first.parent}, which had {'; '.join(changes)}"
            )
    if not path.exists():
        write_text(path, yaml.safe_dump(now, sort_keys=False))
