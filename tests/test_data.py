"""Splits, batches and augmentation; CIFAR's files made small."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from conftest import load_splits
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from benchmarks import results_data
from data import DATASETS
from data.loader import BatchSpec, MemoryLoader, pad
from data.stratified import stratified_split

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
    (mean, *_), (std, *_) = raw.mean_std
    assert splits.mean == (mean,) * 3 and splits.std == (std,) * 3
    expected = (torch.from_numpy(chosen).permute(0, 3, 1, 2) / 255 - mean) / std
    images, labels = gather(splits.validation)
    assert torch.allclose(images, expected, atol=1e-5)
    assert torch.equal(labels, torch.from_numpy(raw.train_labels[splits.indices["validation"]]))


def test_the_three_parts_are_disjoint_stratified_and_the_whole() -> None:
    splits = digits()
    sizes = [x.num_images for x in (splits.train, splits.validation, splits.test)]
    assert sum(sizes) == 1797 == len(load_digits().images)
    assert not set(splits.indices["train"]) & set(splits.indices["validation"])
    for loader in (splits.validation, splits.test):
        counts = torch.bincount(gather(loader)[1], minlength=10) / loader.num_images
        assert (counts - 0.1).abs().max() < 0.01


def test_digits_are_those_of_scikit_learn() -> None:
    """Read from its file and split without importing it: the same images, in the same order."""
    raw, theirs = DATASETS["digits"](None), load_digits()
    train, test = train_test_split(
        np.arange(1797), test_size=0.25, stratify=theirs.target, random_state=0
    )
    for images, labels, rows in (
        (raw.train_images, raw.train_labels, train),
        (raw.test_images, raw.test_labels, test),
    ):
        for channel in np.moveaxis(images, -1, 0):
            assert np.array_equal(channel, np.round(theirs.images[rows] * 255 / 16))
        assert np.array_equal(labels, theirs.target[rows])
    assert raw.classes == tuple(map(str, theirs.target_names))


def test_stratified_splits_are_those_of_scikit_learn(rng: np.random.Generator) -> None:
    """Classes of very different sizes, ties and remainders; the parts shuffled alike."""
    for seed in range(60):
        sizes = rng.integers(2, rng.choice([4, 30, 200]), size=rng.integers(2, 30))
        labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
        portion = float(rng.choice([0.5, 0.8, rng.uniform(0.3, 0.7)]))
        if min(portion, 1 - portion) * len(labels) < len(sizes) + 1:
            with pytest.raises(ValueError, match="classes"):
                stratified_split(labels, len(sizes) / len(labels) / 2, seed)
            continue
        ours = stratified_split(labels, portion, seed)
        theirs = train_test_split(
            np.arange(len(labels)), train_size=portion, stratify=labels, random_state=seed
        )
        assert all(map(np.array_equal, ours, theirs))


def test_splits_do_not_depend_on_the_seed_but_training_batches_do() -> None:
    a, b, c = digits(seed=0), digits(seed=1), digits(seed=0)
    assert np.array_equal(a.indices["train"], b.indices["train"])
    assert torch.equal(gather(a.test)[0], gather(b.test)[0])
    first, second, same = (gather(s.train)[0] for s in (a, b, c))
    assert not torch.equal(first, second) and torch.equal(first, same)


def test_an_epoch_is_a_function_of_seed_and_number() -> None:
    """Whatever was drawn before, or how far an epoch got; each is shuffled anew."""
    a, b = digits().train, digits().train
    next(iter(a))  # an epoch that is broken off counts
    _, first = gather(b)
    assert a.state_dict() == b.state_dict() == {"seed": 0, "epoch": 1}
    images, labels = gather(b)
    assert torch.equal(gather(a)[0], images) and not torch.equal(labels, first)
    assert len(images) == len(b) * 64 == 16 * 64
    a.load_state_dict({"seed": 0, "epoch": 1})
    assert torch.equal(gather(a)[0], images)


@pytest.mark.parametrize("pipeline", ["memory", "streaming"])
def test_the_parts_of_all_ranks_are_the_batches_of_one(pipeline: str) -> None:
    options = dict(augment=True, cutout=3, pipeline=pipeline, batch_size=60)
    whole = digits(**options).train
    ranks = [digits(**options, rank=r, world_size=3).train for r in range(3)]
    for _ in range(2):
        parts = [list(loader) for loader in ranks]
        assert len(parts[0]) == len(whole) == len(ranks[0]) == 1077 // 60
        for i, (images, labels) in enumerate(whole):
            assert all(len(p[i][1]) == 20 for p in parts)
            assert torch.equal(torch.cat([p[i][0] for p in parts]), images)
            assert torch.equal(torch.cat([p[i][1] for p in parts]), labels)


@pytest.mark.parametrize("pipeline", ["memory", "streaming"])
def test_sharded_evaluation_sees_every_image_once(pipeline: str) -> None:
    loader = digits(pipeline=pipeline).test
    rows = sorted(map(tuple, gather(loader)[0].flatten(1).tolist()))
    parts = [gather(loader.sharded(r, 4))[0].flatten(1) for r in range(4)]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert sorted(map(tuple, torch.cat(parts).tolist())) == rows
    assert loader.num_images == len(rows) == 450


def test_an_epoch_gives_every_image_at_most_once() -> None:
    splits = digits(batch_size=359)  # 1077 = 3 * 359: nothing is dropped
    plan = torch.cat([rows for rows, _ in splits.train.plan(5)])
    assert sorted(plan.tolist()) == splits.indices["train"].tolist()


def test_saved_splits_are_checked(tmp_path: Path) -> None:
    splits = digits()
    splits.keep(tmp_path)
    digits(seed=5).keep(tmp_path)  # a split does not depend on the seed
    with np.load(tmp_path / "splits.npz") as saved:
        parts = [saved[name] for name in ("train", "validation")]
        assert sorted(np.concatenate(parts).tolist()) == list(range(1347))
    with pytest.raises(ValueError, match=r"splits.npz has other images"):
        digits(train_portion=0.7).keep(tmp_path)
    (tmp_path / "splits.npz").write_bytes(b"PK no more")
    with pytest.raises(ValueError, match="damaged"):
        splits.keep(tmp_path)


def test_other_input_sizes_are_resized() -> None:
    splits = load_splits("digits", None, 20, 64, 100, 0.8, 0, CPU)
    small, _ = gather(digits().test)
    images, _ = gather(splits.test)
    assert images.shape[2:] == (20, 20)
    assert images.mean((1, 2, 3)) == pytest.approx(small.mean((1, 2, 3)).numpy(), abs=0.15)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"train_portion": 0.999}, "--train-portion"),
        ({"world_size": 3}, "--batch-size 64 cannot be shared evenly by 3"),
        ({"cutout": 9}, "--cutout 9"),
        ({"pipeline": "memory", "randaugment": 1}, "--randaugment"),
    ],
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
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in raw.mean_std)
    assert torch.allclose(got * std + mean, torch.from_numpy(images[40:]) / 255, atol=1e-5)
    assert labels.tolist() == [i % 10 for i in range(40, 60)]


def test_the_folders_of_the_results_are_cifars_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In CIFAR's order within each class; files of 16 px are what is read of those of 32 px."""
    images = make_cifar10(tmp_path / "cifar", monkeypatch).transpose(0, 2, 3, 1)
    for size in (32, 16):
        results_data.make_cifar10(tmp_path / str(size), size, tmp_path / "cifar")
    Image.fromarray(images[27]).save(tmp_path / "one.jpg", quality=75)
    third = tmp_path / "32" / "train" / "class7" / "0002.jpg"
    assert third.read_bytes() == (tmp_path / "one.jpg").read_bytes()
    large, small = (
        load_splits("image_folder", tmp_path / str(size), 16, 10, 20, 0.5) for size in (32, 16)
    )
    assert all(np.array_equal(large.indices[k], small.indices[k]) for k in ("train", "validation"))
    assert torch.equal(gather(large.test)[0], gather(small.test)[0])
    with pytest.raises(ValueError, match="exists"):
        results_data.make_cifar10(tmp_path / "32", 32, tmp_path / "cifar")


def test_the_half_benchmark_is_made_of_the_published_file(tmp_path: Path) -> None:
    entry = {"test_acc": [1.0, 2.0], "mean_acc": 1.55556, "std": 0.5, "params": 3, "flops": 4}
    half = results_data.half_of({code: entry for code in ("11", "00", "10", "01")}, "6")
    assert half == {k: {"mean_acc": 1.5556, "std": 0.5, "params": 3, "flops": 4} for k in half}
    assert list(half) == ["01", "10"]
    chosen = int("".join(results_data.HALF.read_text().split()), 16)
    assert chosen.bit_count() == 3281 and chosen.bit_length() == 3**8
    (tmp_path / "other.json").write_text("{}")
    for name, says in (("other.json", "has sha256"), ("none.json", "download it")):
        with pytest.raises(ValueError, match=says):
            results_data.make_macro(tmp_path / name, tmp_path / "half.json")


def test_unusable_cifar_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        DATASETS["cifar100"](tmp_path / "nowhere")
    make_cifar10(tmp_path, monkeypatch)
    with (tmp_path / "cifar-10-batches-py" / "test_batch").open("ab") as file:
        file.write(b"x")

    def no_network(*args: object, **kwargs: object) -> None:
        raise RuntimeError("File not found or corrupted.")

    monkeypatch.setattr(torchvision.datasets.cifar, "download_and_extract_archive", no_network)
    with pytest.raises(ValueError, match=r"damaged or incomplete.*remove .*cifar-10-batches-py"):
        DATASETS["cifar10"](tmp_path)


def test_a_loader_normalises() -> None:
    images = torch.full((3, 2, 2, 3), 255, dtype=torch.uint8)
    spec = BatchSpec(torch.arange(3), torch.arange(3), 2, (0.5,) * 3, (0.25,) * 3, CPU)
    loader = MemoryLoader(pad(images, 1, CPU), 1, spec)
    batches = list(loader)
    assert [len(x) for x, _ in batches] == [2, 1] and len(loader) == 2
    assert torch.allclose(batches[0][0], torch.full((2, 3, 2, 2), 2.0))
    assert batches[0][0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [20, 72])
@pytest.mark.parametrize("pipeline", ["memory", "streaming"])
def test_preprocessing_says_what_the_loaders_do(size: int, pipeline: str) -> None:
    """Networks that are trained on arrays get the same images when they are used."""
    splits = load_splits("digits", None, size, 64, 4, 0.8, 0, CPU, pipeline=pipeline)
    images, _ = next(iter(splits.test))
    used = [splits.preprocessing(image) for image in DATASETS["digits"](None).test_images[:4]]
    assert (torch.stack(used) - images).abs().max() < 0.05  # a level of 255 or two


def test_a_data_set_is_downloaded_by_one_process_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")
    done: list[bool] = []

    def download(self: object) -> None:
        with open(tmp_path / "datasets" / ".cifar10.lock") as file, pytest.raises(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not done:
            make_cifar10(tmp_path / "datasets", monkeypatch)
        done.append(True)

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", download)
    (tmp_path / "datasets").mkdir()
    assert len(DATASETS["cifar10"](tmp_path / "datasets").test_images) == 20
    assert done
    done.clear()
    DATASETS["cifar10"](tmp_path / "datasets")
    assert not done  # what is there is read without a lock
