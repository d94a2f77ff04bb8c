"""The beginning of every run: log, device and seeds; then its folder and what is written first."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

import torch

from config_file.arg_config.fields import changed
from config_file.arg_config.run_config import Command, RunConfig
from config_file.arg_config.sources import write_config
from utils.device import note_environment, pick_device, seed_everything, tune_malloc
from utils.run_folder import check_run_folder, log, make_run_folder, start_log
from utils.threads import threads_text, usable_cpus


def set_up(run: RunConfig, stream: TextIO | None = None) -> torch.device:
    """Check the title before anything is loaded, seed every generator, return the device.

    --threads auto is all CPUs of this process, until `utils.threads.set_threads` times steps.

    Args:
        stream: of messages; standard output if None.

    Raises:
        ValueError: the title is taken, or there is nothing to resume, or no such device.
    """
    start_log(stream=stream, quiet=run.quiet)
    check_run_folder(run.run_dir, run.title, run.resume)
    tune_malloc()
    torch.set_num_threads(usable_cpus() if run.threads == "auto" else int(run.threads))
    device = pick_device(run.device)
    seed_everything(run.random_seed)
    return device


def open_run(run: RunConfig, name: str, stream: TextIO | None = None) -> Path:
    """Make and lock the run folder and start its log.txt.

    Args:
        name: with the time, the title of a run that has none.
    """
    folder = make_run_folder(run.run_dir, run.title, run.resume, name)
    start_log(folder, stream=stream, quiet=run.quiet)
    return folder


def record_run(
    folder: Path, config: Command, device: torch.device, table_file: Path | None = None
) -> None:
    """Write config.yaml and environment.yaml of a new run; say what has no effect in it.

    Args:
        table_file: the run's own copy of costs that cannot be counted again.
    """
    if not config.run.resume:
        saved = changed(config, lookup_table=table_file) if table_file else config
        write_config(folder / "config.yaml", saved)
    note_environment(folder, device, config.run.config)
    log.info(f"run folder {folder}, device {device}{threads_text(device)}")
    if ignored := config.ignored_flags():
        log.info(f"note: without effect in this run: {', '.join(ignored)}")
