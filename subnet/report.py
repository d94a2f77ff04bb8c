"""What is left of a network: files, architecture file, model card; speed, the published ones."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import numpy as np
import torch
import yaml

from config_file.arg_config.fields import values_of
from config_file.arg_config.subnet_config import SubnetConfig, UseConfig
from data import Splits
from lookup_table import LookupTable
from lookup_table.latency import measure_speed
from model import (
    Preprocessing,
    SearchSpace,
    Subnet,
    architecture_facts,
    count_params,
    describe,
    find_architecture,
    fold_batch_norms,
    published_architectures,
    read_architecture,
    save_weights,
)
from model.space_file import load_space_file
from subnet.card import model_card, provenance
from subnet.export import export_files
from utils.draw import draw_architecture
from utils.evaluation import Scores
from utils.files import atomic_path, write_text
from utils.metrics import METRICS, in_millions
from utils.run_folder import log

SPACE_FILE = "search_space.yaml"  # a copy in the run folder, where the space is the user's own
RECIPE = """
    epochs batch_size optimizer lr momentum weight_decay lr_scheduler warmup_epochs
    label_smoothing grad_clip augment randaugment cutout mixup cutmix dropout drop_path ema_decay
    init_from teacher teacher_weights distill_weight distill_temperature train_portion
"""


def save_files(net: Subnet, splits: Splits, use: UseConfig, weights: Path | None) -> None:
    """The weights, and the exports asked for, each with the preprocessing that it needs."""
    preprocessing: Preprocessing = {
        "input_size": splits.input_size,
        "mean": list(splits.mean),
        "std": list(splits.std),
        "classes": list(splits.classes),
    }
    if weights is not None:
        with atomic_path(weights) as temporary:
            save_weights(net, temporary, preprocessing)
    for message in export_files(net, preprocessing, use.export_onnx, use.export_torch):
        log.info(message)


def save_architecture(
    folder: Path, space: SearchSpace, architecture: np.ndarray, table: LookupTable, extra: dict
) -> None:
    """best_architecture.yaml of a run folder, which is then all that the network's weights need."""
    facts = architecture_facts(space, architecture)
    if space.name.endswith((".yaml", ".yml")):
        spec = load_space_file(space.name)
        del spec["user_file"]
        write_text(folder / SPACE_FILE, yaml.safe_dump(spec, sort_keys=False))
        facts["search_space"] = SPACE_FILE
    facts |= {metric: int(table.cost(architecture, metric)) for metric in METRICS}
    write_text(folder / "best_architecture.yaml", yaml.safe_dump(facts | extra, sort_keys=False))


def write_card(
    folder: Path,
    space: SearchSpace,
    architecture: np.ndarray,
    table: LookupTable,
    splits: Splits,
    config: SubnetConfig,
    best: dict,
    test: Scores,
) -> None:
    """README.md and architecture.png of a run folder."""
    costs = {m: in_millions(int(table.cost(architecture, m))) for m in METRICS}
    picture = f"{space.name}, {space.input_size} px: {costs['flops']} {table.unit('flops')}"
    draw_architecture(folder / "architecture.png", describe(space, architecture), picture)
    numbers = {
        "test top-1": f"{test.top1:.2f} % of {test.images:,} images",
        "validation top-1": f"{best['top1']:.2f} % (epoch {best['epoch']} of "
        f"{config.training.epochs}, the best)",
        "MACs": f"{costs['flops']} M",
        "params": f"{costs['params']} M",
        "train, validation images": f"{splits.train.num_images:,}, "
        f"{splits.validation.num_images:,}",
    }
    preprocessing = {
        "input": f"RGB, {space.input_size} × {space.input_size} px, scaled to [0, 1]",
        "mean": ", ".join(f"{v:.4f}" for v in splits.mean),
        "std": ", ".join(f"{v:.4f}" for v in splits.std),
    }
    again = f"python train_subnet.py --config {folder / 'config.yaml'} --title again"
    flags = values_of(config)
    recipe = {
        name.replace("_", " "): str(flags[name])
        for name in RECIPE.split()
        if flags[name] not in (None, 0, 0.0, False)
    }
    if config.distillation.teacher is None:
        recipe.pop("distill weight"), recipe.pop("distill temperature")
    choices = " ".join(space.decode(architecture))
    text = model_card(
        folder.name,
        f"A network of the search space {space.name}, trained on {config.data.dataset}: "
        f"`{choices}`",
        numbers,
        splits.classes,
        preprocessing,
        [
            again,
            "# as it was started:",
            shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]),
        ],
        recipe,
        provenance(config.run.random_seed, str(splits.train.device)),
        (folder / "confusion.png").exists(),
    )
    write_text(folder / "README.md", text)


def benchmark_text(
    net: Subnet,
    architecture: np.ndarray,
    table: LookupTable,
    input_size: int,
    batch: int,
    device: torch.device,
) -> str:
    """Latency and throughput here, beside what the table says of the architecture."""
    lines = [f"{device}, {torch.get_num_threads()} CPU threads, {input_size} px, float32"]
    lines.append(f"{'':<22}{'batch':>6}{'ms (median ± IQR/2)':>22}{'images/s':>12}")
    for name, module in (("as trained", net), ("batch norms folded", fold_batch_norms(net))):
        for size in (1, batch):
            speed = measure_speed(module.to(device), size, input_size, device)
            time = f"{speed.median_ms:.3f} ± {speed.iqr_ms / 2:.3f}"
            lines.append(f"{name:<22}{size:>6}{time:>22}{speed.images_per_s:>12,.0f}")
    for metric in table.costs:
        cost = in_millions(int(table.cost(architecture, metric)))
        lines.append(f"table: {cost} {table.unit(metric)}")
    lines.append(f"this network: {in_millions(count_params(net))} M params")
    return "\n".join(lines)


def published_text() -> str:
    """The networks that `--arch` takes by name, by search space and MACs."""
    specs = {name: read_architecture(find_architecture(name)) for name in published_architectures()}
    order = sorted(specs, key=lambda n: (specs[n]["search_space"], specs[n]["flops"]))
    lines = [f"{'name':<22}{'space':<18}{'px':>5}{'M MACs':>10}{'M params':>10}  source"]
    for name in order:
        spec = specs[name]
        macs, params = (f"{spec[m] / 1e6:,.1f}" for m in ("flops", "params"))
        space = Path(spec["search_space"]).stem
        lines.append(
            f"{name:<22}{space:<18}{spec['input_size']:>5}{macs:>10}{params:>10}  "
            f"{spec.get('paper') or spec['source'].split()[0]}"
        )
    return "\n".join(lines)
