"""Flags of train_subnet.py, and which of them an architecture file decides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from config_file.arg_config.data_config import AugmentConfig, DataConfig, calibration_batches_flag
from config_file.arg_config.earlier import command_of, inheritable
from config_file.arg_config.fields import (
    BY_RECIPE,
    NOT_SAVED,
    Values,
    flag,
    flags,
    only,
    option,
    part,
    switch,
    values_of,
)
from config_file.arg_config.run_config import RECIPES, THE_RUN, Command, RunConfig
from config_file.arg_config.training_config import RecipeConfig
from config_file.arg_config.types import integer, number, path
from utils.yaml_file import read_yaml

SUBNET_RECIPES = RECIPES.parent / "subnet_recipe"


@dataclass(frozen=True, kw_only=True)
class UseConfig:
    title: ClassVar[str] = "use of a trained network"

    evaluate: Path | None = flag(
        None,
        path,
        "no training: accuracy of these weights (.safetensors or .pt)",
        marks=[NOT_SAVED],
    )
    benchmark: bool = only("no training: latency and throughput on this device", [NOT_SAVED])
    export_onnx: Path | None = flag(
        None, path, "ONNX file, checked in onnxruntime (requirements-export.txt)", "OUT"
    )
    export_onnx_int8: Path | None = flag(
        None, path, "ONNX file of 8-bit integers, calibrated on training images", "OUT"
    )
    export_torch: Path | None = flag(None, path, "torch.export program (.pt2)", "OUT")
    export_hub: Path | None = flag(
        None, path, "new folder in the Hugging Face Hub's layout, with a model card", "DIR"
    )


def mix_flag(name: str) -> float:
    return flag(
        0.0,
        number(0, 100),
        f"{name} with Beta(alpha, alpha); with both, each batch takes one of them at random; 0 is "
        "none",
        "ALPHA",
        marks=[BY_RECIPE],
    )


@dataclass(frozen=True, kw_only=True)
class RegularisationConfig:
    title: ClassVar[str] = "regularisation"

    ema_decay: float = flag(
        0.0,
        number(0, 0.99999),
        "average the weights with this decay per step, and use the average; 0 does not",
        marks=[BY_RECIPE],
    )
    drop_path: float = flag(
        0.0, number(0, 0.9), "stochastic depth: rate of the last residual branch", marks=[BY_RECIPE]
    )
    mixup: float = mix_flag("mixup")
    cutmix: float = mix_flag("cutmix")


@dataclass(frozen=True, kw_only=True)
class DistillationConfig:
    title: ClassVar[str] = "knowledge distillation"

    teacher: str | None = flag(
        None, str, "architecture of a trained network to learn from", "FILE|NAME"
    )
    teacher_weights: Path | None = flag(None, path, "its .safetensors or .pt")
    distill_weight: float = flag(
        0.5, number(0, 1), "share of the teacher in the loss; the labels have the rest"
    )
    distill_temperature: float = flag(
        2.0, number(0, 100, True), "both networks' logits are divided by it", "T"
    )


@dataclass(frozen=True, kw_only=True)
class SubnetTrainingConfig(RecipeConfig):
    epochs: int = flag(None, integer(0), marks=[BY_RECIPE])
    decay_all: bool = switch(False, "decay batch norms and biases too, not kernels only")
    zero_init: bool = switch(True, "residual branches start at zero")


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    title: ClassVar[str] = "verification of a search"

    verify: Path | None = flag(
        None,
        path,
        "train the answer of this run of search.py, the largest network of its budget and random "
        "ones of the budget, all from scratch by one recipe, and compare them",
        "RUN",
    )
    random: int = flag(8, integer(2), "random networks that the answer is compared with")
    trainings: int = flag(1, integer(1), "trainings of each network, with seeds of their own")
    truth: Path | None = flag(
        None,
        path,
        "JSON to which the accuracies are added, for evaluate_ranking.py and --oracle (default: "
        "truth.json in the run folder)",
        "FILE",
    )


@dataclass(frozen=True, kw_only=True)
class SubnetConfig(Command):
    title: ClassVar[str] = "the network"
    recipes: ClassVar[tuple[Path, ...]] = (RECIPES, SUBNET_RECIPES)

    run: RunConfig = part(RunConfig, THE_RUN)
    arch: str = flag(
        None,
        str,
        "best_architecture.yaml or run folder of a search, a candidate by its index in history.csv "
        "(runs/T:17) or rank (runs/T#3), a published network's name, or the choices",
        "FILE|RUN|NAME",
    )
    list_architectures: bool = only("show the published networks and stop", [NOT_SAVED])
    init_from: Path | None = flag(
        None,
        path,
        "weights at the start: a supernet.pt, of which BN statistics are calibrated, a network's "
        ".safetensors, or timm:fbnetc_100, spnasnet_100 or mobilenetv2_100 (default: random)",
    )
    calibration_batches: int = calibration_batches_flag("--init-from's")
    dropout: float | None = flag(
        None, number(0, 0.99), "before the classifier (default: the search space's)"
    )
    use: UseConfig = part(UseConfig)
    verification: VerifyConfig = part(VerifyConfig)
    data: DataConfig = part(DataConfig)
    training: SubnetTrainingConfig = part(SubnetTrainingConfig)
    augment: AugmentConfig = part(AugmentConfig)
    regularisation: RegularisationConfig = part(RegularisationConfig)
    distillation: DistillationConfig = part(DistillationConfig)

    @classmethod
    def inherited(cls, chosen: Values) -> Values:
        """Return dataset and size of a found architecture; published ones take the dataset's size.

        A benchmark needs no dataset, so it takes the architecture's size unless one is given.
        """
        if chosen.get("verify") is not None:
            return cls.from_search(Path(str(chosen["verify"])))
        if chosen.get("arch") is None:
            return {}
        # lazily, as it loads torch
        from model.architecture_source import ARCHITECTURE_DIR, read_source

        file, spec = read_source(chosen["arch"])
        found_on = spec.get("dataset")
        values: Values = {} if found_on is None else {"dataset": found_on}
        same_data = found_on is None or chosen.get("dataset") in (None, found_on)
        no_data = chosen.get("benchmark") and "dataset" not in chosen and "evaluate" not in chosen
        if no_data or (same_data and file.parent != ARCHITECTURE_DIR):
            values["input_size"] = spec["input_size"]
        return values

    @classmethod
    def from_search(cls, folder: Path) -> Values:
        """Return dataset flags of a run of search.py.

        Raises:
            ValueError: it is no run.
        """
        path = folder / "config.yaml"
        if not path.is_file():
            raise ValueError(f"{folder} is no run of search.py: {path} is missing")
        content = read_yaml(path)
        if not isinstance(content, dict) or (script := command_of(content)) != "search.py":
            of = f"a run of {script}" if isinstance(content, dict) else "damaged"
            raise ValueError(f"{path}: --verify takes a run of search.py, this is {of}")
        return inheritable(cls, {str(k).replace("-", "_"): v for k, v in content.items()})

    @property
    def trains(self) -> bool:
        """True if the network is trained, not only evaluated or measured."""
        return self.use.evaluate is None and not self.use.benchmark

    def ignored_flags(self) -> list[str]:
        return sorted(option(name) for name in self.training.idle_flags & self.typed)

    def problems(self) -> Iterator[str]:
        teacher = self.distillation
        if self.list_architectures:
            return
        if (teacher.teacher is None) != (teacher.teacher_weights is None):
            yield "--teacher and --teacher-weights belong together; give both"
        if self.trains:
            yield from self.training.problems(self.typed)
        if self.verification.verify is not None:
            yield from self.verify_problems(self.verification.verify)
            return
        for name in sorted(flags(VerifyConfig).keys() & self.typed):
            yield f"{option(name)} belongs to --verify RUN; give that too"
        if self.use.benchmark and self.use.evaluate is None:
            for name in sorted(flags(UseConfig).keys() & self.typed):
                if name.startswith("export_"):
                    yield f"{option(name)} needs a trained network; give --evaluate WEIGHTS too"
        if self.arch is None:
            yield "--arch is missing: a file, or a name that --list-architectures shows"
        if self.trains and self.training.epochs == 0 and self.init_from is None:
            yield "--epochs 0 evaluates the weights of --init-from; give that too"

    def verify_problems(self, run: Path) -> Iterator[str]:
        """Yield what does not go with --verify, whose trainings are many and from scratch."""
        given = values_of(self)
        for name in ("arch", "init_from", *flags(UseConfig)):
            if given[name]:
                yield f"--verify trains networks of a search from scratch; leave {option(name)} out"
        if self.training.epochs == 0:
            yield "--verify trains networks from scratch; --epochs 0 does not"
        searched = self.from_search(run)
        for name in ("dataset", "data_path"):  # the score is of the search's images
            ours, theirs = given[name], searched.get(name)
            if name == "data_path" and ours and theirs:
                ours, theirs = Path(ours).resolve(), Path(theirs).resolve()
            if ours != theirs:
                yield (
                    f"{option(name)} {given[name]}: --verify trains on its search's images "
                    f"({searched.get(name, 'the default')}); leave it out"
                )
