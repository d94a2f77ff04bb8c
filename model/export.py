"""A network as one file that runs without this repository: ONNX and torch.export."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from utils.files import atomic_path
from utils.preprocessing import Preprocessing

TOLERANCE = 1e-4  # of logits, against PyTorch
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
METADATA_FILE = "preprocessing.json"  # inside a torch.export archive


def check_onnx_packages(flag: str = "--export-onnx") -> None:
    """Raise ValueError where a package that the ONNX export needs is missing."""
    missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"{flag} needs {', '.join(missing)}: pip install -r requirements-export.txt"
        )


@contextlib.contextmanager
def quiet_export() -> Iterator[None]:
    """Hide the exporters' progress messages and warnings about their own insides."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


def _check(net: nn.Module, theirs: Callable[[Tensor], Tensor], size: int, path: Path) -> float:
    """Return the largest difference of a file's logits to the network's.

    Raises:
        ValueError: it is above TOLERANCE.
    """
    generator, worst = torch.Generator().manual_seed(0), 0.0
    for batch in (1, 3):  # other than the one exported with: the batch must be dynamic
        images = torch.randn(batch, 3, size, size, generator=generator)
        with torch.no_grad():
            difference = (net(images) - theirs(images)).abs().max().item()
        if not difference <= TOLERANCE:  # NaN too
            raise ValueError(
                f"{path}: logits differ from PyTorch's by {difference:.2g}, more than "
                f"{TOLERANCE:g}; the file was not written"
            )
        worst = max(worst, difference)
    return worst


def onnx_program(net: nn.Module, input_size: int) -> torch.onnx.ONNXProgram:
    """Translate a network in eval mode, on the CPU, to ONNX: `images` -> `logits`."""
    with quiet_export():
        program = torch.onnx.export(
            net,
            (torch.zeros(2, 3, input_size, input_size),),  # torch.export would fix a batch of 1
            dynamo=True,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
    assert program is not None  # only the exporter without dynamo returns None
    return program


def torch_program(net: nn.Module, input_size: int) -> torch.export.ExportedProgram:
    """Trace a network in eval mode, on the CPU, by torch.export, for batches of any size."""
    example = torch.zeros(2, 3, input_size, input_size)  # torch.export would fix a batch of 1
    with quiet_export():
        return torch.export.export(
            net, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},)
        )


def export_onnx(net: nn.Module, path: Path, preprocessing: Preprocessing) -> float:
    """Write an ONNX file: `images` [batch, 3, H, W] float32 -> `logits` [batch, K], dynamic batch.

    Args:
        net: in eval mode, on the CPU.
        preprocessing: goes into the metadata, each value as JSON.

    Returns:
        The largest absolute difference of onnxruntime's logits to PyTorch's.

    Raises:
        ValueError: a package is missing, or the difference is above TOLERANCE.
        OSError: the file cannot be written.
    """
    check_onnx_packages()
    import onnx
    import onnxruntime

    size = preprocessing.input_size
    model = onnx_program(net, size).model_proto
    for key, value in preprocessing.values().items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, json.dumps(value)
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString()  # checked in memory, so a wrong file is never written
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def theirs(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])

    worst = _check(net, theirs, size, path)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return worst


def export_torch(net: nn.Module, path: Path, preprocessing: Preprocessing) -> float:
    """Write a torch.export program with a dynamic batch.

    `torch.export.load(path).module()` runs it. Arguments, result and errors are those of
    `export_onnx`; the preprocessing is METADATA_FILE inside.
    """
    size = preprocessing.input_size
    program = torch_program(net, size)
    with quiet_export():
        archive = io.BytesIO()
        extra = {METADATA_FILE: json.dumps(preprocessing.values())}
        torch.export.save(program, archive, extra_files=extra)
        archive.seek(0)
        loaded = torch.export.load(archive).module()  # what a reader of the file will run
    worst = _check(net, loaded, size, path)
    with atomic_path(path) as temporary:
        temporary.write_bytes(archive.getvalue())
    return worst
