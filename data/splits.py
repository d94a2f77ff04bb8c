"""Train, validation and test: validation is carved from train, test is only for the end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from config_file.arg_config.data_config import AugmentConfig, DataConfig
from config_file.arg_config.fields import changed, values_of
from config_file.arg_config.sources import Command
from data.augment import Augmentation
from data.cache import decode
from data.datasets import DATASETS, SPLIT_SEED, Color, RawData
from data.images import ImageFiles, Images, fingerprint, fit
from data.loader import Loader, MemoryLoader, pad
from data.stratified import stratified_split
from data.streaming import StreamingLoader
from utils import ranks
from utils.files import atomic_path
from utils.preprocessing import SMALL, Preprocessing, short_side

C = TypeVar("C", bound=Command)
log = logging.getLogger("oneshot_nas")
MEMORY_LIMIT = 4 * 2**30  # bytes of decoded images; a constant, so that no result depends on RAM
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
    fingerprint: str

    @property
    def preprocessing(self) -> Preprocessing:
        """What validation and test images went through, for networks trained on these splits."""
        return Preprocessing(
            input_size=self.input_size,
            resize=short_side(self.input_size),
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

    def save(self, path: Path) -> None:
        """Write which image is in which part, as .npz."""
        test = np.arange(self.test.num_images)
        np.savez_compressed(path, **self.indices, test=test, fingerprint=self.fingerprint)

    def check(self, path: Path) -> None:
        """Raises ValueError where a saved file is not of these splits."""
        try:
            with np.load(path) as saved:
                stored = {name: saved[name] for name in saved.files}
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"{path} is damaged; remove it and run again") from error
        same = str(stored.get("fingerprint")) == self.fingerprint and all(
            np.array_equal(stored.get(name), rows) for name, rows in self.indices.items()
        )
        if not same:
            raise ValueError(
                f"{path} has other images than the dataset has now: files were added, removed or "
                f"renamed; restore them, or start another run"
            )

    def keep(self, folder: Path) -> None:
        """Write splits.npz of a run; in one that is resumed, check that its images are the same."""
        path = folder / "splits.npz"
        if path.exists():
            self.check(path)
            return
        with atomic_path(path) as temporary:
            self.save(temporary)


class Parts(NamedTuple):
    """What becomes of a dataset's train and test images: arrays, or images to be streamed."""

    train: Images
    test: Images
    mean_std: tuple[Color, Color]


def split_train(
    labels: np.ndarray, train_portion: float, classes: tuple[str, ...] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Stratified indices of train and validation, the same for every run.

    Raises:
        ValueError: a part would lack images of a class.
    """
    counts = np.bincount(labels)
    if counts.min() < 2:
        few = int(counts.argmin())
        name = classes[few] if classes else few
        raise ValueError(
            f"class '{name}' has {counts[few]} training image(s); it needs 2 or more, one to train "
            f"and one to validate"
        )
    try:
        train, validation = stratified_split(labels, train_portion, SPLIT_SEED)
    except ValueError as error:
        raise ValueError(
            f"--train-portion {train_portion} leaves too few images for one of the parts: {error}"
        ) from error
    return np.sort(train), np.sort(validation)


def resize(images: np.ndarray, size: int) -> Tensor:
    """uint8 [N, H, W, 3] -> uint8 [N, size, size, 3]."""
    if images.shape[1:3] == (size, size):
        return torch.from_numpy(np.ascontiguousarray(images))
    resized = torch.empty((len(images), size, size, 3), dtype=torch.uint8)
    for start in range(0, len(images), 1000):  # float copies of all at once would be 4 times as big
        part = torch.from_numpy(images[start : start + 1000]).permute(0, 3, 1, 2).float()
        part = F.interpolate(part, (size, size), mode="bilinear", antialias=True)
        resized[start : start + 1000] = part.round().clamp(0, 255).permute(0, 2, 3, 1)
    return resized


def choose_pipeline(raw: RawData, size: int, randaugment: int, wanted: str) -> str:
    """`memory` for what fits decoded, `streaming` for the rest and for what only it can do.

    Files (and fake images) above 64 px are streamed, as their usual augmentation, random crops of
    random area, needs the whole image.

    Raises:
        ValueError: memory is asked for, where it cannot be.
    """
    number = len(raw.train_images) + len(raw.test_images)
    needed = number * 3 * size**2
    if wanted == "memory":
        if randaugment:
            raise ValueError(
                "--randaugment is done image by image and needs --data-pipeline streaming or auto"
            )
        if needed > MEMORY_LIMIT:
            raise ValueError(
                f"--data-pipeline memory: {number:,} images of {size} px are "
                f"{needed / 2**30:.1f} GiB, the limit is {MEMORY_LIMIT // 2**30}; use streaming"
            )
    if wanted != "auto":
        return wanted
    large_files = not isinstance(raw.train_images, np.ndarray) and size > SMALL
    return "streaming" if randaugment or large_files or needed > MEMORY_LIMIT else "memory"


def prepare(
    raw: RawData, size: int, pipeline: str, num_workers: int, cache_dir: Path | None
) -> Parts:
    """Decode what is small or goes to memory, verify the rest; both once, see data/cache.py.

    Raises:
        ValueError: files that are no images.
    """
    if isinstance(raw.train_images, ImageFiles):
        keep = size <= SMALL or pipeline == "memory"
        train, test = (
            decode(x, size, keep, num_workers, cache_dir)
            for x in (raw.train_images, raw.test_images)
        )
        mean_std = raw.mean_std or train.mean_std()
        if keep:
            return Parts(train.pixels, test.pixels, mean_std)
        return Parts(raw.train_images, raw.test_images, mean_std)
    assert raw.mean_std is not None
    if pipeline == "memory" and not isinstance(raw.train_images, np.ndarray):
        arrays = [
            np.stack([np.asarray(fit(images[i], size)) for i in range(len(images))])
            for images in (raw.train_images, raw.test_images)
        ]
        return Parts(*arrays, raw.mean_std)
    return Parts(raw.train_images, raw.test_images, raw.mean_std)


def _carve(data: DataConfig) -> tuple[RawData, np.ndarray, np.ndarray]:
    """Load a dataset; returns it and the indices of train and validation."""
    raw = DATASETS[data.dataset](data.data_path)
    train, validation = split_train(raw.train_labels, data.train_portion, raw.classes)
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


def _loaders_of(
    images: Images,
    size: int,
    padding: int,
    pipeline: str,
    num_workers: int,
    mean_std: tuple[Color, Color],
    device: torch.device,
) -> Callable[..., Loader]:
    """Prepare images of one part for loaders; call the result with rows, labels and batch size."""
    mean, std = mean_std
    if pipeline == "memory":
        padded = pad(resize(images, size), padding, device)
        return partial(MemoryLoader, padded, padding, mean=mean, std=std, device=device)
    return partial(StreamingLoader, images, size, num_workers, mean=mean, std=std, device=device)


def load_splits(
    data: DataConfig,
    augment: AugmentConfig,
    batch_size: int,
    seed: int,
    device: torch.device,
    cache_dir: Path | None = None,
    rank: int | None = None,
    world_size: int | None = None,
) -> Splits:
    """Load a dataset, carve validation from its train part, make a loader of each part.

    Args:
        augment: without `augment.augment` training images are only shuffled, and what
            `color_jitter`, `randaugment` and `cutout` say.
        batch_size: of training, over all processes; of fewer images, as many as there are.
        seed: of the order and augmentation of training images.
        cache_dir: where decoded images are kept if the folder cannot be written.
        rank, world_size: which part of every training batch this process gets, by default as
            torchrun says; the other loaders are whole on every process, see `Loader.sharded`.

    Raises:
        ValueError: an unusable folder, file, portion, size or batch size.
    """
    rank = ranks.rank() if rank is None else rank
    world_size = ranks.world_size() if world_size is None else world_size
    input_size, eval_batch_size = data.input_size, data.eval_batch_size
    raw, train, validation = _carve(data)
    if world_size > len(train):
        raise ValueError(f"{len(train)} training images cannot be shared by {world_size} processes")
    if batch_size > len(train):
        batch_size = len(train) // world_size * world_size  # shared evenly
    chosen = choose_pipeline(raw, input_size, augment.randaugment, data.data_pipeline)
    if augment.cutout > input_size:
        raise ValueError(f"--cutout {augment.cutout} is larger than the images of {input_size} px")
    parts = prepare(raw, input_size, chosen, data.num_workers, cache_dir)
    augmentation = _augmentation(parts.train, input_size, raw.flip, augment)
    of_train, of_test = (
        _loaders_of(images, input_size, padding, chosen, data.num_workers, parts.mean_std, device)
        for images, padding in ((parts.train, augmentation.padding), (parts.test, 0))
    )
    rows = torch.from_numpy
    train_labels, test_labels = rows(raw.train_labels), rows(raw.test_labels)
    mixed = np.random.default_rng(SPLIT_SEED).permutation(train)  # classes mixed in each batch
    drawn = {"augmentation": augmentation, "seed": seed, "rank": rank, "world_size": world_size}
    fitting = max(1, min(batch_size, len(validation)) // world_size) * world_size  # shared evenly
    return Splits(
        train=of_train(rows(train), train_labels, batch_size, **drawn),
        calibration=of_train(rows(mixed), train_labels, eval_batch_size),
        validation=of_train(rows(validation), train_labels, eval_batch_size),
        alpha_train=of_train(rows(validation), train_labels, fitting, **drawn),
        test=of_test(torch.arange(len(test_labels)), test_labels, eval_batch_size),
        indices={"train": train, "validation": validation},
        classes=raw.classes,
        mean=parts.mean_std[0],
        std=parts.mean_std[1],
        input_size=input_size,
        fingerprint=fingerprint(raw.train_images, raw.train_labels, raw.classes),
    )
