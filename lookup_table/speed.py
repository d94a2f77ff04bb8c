"""The speed of one whole network on this device, by each way of running it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lookup_table import Budget, BudgetCounts, Equivalence
from lookup_table.builder import load_latency, load_table
from lookup_table.latency import WARM_UP, LatencySettings, latency_rows, timer_of
from model import SearchSpace
from model.export import ONNX_PACKAGES, onnx_program, torch_program
from model.subnet import Subnet, count_params, fold_batch_norms
from model.supernet import IN_CHS
from utils.metrics import METRICS, MILLION, in_millions

if TYPE_CHECKING:
    from torch.utils.benchmark.utils.common import Measurement

Run = Callable[[Tensor], object]
SPEED_SECONDS = 1.0  # of measuring a network, per batch size


def measure_speed(run: Run, batch: int, input_size: int, device: torch.device) -> Measurement:
    """Time forward passes of a whole network on the device, in the threads that PyTorch has."""
    images = torch.zeros(batch, IN_CHS, input_size, input_size, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    timer = timer_of(run, images, torch.get_num_threads())
    with torch.inference_mode():
        timer.timeit(WARM_UP)
        return timer.blocked_autorange(min_run_time=SPEED_SECONDS)


def ways_to_run(net: Subnet, input_size: int, device: torch.device) -> Iterator[tuple[str, Run]]:
    """Yield each way of running a network on a device, by name; ONNX Runtime if installed."""
    folded = fold_batch_norms(net)
    yield "as trained", net.eval().to(device)
    exported = torch_program(folded.cpu(), input_size).module()
    if all(importlib.util.find_spec(name) for name in ONNX_PACKAGES) and device.type == "cpu":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        content = onnx_program(folded, input_size).model_proto.SerializeToString()
        session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
        yield "ONNX Runtime", lambda x: session.run(None, {"images": x.contiguous().numpy()})
    yield "batch norms folded", folded.to(device)
    yield "torch.export", exported.to(device)


def speed_text(
    net: Subnet, space: SearchSpace, architecture: np.ndarray, batch: int, cache_dir: Path | None
) -> str:
    """Measure a network on the device that it is on, beside what tables say of it.

    Args:
        batch: measured beside a batch of 1.
        cache_dir: of tables; its blocks are measured on the device, too.
    """
    device, threads = next(net.parameters()).device, torch.get_num_threads()
    settings = LatencySettings(device=device, threads=threads, seconds=SPEED_SECONDS / 10)
    table = load_latency(space, load_table(space, cache_dir), settings, cache_dir)
    predicted = float(table.cost(architecture, "latency")) / MILLION
    lines = [f"{device}, {threads} CPU threads, {space.input_size} px, float32"]
    lines.append(
        f"{'':<20}{'batch':>6}{'ms (median ± IQR/2)':>22}{'images/s':>11}{'sum of blocks':>18}"
    )
    for name, run in ways_to_run(net, space.input_size, device):
        for size in (1, batch):
            speed = measure_speed(run, size, space.input_size, device)
            median, half_range = 1000 * speed.median, 1000 * speed.iqr / 2
            time = f"{median:.3f} ± {half_range:.3f}"
            line = f"{name:<20}{size:>6}{time:>22}{1000 * size / median:>11,.0f}"
            ratio = f"{predicted:.3f} ({predicted / median:.2f} ×)"
            lines.append(line + (f"{ratio:>18}" if size == 1 else ""))  # the table is of batch 1
    everything = Budget(BudgetCounts(table, "flops", Equivalence(space)), None, None)
    rows = latency_rows(space, everything, architecture, settings)
    lines += [f"{name}: {text}" for name, text in rows.items()]
    for metric in METRICS:
        cost = in_millions(int(table.cost(architecture, metric)))
        lines.append(f"table: {cost} {table.unit(metric)}")
    lines.append(f"this network: {in_millions(count_params(net))} M params")
    return "\n".join(lines)
