"""A network that train_subnet.py trains: its costs and images, its architecture file and card."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from config_file.arg_config.fields import values_of
from config_file.arg_config.subnet_config import SubnetConfig
from data import Splits, load_splits
from data.datasets import Color
from lookup_table import METRICS, LookupTable, in_millions
from lookup_table.builder import load_table
from model import (
    SearchSpace,
    Subnet,
    architecture_record,
    architecture_text,
    load_architecture,
    load_trained,
)
from utils.classifier import Objective, build_mixing
from utils.files import write_text
from utils.model_card import ModelCard, provenance
from utils.tracker import load_callback

ARCHITECTURE = "best_architecture.yaml"  # of a run folder
RECIPE = """
    epochs batch_size optimizer lr momentum nesterov weight_decay decay_all lr_scheduler
    warmup_epochs label_smoothing grad_clip zero_init augment color_jitter randaugment cutout
    mixup cutmix dropout drop_path ema_decay
    init_from teacher teacher_weights distill_weight distill_temperature train_portion
"""  # flags that a card names where they are set


@dataclass(frozen=True)
class Inputs:
    """A network's place in its space, its costs, and the images."""

    space: SearchSpace
    architecture: np.ndarray
    table: LookupTable
    splits: Splits

    @classmethod
    def load(
        cls,
        config: SubnetConfig,
        arch: str | Path,
        device: torch.device,
        mean_std: tuple[Color, Color] | None = None,
    ) -> Inputs:
        """Load them by the flags and an architecture file or published network."""
        run, data, batch_size = config.run, config.data, config.training.batch_size
        more = config.augment, batch_size, run.random_seed, device, run.cache
        splits = load_splits(data, *more, mean_std=mean_std)
        space, architecture = load_architecture(arch, data.input_size, splits.num_classes)
        return cls(space, architecture, load_table(space, run.cache_dir), splits)

    @property
    def costs(self) -> dict[str, int]:
        """MACs and params, by metric."""
        return {metric: int(self.table.cost(self.architecture, metric)) for metric in METRICS}

    @property
    def macs(self) -> str:
        """MACs, for people."""
        return f"{in_millions(self.costs['flops'])} M"

    def save_architecture(self, folder: Path, extra: dict) -> None:
        """Write a run's architecture file, which is then all that the network's weights need."""
        facts = architecture_record(self.space, self.architecture) | self.costs | extra
        write_text(folder / ARCHITECTURE, architecture_text(facts))

    def card(
        self, title: str, config: SubnetConfig, scores: dict[str, str], folder: Path | None = None
    ) -> ModelCard:
        """Describe the trained network.

        Args:
            scores: accuracies, by the images they are of.
            folder: of the run; None: the network was trained elsewhere.
        """
        space, splits, dataset = self.space, self.splits, config.data.dataset
        flags = values_of(config)
        if config.distillation.teacher is None:  # these have defaults without effect
            flags["distill_weight"] = flags["distill_temperature"] = None
        recipe = {k.replace("_", " "): str(flags[k]) for k in RECIPE.split() if flags[k]}
        started = shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]])
        again = f"python train_subnet.py --config {folder}/config.yaml --title again"
        return ModelCard(
            title=title,
            summary=f"A network of the search space {space.name}, trained on {dataset}: "
            f"`{' '.join(space.decode(self.architecture))}`",
            dataset=dataset,
            numbers={
                **scores,
                "MACs": self.macs,
                "params": f"{in_millions(self.costs['params'])} M",
                "train, validation images": f"{splits.train.num_images:,}, "
                f"{splits.validation.num_images:,}",
            },
            preprocessing=splits.preprocessing,
            commands=[again, "# as it was started:", started] if folder else (),
            recipe=recipe if folder else {},
            made_with=provenance(config.run.random_seed, str(splits.train.device)),
        )


def build_objective(config: SubnetConfig, num_classes: int, device: torch.device) -> Objective:
    """Build the loss of a step.

    Raises:
        ValueError: the teacher's files are not usable, or do not fit.
    """
    mixing = build_mixing(config.regularisation.mixup, config.regularisation.cutmix, num_classes)
    criterion = nn.CrossEntropyLoss(label_smoothing=config.training.label_smoothing)
    flags = config.distillation
    if flags.teacher is None or flags.teacher_weights is None:  # both or neither
        return Objective(mixing, criterion)
    teacher = Subnet(*load_architecture(flags.teacher, config.data.input_size, num_classes))
    load_trained(teacher, flags.teacher_weights)
    teacher.eval().to(device).to(memory_format=torch.channels_last)
    return Objective(mixing, criterion, teacher, flags.distill_weight, flags.distill_temperature)


def check_training(config: SubnetConfig, arch: Path, device: torch.device) -> None:
    """Raise ValueError, before anything is written, where a training alone could not begin."""
    run, data, batch_size = config.run, config.data, config.training.batch_size
    splits = load_splits(
        data, config.augment, batch_size, run.random_seed, device, run.cache, 0, world_size=1
    )
    splits.fitted(config)
    load_architecture(arch, data.input_size, splits.num_classes)
    build_objective(config, splits.num_classes, device)
    load_callback(run.tracker)
