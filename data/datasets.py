"""The datasets: a train part and a test part each, in memory or decoded image by image.

Adding one is a function `(folder) -> RawData`, a line in DATASETS and a recipe YAML under
config_file/dataset/.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from data.images import EXTENSIONS, FakeImages, ImageFiles, Images, left_out_text, list_files
from data.stratified import stratified_split
from utils.files import locked
from utils.run_folder import log

SPLIT_SEED = 0  # splits belong to the dataset, not to a run: every run has the same test images
DIGITS_TEST_SHARE = 0.25
TEST_SHARE = 0.2  # of a folder that is not split into train and test
Color = tuple[float, ...]  # one number per channel
IMAGENET_MEAN_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Some = TypeVar("Some", bound=Images)
Part = tuple[Some, np.ndarray, tuple[str, ...]]  # images, labels int64 [N], class names


@dataclass(frozen=True, kw_only=True)
class RawData:
    """Images, labels int64 [N], and how they are normalised and augmented.

    Images are an array uint8 [N, H, W, 3], or files that are decoded one by one.
    """

    train_images: Images
    train_labels: np.ndarray
    test_images: Images
    test_labels: np.ndarray
    classes: tuple[str, ...]
    mean_std: tuple[Color, Color] | None  # of the train part in [0, 1]; None: to be computed
    flip: bool  # a mirrored image is of the same class

    @classmethod
    def of(
        cls,
        train: Part[Images],
        test: Part[Images],
        mean_std: tuple[Color, Color] | None,
        flip: bool = True,
    ) -> RawData:
        (train_images, train_labels, classes), (test_images, test_labels, _) = train, test
        return cls(
            train_images=train_images,
            train_labels=train_labels,
            test_images=test_images,
            test_labels=test_labels,
            classes=classes,
            mean_std=mean_std,
            flip=flip,
        )


def _digits_file() -> Path:
    """Find the file of the installed scikit-learn, without importing it, which takes a second."""
    package = importlib.util.find_spec("sklearn")
    for folder in (package and package.submodule_search_locations) or ():
        file = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if file.is_file():
            return file
    raise ValueError(
        "digits come with scikit-learn, whose digits.csv.gz is not installed; run: pip install "
        "scikit-learn"
    )


def load_digits(folder: Path | None) -> RawData:
    """Load scikit-learn's 1,797 handwritten digits of 8x8 px, as grey colour images.

    https://archive.ics.uci.edu/dataset/80 (its test part, which is what scikit-learn embeds). The
    test part here is a stratified quarter.

    Raises:
        ValueError: a folder was given, though nothing is read from one; or scikit-learn is not
            installed.
    """
    if folder is not None:
        raise ValueError("digits is embedded and takes no --data-path; leave the flag out")
    rows = np.loadtxt(_digits_file(), delimiter=",")  # 64 pixels from 0 to 16, and the digit
    grey = np.round(rows[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)  # [N, 8, 8]
    images = np.repeat(grey[..., None], 3, axis=3)  # [N, 8, 8, 3]
    labels = rows[:, -1].astype(np.int64)
    classes = tuple(str(digit) for digit in range(10))
    train, test = (
        (images[rows], labels[rows], classes)
        for rows in stratified_split(labels, 1 - DIGITS_TEST_SHARE, SPLIT_SEED)
    )
    pixels = train[0] / 255
    mean_std = (float(pixels.mean()),) * 3, (float(pixels.std()),) * 3  # all channels are equal
    return RawData.of(train, test, mean_std, flip=False)  # a mirrored digit is another sign


def _load_cifar(name: str, folder: Path | None) -> RawData:
    """Load CIFAR-10 or CIFAR-100 by torchvision, which downloads it (with a progress bar).

    Raises:
        ValueError: the folder given does not exist, or its files are damaged.
        OSError: the download failed.
    """
    from torchvision.datasets import CIFAR10, CIFAR100

    if folder is not None and not folder.is_dir():
        raise ValueError(
            f"data folder {folder} does not exist; create it (the download goes there) or check "
            f"--data-path"
        )
    root = folder or Path("datasets")
    kind, mean, std = {  # mean and std of the train part
        "cifar10": (CIFAR10, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        "cifar100": (CIFAR100, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    }[name]

    def parts(download: bool) -> list[tuple[np.ndarray, np.ndarray, tuple[str, ...]]]:
        both = [kind(str(root), train=train, download=download) for train in (True, False)]
        return [(x.data, np.array(x.targets, dtype=np.int64), tuple(x.classes)) for x in both]

    try:
        try:
            train, test = parts(download=False)
        except RuntimeError:  # not there, or another process is unpacking it
            root.mkdir(parents=True, exist_ok=True)
            with locked(root / f".{name}.lock"):
                train, test = parts(download=True)
    except RuntimeError as error:  # torchvision's word for a checksum that does not match
        raise ValueError(
            f"{name} in {root} is damaged or incomplete ({str(error).splitlines()[0]}); remove "
            f"{root / kind.base_folder} and run again"
        ) from error
    except OSError as error:
        raise OSError(
            f"{name} is not in {root} and cannot be downloaded ({error}); put "
            f"{kind.filename} there, or use --dataset digits"
        ) from error
    return RawData.of(train, test, (mean, std))


def sub_folders(folder: Path) -> list[str]:
    """List the names of the visible folders in a folder. Raises ValueError if it is none."""
    try:
        return sorted(x.name for x in folder.iterdir() if x.is_dir() and x.name[0] != ".")
    except OSError as error:
        raise ValueError(
            f"cannot read the image folder {folder} ({error.strerror}); check --data-path or the "
            f"folder's permissions"
        ) from error


def read_part(root: Path, part: str) -> Part[ImageFiles]:
    """List the images of every class folder in root/part, and log what is left out.

    Raises:
        ValueError: there is no class, or one without images.
    """
    folder = root / part
    classes = sub_folders(folder)
    if not classes:
        raise ValueError(f"{folder} has no sub-folders; it needs one per class, images inside")
    if len(classes) == 1:
        raise ValueError(
            f"{folder} holds one class only, {classes[0]}; check --data-path: below it, or below "
            f"its train and test, stands a folder per class"
        )
    names: list[str] = []
    labels: list[int] = []
    left_out: list[str] = []
    for label, name in enumerate(classes):
        images, others = list_files(folder / name)
        if not images:
            raise ValueError(
                f"{folder / name} holds no images ({', '.join(EXTENSIONS)}); fill or remove the "
                f"folder"
            )
        names += [Path(path).relative_to(root).as_posix() for path in images]
        labels += [label] * len(images)
        left_out += others
    if left_out:
        log.info(left_out_text(left_out))
    strays = [x for x in sorted(folder.iterdir()) if x.name.lower().endswith(EXTENSIONS)]
    if strays:
        log.info(f"note: left out, as they are in no class folder: {len(strays)} ({strays[0]})")
    return ImageFiles(root, tuple(names)), np.array(labels, dtype=np.int64), tuple(classes)


def read_parts(root: Path, train: str, test: str) -> tuple[Part[ImageFiles], Part[ImageFiles]]:
    """List the images of both parts. Raises ValueError where their classes differ."""
    first, second = read_part(root, train), read_part(root, test)
    for name in sorted(set(first[2]) ^ set(second[2])):  # in one part only
        there, missing = (train, test) if name in first[2] else (test, train)
        raise ValueError(
            f"class '{name}' is in {root / there} but not in {root / missing}; both need the same "
            f"class folders"
        )
    return first, second


def is_split(root: Path) -> bool:
    """True if root/train holds class folders, rather than the images of a class named train."""
    return "train" in sub_folders(root) and bool(sub_folders(root / "train"))


def find_test(root: Path) -> str:
    """Find the folder beside train/ that is the test set. Raises ValueError if there is none."""
    there = [name for name in ("test", "val") if name in sub_folders(root)]
    if not there:
        raise ValueError(
            f"{root} has train/ but neither test/ nor val/; add one, or give --data-path a folder "
            f"of class folders to have it split"
        )
    if len(there) == 2:
        log.info(f"note: {root / 'test'} is the test set; {root / 'val'} is not used")
    return there[0]


def load_imagenet(folder: Path | None) -> RawData:
    """List ImageNet as folders train/ and val/ of class folders; val/ is the test set here.

    Raises:
        ValueError: the folder is not there or not laid out so.
    """
    root = folder or Path("datasets") / "imagenet"
    if not (root / "train").is_dir() or not (root / "val").is_dir():
        raise ValueError(
            f"{root} is not ImageNet; give --data-path the folder that has train/ and val/ with "
            f"one folder per class (it cannot be downloaded freely)"
        )
    return RawData.of(*read_parts(root, "train", "val"), IMAGENET_MEAN_STD)


def load_image_folder(folder: Path | None) -> RawData:
    """List images of your own: train/ and test/ (or val/) of class folders, or class folders alone.

    Class folders alone are split: a stratified fifth, the same in every run, is the test set.

    Raises:
        ValueError: the folder is not there or not laid out so.
    """
    if folder is None:
        raise ValueError("image_folder needs --data-path, the folder that has your images by class")
    if is_split(folder):
        return RawData.of(*read_parts(folder, "train", find_test(folder)), None)
    files, labels, classes = read_part(folder, "")
    shuffled = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    chosen = []
    for i, name in enumerate(classes):
        of_class = shuffled[labels[shuffled] == i]
        if len(of_class) < 3:
            raise ValueError(
                f"{folder / name} has {len(of_class)} image(s); a class needs 3 or more, to have "
                f"one each to train, to validate and to test"
            )
        chosen.append(of_class[: max(1, round(TEST_SHARE * len(of_class)))])
    test = np.sort(np.concatenate(chosen))

    def some(rows: np.ndarray) -> Part[ImageFiles]:
        return ImageFiles(folder, tuple(files.names[i] for i in rows)), labels[rows], classes

    return RawData.of(some(np.setdiff1d(np.arange(len(labels)), test)), some(test), None)


def load_fake(folder: Path | None) -> RawData:
    """Make noise of 256 px with random labels in 10 classes, to try out the path of large images.

    Raises:
        ValueError: a folder was given, though nothing is read from one.
    """
    if folder is not None:
        raise ValueError("fake is made up and takes no --data-path; leave the flag out")
    train, test = FakeImages(number=240, offset=0), FakeImages(number=60, offset=240)
    classes = tuple(f"class {i}" for i in range(train.num_classes))
    parts = (train, train.labels(), classes), (test, test.labels(), classes)
    return RawData.of(*parts, IMAGENET_MEAN_STD)


DATASETS: dict[str, Callable[[Path | None], RawData]] = {
    "digits": load_digits,
    "cifar10": partial(_load_cifar, "cifar10"),
    "cifar100": partial(_load_cifar, "cifar100"),
    "imagenet": load_imagenet,
    "image_folder": load_image_folder,
    "fake": load_fake,
}
