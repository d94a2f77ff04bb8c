"""The run folder `runs/<title>/`, its log and its TensorBoard writer."""

from __future__ import annotations

import logging
import re
from datetime import datetime
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

TITLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
log = logging.getLogger("oneshot_nas")


class _TqdmHandler(logging.Handler):
    """Prints above a progress bar instead of through it."""

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self.stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=self.stream)


def start_log(folder: Path | None = None, stream: TextIO | None = None) -> None:
    """Messages go to `stream` (standard output) and, given a folder, with times to its log.txt."""
    log.setLevel(logging.INFO)
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()
    log.addHandler(_TqdmHandler(stream))
    if folder:
        file = logging.FileHandler(folder / "log.txt", encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        log.addHandler(file)


def check_title(title: str) -> str:
    """The title, if it can name a folder. Raises ValueError."""
    if not TITLE.fullmatch(title):
        raise ValueError(
            f"--title {title!r}: use letters, digits, '.', '_' and '-', a letter or digit first"
        )
    return title


def check_run_folder(run_dir: Path, title: str | None, resume: bool) -> None:
    """Raises ValueError if the title is taken, or there is nothing to resume. Creates nothing."""
    if resume and title is None:
        raise ValueError("--resume needs the --title of the run to go on with")
    if title is None:
        return
    folder = run_dir / check_title(title)
    if resume and not (folder / "config.yaml").is_file():
        raise ValueError(f"nothing to resume: {folder} holds no run; leave --resume out")
    if not resume and folder.exists():
        raise ValueError(f"{folder} exists; take another --title, or --resume to go on with it")


def make_run_folder(run_dir: Path, title: str | None, resume: bool, name: str) -> Path:
    """Create runs/<title>, or with --resume find it. An automatic title is `name` and the time."""
    check_run_folder(run_dir, title, resume)
    if title is None:
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        candidates = [f"{name}_{stamp}"] + [f"{name}_{stamp}-{i}" for i in range(2, 100)]
        title = next(t for t in candidates if not (run_dir / t).exists())
    folder = run_dir / title
    folder.mkdir(parents=True, exist_ok=resume)
    return folder
