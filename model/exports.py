"""Write the exports of a trained network: ONNX, ONNX of 8-bit integers, torch.export, the Hub."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from model.export import check_onnx_packages, export_onnx, export_torch
from model.hub import CONFIG, WEIGHTS, export_hub
from model.quantised import export_int8
from model.space import Architecture, SearchSpace
from model.subnet import Subnet, fold_batch_norms
from utils.evaluation import Batches
from utils.model_card import ModelCard


class Exports(Protocol):
    """Paths of the files that are asked for, and the Hub's folder; None is not asked for."""

    @property
    def export_onnx(self) -> Path | None: ...
    @property
    def export_onnx_int8(self) -> Path | None: ...
    @property
    def export_torch(self) -> Path | None: ...
    @property
    def export_hub(self) -> Path | None: ...


def check_exports(paths: Exports) -> None:
    """Raise ValueError, before any work, where an export could not be written after it."""
    onnx, int8, hub = paths.export_onnx, paths.export_onnx_int8, paths.export_hub
    flags = {
        "--export-onnx": onnx,
        "--export-onnx-int8": int8,
        "--export-torch": paths.export_torch,
    }
    for flag, path in flags.items():
        if path is not None and (not path.parent.is_dir() or path.is_dir()):
            raise ValueError(f"{flag} {path}: its folder does not exist, or it is a folder itself")
    if hub is not None and (not hub.parent.is_dir() or hub.exists()):
        raise ValueError(f"--export-hub {hub}: it exists, or its folder does not; take another")
    if onnx is not None or int8 is not None:
        check_onnx_packages()


def export_all(
    net: Subnet,
    space: SearchSpace,
    architecture: Architecture,
    paths: Exports,
    card: ModelCard,
    calibration: Iterable[Tensor],
    validation: Batches,
) -> Iterator[str]:
    """Write what is asked for, each with the preprocessing of the card; yield lines about it.

    Args:
        calibration: batches of training images [B, 3, H, W], for 8-bit ranges.
        validation: images and labels that the 8-bit file is compared on.

    Raises:
        ValueError: an export does not compute what PyTorch does.
        OSError: a file cannot be written.
    """
    # a copy: `net` keeps its batch norms, device and memory format
    folded, expected = fold_batch_norms(net).cpu(), card.preprocessing
    folded.to(memory_format=torch.contiguous_format)  # other tools know no channels_last kernels
    for path, write in ((paths.export_onnx, export_onnx), (paths.export_torch, export_torch)):
        if path is not None:
            difference = write(folded, path, expected)
            yield f"{path}: logits differ from PyTorch's by at most {difference:.2g}"
    if (path := paths.export_onnx_int8) is not None:
        yield from export_int8(folded, path, expected, calibration, validation)
    if (path := paths.export_hub) is not None:
        export_hub(net, space, architecture, card, path)
        yield f'{path}: load_subnet("{path / CONFIG}", "{path / WEIGHTS}") loads it'
