"""Train, validation and test: validation is carved from train, test is only for the end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from config_file.arg_config.data_config import AugmentConfig, DataConfig
from config_file.arg_config.fields import changed, values_of
from config_file.arg_config.run_config import Command
from data.augment import Augmentation
from data.datasets import DATASETS, SPLIT_SEED, Color, RawData
from data.images import Images, fingerprint
from data.loader import BatchSpec, Loader
from data.pipelines import choose_pipeline, loaders_of, prepare
from data.stratified import stratified_split
from utils import ranks
from utils.files import atomic_path
from utils.preprocessing import Preprocessing
from utils.run_folder import log

C = TypeVar("C", bound=Command)
PADDING_SHARE = 1 / 8  # of an image's side, for random crops: 4 px of CIFAR's 32


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Three disjoint parts of a dataset as loaders.

    Attributes:
        train: augmented and shuffled, drops the last, smaller batch.
        calibration: the training images as they are, in a fixed random order.
        validation: what a search looks at; as they are, in order, every image.
        alpha_train: the validation images, augmented and shuffled: a differentiable search trains
            architecture parameters on them.
        test: for the final network only; as they are, in order, every image.
        indices: of train and validation within the dataset's train part.
        classes: names, in the order of labels.
        mean, std: per channel, of images scaled to [0, 1]; what loaders normalise with.
        input_size: px of a side.
        resize: px that the short side of an image had before its centre was cropped.
        fingerprint: sha256 of the class names, the labels and, of a folder, the file names.
    """

    train: Loader
    calibration: Loader
    validation: Loader
    alpha_train: Loader
    test: Loader
    indices: dict[str, np.ndarray]
    classes: tuple[str, ...]
    mean: Color
    std: Color
    input_size: int
    resize: int
    fingerprint: str

    @property
    def preprocessing(self) -> Preprocessing:
        """Preprocessing of validation and test images, for networks trained on these splits."""
        return Preprocessing(
            input_size=self.input_size,
            resize=self.resize,
            mean=self.mean,
            std=self.std,
            classes=self.classes,
        )

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def fitted(self, config: C) -> C:
        """Lower batch sizes and counts of a recipe to what the training images allow, and say so.

        Raises:
            ValueError: a value that was typed is too large.
        """
        number, batch = self.train.num_images, self.calibration.batch_size
        if not len(self.train):
            raise ValueError(
                f"there are {number} training images, fewer than processes; start at most {number}"
            )
        limits = {"batch_size": self.train.batch_size, "calibration_batches": len(self.calibration)}
        values = values_of(config)
        lower = {name: n for name, n in limits.items() if (values.get(name) or 0) > n}
        for name in sorted(lower.keys() & config.typed):
            of = f" of {batch} images" if name == "calibration_batches" else ""
            raise ValueError(
                f"--{name.replace('_', '-')} {values[name]}{of}: there are {number} training "
                f"images; take {lower[name]} or fewer"
            )
        if "calibration_batches" in lower:  # a last, smaller batch would count like the others
            lower["calibration_batches"] = max(1, number // batch)
        changes = [f"--{k.replace('_', '-')} {n} instead of {values[k]}" for k, n in lower.items()]
        if changes:
            log.info(f"note: there are {number} training images, so {', '.join(changes)}")
        return changed(config, **lower)

    def keep(self, folder: Path) -> None:
        """Write splits.npz of a run, which image is in which part.

        Raises:
            ValueError: the run is resumed, and its file is damaged or not of these splits.
        """
        path = folder / "splits.npz"
        if not path.exists():
            with atomic_path(path) as temporary:
                np.savez_compressed(
                    temporary,
                    train=self.indices["train"],
                    validation=self.indices["validation"],
                    test=np.arange(self.test.num_images),
                    fingerprint=np.array(self.fingerprint),
                )
            return
        try:
            with np.load(path) as saved:
                stored = {name: saved[name] for name in saved.files}
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"{path} is damaged; remove it and run again") from error
        same = str(stored.get("fingerprint")) == self.fingerprint and all(
            name in stored and np.array_equal(stored[name], rows)
            for name, rows in (self.indices | {"test": np.arange(self.test.num_images)}).items()
        )
        if not same:
            raise ValueError(
                f"{path} has other images than the dataset has now: files were added, removed or "
                f"renamed; restore them, or start another run"
            )


def _carve(data: DataConfig) -> tuple[RawData, np.ndarray, np.ndarray]:
    """Load a dataset and draw stratified indices of train and validation, the same for every run.

    Raises:
        ValueError: a part would lack images of a class.
    """
    raw = DATASETS[data.dataset](data.data_path)
    counts = np.bincount(raw.train_labels)  # images per class
    if counts.min() < 2:
        few = int(counts.argmin())
        raise ValueError(
            f"class '{raw.classes[few]}' has {counts[few]} training image(s); it needs 2 or more, "
            f"one to train and one to validate"
        )
    try:
        parts = stratified_split(raw.train_labels, data.train_portion, SPLIT_SEED)
    except ValueError as error:
        raise ValueError(
            f"--train-portion {data.train_portion} leaves too few images for one of the parts: "
            f"{error}"
        ) from error
    train, validation = map(np.sort, parts)
    log.info(
        f"{data.dataset}: {len(raw.classes)} classes; {len(train):,} images to train, "
        f"{len(validation):,} to validate, {len(raw.test_labels):,} to test"
    )
    return raw, train, validation


def _augmentation(images: Images, size: int, flip: bool, config: AugmentConfig) -> Augmentation:
    """Resolve flags for training images; crops are of random area where whole files are read."""
    how = Augmentation(
        cutout=config.cutout, randaugment=config.randaugment, color_jitter=config.color_jitter
    )
    if not config.augment:
        return how
    padding = round(PADDING_SHARE * size)
    whole_files = not isinstance(images, np.ndarray)
    return replace(how, padding=padding, flip=flip, resized_crop=whole_files)


def _shared_evenly(number: int, world_size: int) -> int:
    """Round a batch size down to a multiple of the processes; at least one image each."""
    return max(1, number // world_size) * world_size


def load_splits(
    data: DataConfig,
    augment: AugmentConfig,
    batch_size: int,
    seed: int,
    device: torch.device,
    cache_dir: Path | None = None,
    rank: int | None = None,
    world_size: int | None = None,
    mean_std: tuple[Color, Color] | None = None,
) -> Splits:
    """Load a dataset, carve validation from its train part, make a loader of each part.

    Args:
        augment: of training images, which are shuffled in any case.
        batch_size: of training, over all processes; of fewer images, as many as there are.
        seed: of the order and augmentation of training images.
        cache_dir: where decoded images are kept if the folder cannot be written.
        rank, world_size: the part of training batches that this process gets; None: torchrun's.
        mean_std: what images are normalised with; None: the dataset's own.

    Raises:
        ValueError: an unusable folder, file, portion, size or batch size.
    """
    rank = ranks.rank() if rank is None else rank
    world_size = ranks.world_size() if world_size is None else world_size
    raw, train, validation = _carve(data)
    if batch_size > len(train):
        batch_size = _shared_evenly(len(train), world_size)
    if augment.cutout > data.input_size:
        raise ValueError(f"--cutout {augment.cutout} is larger than {data.input_size} px images")
    chosen = choose_pipeline(raw, data.input_size, augment.randaugment, data.data_pipeline)
    parts = prepare(raw, data.input_size, chosen, data.num_workers, cache_dir)
    augmentation = _augmentation(parts.train, data.input_size, raw.flip, augment)
    of_train = loaders_of(parts.train, augmentation.padding, chosen, data, device)
    of_test = loaders_of(parts.test, 0, chosen, data, device)  # no padding: never cropped at random
    labels, test_labels = torch.from_numpy(raw.train_labels), torch.from_numpy(raw.test_labels)
    mean, std = mean_std or parts.mean_std

    def plain(rows: np.ndarray, labels: Tensor) -> BatchSpec:
        number = data.eval_batch_size
        return BatchSpec(torch.from_numpy(rows), labels, number, mean, std, device)

    def drawn(rows: np.ndarray, number: int) -> BatchSpec:
        more = augmentation, seed, rank, world_size
        return BatchSpec(torch.from_numpy(rows), labels, number, mean, std, device, *more)

    mixed = np.random.default_rng(SPLIT_SEED).permutation(train)  # classes mixed in each batch
    fitting = _shared_evenly(min(batch_size, len(validation)), world_size)  # of alpha_train
    return Splits(
        train=of_train(drawn(train, batch_size)),
        calibration=of_train(plain(mixed, labels)),
        validation=of_train(plain(validation, labels)),
        alpha_train=of_train(drawn(validation, fitting)),
        test=of_test(plain(np.arange(len(test_labels)), test_labels)),
        indices={"train": train, "validation": validation},
        classes=raw.classes,
        mean=mean,
        std=std,
        input_size=data.input_size,
        resize=parts.resize,
        fingerprint=fingerprint(raw.train_images, raw.train_labels, raw.classes),
    )
