"""Splits, batches and augmentation; CIFAR's files made small."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from sklearn.datasets import load_digits
from torchvision.transforms import v2

from data import DATASETS, Loader, load_splits
from data.loader import Augmentation, random_crop_flip

CPU = torch.device("cpu")


def digits(**options):
    given = dict(batch_size=64, eval_batch_size=100, train_portion=0.8, seed=0, device=CPU)
    return load_splits("digits", None, 8, **{**given, **options})


def gather(loader) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(labels)


def test_validation_is_every_held_out_image_as_it_is_in_order() -> None:
    """Not augmented, not shuffled, nothing dropped: compared with scikit-learn's own arrays."""
    splits = digits()
    for loader in (splits.validation, splits.test, splits.calibration):
        first, labels = gather(loader)
        again, _ = gather(loader)
        assert torch.equal(first, again)
        assert len(first) == loader.num_images and len(first) % 100 != 0
    raw = DATASETS["digits"](None)
    chosen = raw.train_images[splits.indices["validation"]]
    expected = (torch.from_numpy(chosen).permute(0, 3, 1, 2) / 255 - raw.mean[0]) / raw.std[0]
    images, labels = gather(splits.validation)
    assert torch.allclose(images, expected, atol=1e-5)
    assert torch.equal(labels, torch.from_numpy(raw.train_labels[splits.indices["validation"]]))


def test_the_three_parts_are_disjoint_stratified_and_the_whole() -> None:
    splits = digits()
    sizes = [x.num_images for x in (splits.train, splits.validation, splits.test)]
    assert sum(sizes) == 1797 == len(load_digits().images)
    assert not set(splits.indices["train"]) & set(splits.indices["validation"])
    raw = DATASETS["digits"](None)
    assert len(raw.train_labels) + len(raw.test_labels) == 1797
    for loader in (splits.validation, splits.test):
        counts = torch.bincount(gather(loader)[1], minlength=10) / loader.num_images
        assert (counts - 0.1).abs().max() < 0.01


def test_splits_do_not_depend_on_the_seed_but_training_batches_do() -> None:
    a, b, c = digits(seed=0), digits(seed=1), digits(seed=0)
    assert np.array_equal(a.indices["train"], b.indices["train"])
    assert torch.equal(gather(a.test)[0], gather(b.test)[0])
    first, second, same = (gather(s.train)[0] for s in (a, b, c))
    assert not torch.equal(first, second) and torch.equal(first, same)


def test_training_batches_are_shuffled_anew_and_resume() -> None:
    loader = digits().train
    first = gather(loader)[1]
    state = loader.state_dict()
    second, second_labels = gather(loader)
    assert not torch.equal(first, second_labels)
    loader.load_state_dict(state)
    assert torch.equal(gather(loader)[0], second)
    assert len(second) == len(loader) * 64 == 16 * 64


def test_every_image_of_a_batch_has_its_own_crop_and_flip() -> None:
    """Against torchvision: each result is one of the shifted and flipped versions it can make."""
    image = torch.rand(1, 3, 6, 6)
    batch = image.expand(400, -1, -1, -1)
    out = random_crop_flip(batch, Augmentation(1, True), torch.Generator().manual_seed(0))
    padded = v2.functional.pad(image, [1, 1, 1, 1])
    shifted = [v2.functional.crop(padded, top, left, 6, 6) for top in range(3) for left in range(3)]
    possible = torch.cat([s for x in shifted for s in (x, v2.functional.horizontal_flip(x))])
    matches = (out[:, None] == possible).flatten(2).all(2)  # [400, 18]
    assert (matches.sum(1) == 1).all()
    assert (matches.sum(0) > 5).all()  # all 18 versions, about 22 times each


def test_workers_give_batches_of_the_same_kind() -> None:
    loader = digits(num_workers=2, batch_size=256).train
    images, labels = gather(loader)
    assert images.shape == (1024, 3, 8, 8) and len(loader) == 4
    assert torch.bincount(labels, minlength=10).min() > 80
    plain, _ = gather(digits().calibration)
    assert images.mean() == pytest.approx(plain.mean().item(), abs=0.1)


def test_other_input_sizes_are_resized() -> None:
    splits = load_splits("digits", None, 20, 64, 100, 0.8, 0, CPU)
    small, _ = gather(digits().test)
    images, _ = gather(splits.test)
    assert images.shape[2:] == (20, 20)
    assert images.mean((1, 2, 3)) == pytest.approx(small.mean((1, 2, 3)).numpy(), abs=0.15)


@pytest.mark.parametrize(
    ("options", "says"),
    [({"batch_size": 2000}, "--batch-size"), ({"train_portion": 0.999}, "--train-portion")],
)
def test_impossible_splits(options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        digits(**options)


def make_cifar10(folder: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """The files CIFAR10 reads, with 40 + 20 images, under checksums of their own."""
    base = folder / "cifar-10-batches-py"
    base.mkdir(parents=True)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, size=(60, 3072), dtype=np.uint8)

    def write(name: str, content: dict) -> str:
        data = pickle.dumps(content)
        (base / name).write_bytes(data)
        return hashlib.md5(data).hexdigest()

    kind = torchvision.datasets.CIFAR10
    labels = [i % 10 for i in range(60)]
    train = [("data_batch_1", {"data": images[:40], "labels": labels[:40]})]
    test = [("test_batch", {"data": images[40:], "labels": labels[40:]})]
    names = {"label_names": [f"class{i}" for i in range(10)]}
    monkeypatch.setattr(kind, "train_list", [[n, write(n, c)] for n, c in train])
    monkeypatch.setattr(kind, "test_list", [[n, write(n, c)] for n, c in test])
    meta = {**kind.meta, "md5": write("batches.meta", names)}
    monkeypatch.setattr(kind, "meta", meta)
    return images.reshape(60, 3, 32, 32)


def test_cifar10_is_read_through_torchvision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = make_cifar10(tmp_path, monkeypatch)
    splits = load_splits("cifar10", tmp_path, 32, 10, 20, 0.5, 0, CPU)
    raw = DATASETS["cifar10"](tmp_path)
    assert np.array_equal(raw.test_images.transpose(0, 3, 1, 2), images[40:])
    assert raw.classes[3] == "class3" and splits.num_classes == 10
    got, labels = gather(splits.test)
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (raw.mean, raw.std))
    assert torch.allclose(got * std + mean, torch.from_numpy(images[40:]) / 255, atol=1e-5)
    assert labels.tolist() == [i % 10 for i in range(40, 60)]


def test_a_damaged_cifar_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_cifar10(tmp_path, monkeypatch)
    with (tmp_path / "cifar-10-batches-py" / "test_batch").open("ab") as file:
        file.write(b"x")

    def no_network(*args: object, **kwargs: object) -> None:
        raise RuntimeError("File not found or corrupted.")

    monkeypatch.setattr(torchvision.datasets.cifar, "download_and_extract_archive", no_network)
    with pytest.raises(ValueError, match=r"damaged or incomplete.*remove .*cifar-10-batches-py"):
        DATASETS["cifar10"](tmp_path)


def test_a_missing_folder_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        DATASETS["cifar100"](tmp_path / "nowhere")


def test_a_loader_moves_and_normalises() -> None:
    images = torch.full((3, 3, 2, 2), 255, dtype=torch.uint8)
    loader = Loader(images, torch.arange(3), 2, (0.5,) * 3, (0.25,) * 3, CPU)
    batches = list(loader)
    assert [len(x) for x, _ in batches] == [2, 1] and len(loader) == 2
    assert torch.allclose(batches[0][0], torch.full((2, 3, 2, 2), 2.0))
