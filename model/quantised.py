"""An ONNX file of 8-bit integers, made and measured by onnxruntime's own tools."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from model.export import export_onnx
from utils.evaluation import Batches
from utils.files import atomic_path
from utils.preprocessing import Preprocessing

TIMED = 50  # runs of one image, of which the median counts


class _Calibration:
    """The images as onnxruntime's calibration asks for them: one batch at a time, then None."""

    def __init__(self, images: Iterable[Tensor]) -> None:
        self.images: Iterator[Tensor] = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.images, None)
        return None if batch is None else {"images": batch.cpu().numpy()}


def measure_onnx(path: Path, batches: Batches) -> tuple[float, float]:
    """Return the top-1 in percent and the median time of one image, ms, in one CPU thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    right = total = 0
    for images, labels in batches:
        answers = session.run(None, {"images": images.cpu().numpy()})[0].argmax(1)
        right += int((answers == labels.cpu().numpy()).sum())
        total += len(answers)
    one, times = {"images": images[:1].cpu().numpy()}, []  # an image of the last batch
    for _ in range(TIMED):  # no warm-up: the batches above were one
        start = time.perf_counter()
        session.run(None, one)
        times.append(1000 * (time.perf_counter() - start))
    return 100 * right / total, float(np.median(times))


def export_int8(
    net: nn.Module,
    path: Path,
    preprocessing: Preprocessing,
    calibration: Iterable[Tensor],
    validation: Batches,
) -> Iterator[str]:
    """Write an ONNX file with 8-bit weights and activations (static, per channel, QDQ).

    Args:
        net: in eval mode, on the CPU, batch norms folded.
        calibration: batches of training images [B, 3, H, W], for the ranges of activations.
        validation: what both accuracies are measured on.

    Yields:
        Lines with the top-1, size and latency of the float and of the 8-bit file.

    Raises:
        ValueError: a package is missing.
        OSError: the file cannot be written.
    """
    with tempfile.TemporaryDirectory() as folder, atomic_path(path) as small:
        large, prepared = Path(folder) / "float.onnx", Path(folder) / "prepared.onnx"
        export_onnx(net, large, preprocessing)
        from onnxruntime.quantization import quant_pre_process, quantize_static

        root, level = logging.getLogger(), logging.getLogger().level
        root.setLevel(logging.ERROR)  # it advises the pre-processing that was just done
        try:
            quant_pre_process(large, prepared)
            # per_channel: one scale per output channel of a weight, not one per tensor
            quantize_static(prepared, small, _Calibration(calibration), per_channel=True)
        finally:
            root.setLevel(level)
        for name, file in (("float32", large), ("int8", small)):
            top1, ms = measure_onnx(file, validation)
            size = file.stat().st_size / 1e6
            numbers = f"top-1 {top1:.2f} %, {size:.2f} MB, {ms:.3f} ms per image"
            yield f"{path} {name}: validation {numbers}"
