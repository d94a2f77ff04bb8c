"""Image folders: what is read, what is refused, and the cache of decoded images."""

from __future__ import annotations

import functools
import logging
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, Main, load_splits
from PIL import Image

import search
import train_supernet
from config_file.arg_config.search_config import SearchConfig
from config_file.arg_config.sources import load_config
from data import cache
from data.cache import FOLDER, decode
from data.images import ImageFiles, list_files, read_image
from model import load_space
from model.supernet_file import supernet_facts
from utils.checkpoint import check_facts

CPU = torch.device("cpu")


def write_images(
    folder: Path, number: int, seed: int = 0, size: tuple[int, int] = (12, 12)
) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for i in range(number):
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:04}.png")


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    root = tmp_path / "pets"
    for i, part in enumerate(("train", "test")):
        for k, name in enumerate(("cat", "dog")):
            write_images(root / part / name, 10 - 4 * i, seed=2 * i + k)
    return root


def load(folder: Path, size: int = 12, **options):
    return load_splits("image_folder", folder, size, 4, 5, 0.8, 0, CPU, **options)


def test_a_folder_is_read_decoded_and_normalised(pets: Path) -> None:
    """Every pixel against Pillow; the mean and std over the train part against numpy."""
    splits = load(pets)
    assert splits.classes == ("cat", "dog") and splits.input_size == 12
    train = np.stack([np.asarray(Image.open(p)) for p in sorted(pets.glob("train/*/*"))]) / 255
    assert splits.mean == pytest.approx(train.mean((0, 1, 2)))
    assert splits.std == pytest.approx(train.std((0, 1, 2)))
    test = np.stack([np.asarray(Image.open(p)) for p in sorted(pets.glob("test/*/*"))]) / 255
    images = torch.cat([x for x, _ in splits.test]).permute(0, 2, 3, 1).numpy()
    assert np.allclose(images * splits.std + splits.mean, test, atol=1e-5)
    assert torch.cat([y for _, y in splits.test]).tolist() == [0] * 6 + [1] * 6
    sizes = splits.train.num_images, splits.validation.num_images, splits.test.num_images
    assert sizes == (16, 4, 12)


def test_large_input_is_streamed_with_the_usual_crop(pets: Path) -> None:
    splits = load(pets, 96, num_workers=2)
    assert splits.train.augmentation.resized_crop
    images, labels = next(iter(splits.train))
    assert images.shape == (4, 3, 96, 96) and set(labels.tolist()) <= {0, 1}
    first = Image.open(sorted(pets.glob("test/*/*"))[0]).resize((110, 110), Image.BILINEAR)
    expected = np.asarray(first.crop((7, 7, 103, 103))) / 255  # 96 * 256 / 224 = 110
    got = next(iter(splits.test))[0][0].permute(1, 2, 0).numpy() * splits.std + splits.mean
    assert np.abs(got - expected).max() < 0.02
    in_memory = load(pets, 96, pipeline="memory")
    for a, b in zip(splits.validation, in_memory.validation, strict=True):
        assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])
    assert not list(pets.glob(f"{FOLDER}/96px-*/*.part"))


def test_a_single_folder_is_split(pets: Path) -> None:
    splits = load(pets / "train")
    again = load(pets / "train")
    assert splits.fingerprint == again.fingerprint
    sizes = splits.train.num_images, splits.validation.num_images, splits.test.num_images
    assert sizes == (12, 4, 4)
    pixels = [
        {x.numpy().tobytes() for batch, _ in loader for x in batch}
        for loader in (splits.calibration, splits.validation, splits.test)
    ]
    assert sum(map(len, pixels)) == len(set.union(*pixels)) == 20
    for a, b in zip(splits.test, again.test, strict=True):
        assert torch.equal(a[0], b[0])


def test_what_is_left_out_is_named(pets: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of any name that an image has all are read; the rest is counted, but for hidden files."""
    pixels = Image.fromarray(np.zeros((12, 12, 3), np.uint8))
    for name in ("a.GIF", "b.webp", "c.jfif", ".d.png"):
        pixels.save(pets / "train/cat" / name, format="GIF")
    for name in ("e.txt", "f.txt", "README", ".hidden"):
        (pets / "train/dog" / name).write_text("")
    pixels.save(pets / "test" / "stray.png")
    with caplog.at_level(logging.INFO, "oneshot_nas"):
        splits = load(pets)
    assert splits.train.num_images + splits.validation.num_images == 23
    train, test, counts = (record.message for record in caplog.records)
    dog = pets / "train" / "dog"
    assert train.endswith(f": 2 .txt ({dog / 'e.txt'}), 1 no extension ({dog / 'README'})")
    assert test.endswith(f"in no class folder: 1 ({pets / 'test' / 'stray.png'})")
    assert counts == "image_folder: 2 classes; 18 images to train, 5 to validate, 12 to test"


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    write_images(tmp_path / "cats", 2)
    write_images(tmp_path / "elsewhere" / "more", 3)
    (tmp_path / "cats" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "more" / "up").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "cats" / "self").symlink_to(tmp_path / "cats")
    assert len(list_files(tmp_path / "cats")[0]) == 5


@pytest.mark.parametrize(
    ("flags", "sizes"),
    [((), (16, 1)), (("--eval-batch-size", 7), (16, 2)), (("--batch-size", 5), (5, 1))],
)
def test_recipes_are_fitted_to_few_images(
    pets: Path, caplog: pytest.LogCaptureFixture, flags: tuple, sizes: tuple[int, int]
) -> None:
    """16 training images where the recipe has batches of 128 and calibrates on 4 of 512."""
    given = ("--dataset", "image_folder", "--data-path", pets, "--search-space", TINY)
    config = load_config(SearchConfig, None, [str(x) for x in (*given, *flags)])
    splits, _ = train_supernet.load_inputs(config, CPU)
    with caplog.at_level(logging.INFO, "oneshot_nas"):
        fitted = splits.fitted(config)
    assert (fitted.training.batch_size, fitted.evaluation.calibration_batches) == sizes
    assert f"--calibration-batches {sizes[1]} instead of 4" in caplog.messages[-1]
    assert splits.fitted(fitted) == fitted
    assert len(list(splits.train)) == 16 // sizes[0]


def test_modes_other_than_rgb_are_handled(tmp_path: Path) -> None:
    grey = np.arange(0, 240, 15, dtype=np.uint8).reshape(4, 4)
    rgb = np.stack([grey, grey[::-1], grey.T], -1)
    alpha = np.dstack([rgb, np.full((4, 4), 9, np.uint8)])
    cases = {
        "L": (Image.fromarray(grey), np.stack([grey] * 3, -1)),
        "RGBA": (Image.fromarray(alpha), rgb),
        "LA": (Image.fromarray(np.dstack([grey, grey])), np.stack([grey] * 3, -1)),
        "P": (Image.fromarray(rgb).quantize(16), rgb),
        "1": (Image.fromarray(grey > 100), np.stack([(grey > 100) * 255] * 3, -1)),
        "CMYK": (Image.fromarray(255 - np.dstack([rgb, 0 * grey + 255]), "CMYK"), rgb),
        "I;16": (Image.fromarray(grey.astype(np.uint16) << 8), np.stack([grey] * 3, -1)),
    }
    for mode, (image, expected) in cases.items():
        path = tmp_path / (mode.strip(";") + (".tif" if mode == "CMYK" else ".png"))
        image.save(path)
        assert Image.open(path).mode == mode
        got = read_image(path)
        assert got.mode == "RGB"
        assert np.abs(np.asarray(got).astype(int) - expected).max() <= 1, mode
    # of an animation the first frame
    frames = [Image.new("RGB", (5, 4), color) for color in ("red", "lime", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert np.array_equal(np.asarray(read_image(tmp_path / "a.gif")), np.asarray(frames[0]))


@pytest.mark.parametrize("pixels", [np.ones((3, 3), np.float32), np.full((3, 3), 70000, np.int32)])
def test_pixels_without_a_known_range_are_refused(tmp_path: Path, pixels: np.ndarray) -> None:
    """They would all become black or white."""
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"a\.tif is not a readable image .*save it with 8"):
        read_image(tmp_path / "a.tif")


def damage(root: Path, how: str) -> str:
    """Make a folder wrong; returns what the error must name."""
    if how == "corrupt":
        (root / "test/cat/0001.png").write_bytes(b"not an image")
        return r"test/cat/0001\.png is not a readable image \(of no format"
    if how == "truncated":
        path = root / "train/dog/0003.png"
        path.write_bytes(path.read_bytes()[:200])
        return r"train/dog/0003\.png is not a readable image"
    if how == "two":
        for name in ("0001", "0002"):
            (root / f"train/cat/{name}.png").write_bytes(b"")
        return r"0001\.png is not .*2 such files, among them: .*0002\.png"
    if how == "empty class":
        (root / "train/bird").mkdir()
        return "train/bird holds no images"
    if how == "classes differ":
        (root / "test/dog").rename(root / "test/wolf")
        return "class 'dog' is in .*train but not in .*test"
    if how == "one image":
        for path in sorted((root / "train/cat").iterdir())[1:]:
            path.unlink()
        return "class 'cat' has 1 training image"
    if how == "no test":
        (root / "test").rename(root / "other")
        return "neither test/ nor val/"
    if how == "no classes":
        for path in root.glob("*/*"):
            path.rename(root.parent / f"{path.parent.name}-{path.name}")
        return "pets/(train|test) "
    assert how == "a file"
    (root / "train").rename(root.parent / "train")
    (root / "test").rename(root.parent / "test")
    root.rmdir()
    root.write_text("")
    return "cannot read the image folder .*pets"


BAD_FILES = ("corrupt", "truncated", "two")
WRONG_FOLDERS = ("empty class", "classes differ", "one image", "no test", "no classes", "a file")


@pytest.mark.parametrize(
    ("how", "size"),
    [*((how, 12) for how in BAD_FILES + WRONG_FOLDERS), *((how, 80) for how in BAD_FILES)],
)
def test_wrong_folders_are_clear_errors_before_training(pets: Path, how: str, size: int) -> None:
    says = damage(pets, how)
    with pytest.raises(ValueError, match=says):
        load(pets, size)
    if pets.is_dir():
        assert not [p for p in pets.glob(f"{FOLDER}/*") if p.is_dir() and "part" in p.name]


def test_a_folder_that_cannot_be_read(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(ValueError, match=r"cannot read .*pets \(Permission denied\)"):
        load(pets)


def test_a_class_may_be_called_train_and_needs_three_images(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 8)
    write_images(tmp_path / "tram", 8)
    assert load(tmp_path).classes == ("train", "tram")
    write_images(tmp_path / "b", 1)
    with pytest.raises(ValueError, match=r"b has 1 image\(s\); a class needs 3"):
        load(tmp_path)


def files(root: Path) -> ImageFiles:
    return ImageFiles(
        root, tuple(p.relative_to(root).as_posix() for p in sorted(root.glob("*/*/*.png")))
    )


def test_decoding_happens_once(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = decode(files(pets), 12, True)
    monkeypatch.setattr(cache, "fit", lambda *args: pytest.fail("decoded again"))
    second = decode(files(pets), 12, True)
    assert np.array_equal(first.pixels, second.pixels) and isinstance(second.pixels, np.memmap)
    monkeypatch.undo()
    path = sorted(pets.glob("*/*/*.png"))[0]
    Image.fromarray(np.zeros((12, 12, 3), np.uint8)).save(path)  # a changed file is seen
    assert decode(files(pets), 12, True).pixels[0].max() == 0
    assert decode(files(pets), 8, True).pixels.shape == (32, 8, 8, 3)


def test_a_damaged_cache_is_built_again(pets: Path) -> None:
    expected = np.array(decode(files(pets), 12, True).pixels)
    (path,) = pets.glob(f"{FOLDER}/*/images.npy")
    path.write_bytes(path.read_bytes()[:300])
    assert np.array_equal(decode(files(pets), 12, True).pixels, expected)


def slow_build(root: Path, seconds: float) -> None:
    fit = cache.fit

    def slow_fit(*args):
        time.sleep(seconds)
        return fit(*args)

    cache.fit = slow_fit
    decode(files(root), 12, True)


def test_a_killed_build_leaves_no_half_cache(pets: Path) -> None:
    """SIGKILL in the middle; and two at once build one cache between them."""
    fork = multiprocessing.get_context("fork")
    process = fork.Process(target=slow_build, args=(pets, 0.2))
    process.start()
    while not list(pets.glob(f"{FOLDER}/*.part/images.npy")):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not list(pets.glob(f"{FOLDER}/*[!t]/statistics.npy"))
    both = [fork.Process(target=slow_build, args=(pets, 0.01)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
        assert process.exitcode == 0
    (folder,) = (p for p in (pets / FOLDER).iterdir() if p.is_dir())
    assert sorted(p.name for p in folder.iterdir()) == ["images.npy", "statistics.npy"]
    assert np.array_equal(
        decode(files(pets), 12, True).pixels[0], read_image(sorted(pets.glob("*/*/*.png"))[0])
    )


def test_a_full_disk_leaves_nothing(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.np, "save", full)
    with pytest.raises(OSError, match="No space"):
        decode(files(pets), 12, True)
    assert not [p for p in (pets / FOLDER).iterdir() if p.is_dir()]


def test_a_data_path_that_cannot_be_written(
    pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache.os, "access", lambda path, mode: pets not in Path(path).parents)
    with pytest.raises(ValueError, match="cannot write the image cache"):
        decode(files(pets), 12, True)
    assert decode(files(pets), 12, True, fallback=tmp_path / "c").pixels is not None
    assert list((tmp_path / "c" / "images").glob("*/images.npy"))


def test_a_file_that_goes_bad_during_training_is_one_line(pets: Path) -> None:
    loader = load(pets, 80, num_workers=1).train
    for path in pets.glob("train/*/*"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"is not a readable image .*--resume"):
        list(loader)


def test_imagenets_layout(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train/ and val/"):
        load_splits("imagenet", tmp_path, 224, 4, 5, 0.8, 0, CPU)
    for part in ("train", "val"):
        for name in ("n01440764", "n01443537"):
            write_images(tmp_path / part / name, 6, size=(70, 50))
    splits = load_splits("imagenet", tmp_path, 80, 4, 5, 0.5, 0, CPU)
    assert splits.mean == (0.485, 0.456, 0.406)
    assert next(iter(splits.train))[0].shape == (4, 3, 80, 80)
    assert splits.test.num_images == 12 and len(splits.indices["validation"]) == 6


def test_the_command_on_a_folder(pets: Path, main: Main) -> None:
    """Trains with all augmentation, writes splits.npz; a bad image is exit code 2."""
    flags = ("--search-space", TINY, "--dataset", "image_folder", "--data-path", pets)
    flags += ("--input-size", 12, "--batch-size", 4, "--epochs", 1, "--device", "cpu")
    train = functools.partial(main, train_supernet, *flags)
    train("--title", "a", "--randaugment", 1, "--cutout", 4)
    with np.load(pets.parent / "runs" / "a" / "splits.npz") as saved:
        assert len(saved["train"]) == 16 and len(saved["validation"]) == 4
    damage(pets, "corrupt")
    assert "0001.png is not a readable image" in train("--title", "b", ok=False)
    assert not (pets.parent / "runs" / "b").exists()


def test_images_that_have_changed_since_a_training(pets: Path, main: Main) -> None:
    """The split is drawn anew: a search would validate on images that trained its supernet."""
    flags = ("--search-space", TINY, "--dataset", "image_folder", "--data-path", pets)
    flags += ("--input-size", 12, "--batch-size", 4, "--epochs", 1, "--device", "cpu")
    main(train_supernet, *flags, "--title", "a")
    splits = load(pets)
    (pets / "test" / "cat" / "0001.png").unlink()
    with pytest.raises(ValueError, match="has other images than the dataset has now"):
        load(pets).keep(pets.parent / "runs" / "a")
    assert load(pets).fingerprint == splits.fingerprint  # of what trains and validates
    find = ("--checkpoint", "runs/a/supernet.pt", "--search-strategy", "random")
    find += ("--random-iteration", 2, "--no-random-control", "--data-path", pets)
    main(search, *find, "--title", "b")
    (pets / "train" / "dog" / "0001.png").unlink()
    assert "trained on other images" in main(search, *find, "--title", "c", ok=False)
    old = supernet_facts(load_space(TINY, 12, 2), "image_folder", 0.8)
    check_facts("old.pt", old, old | {"images": "of a version that kept none"})


def test_a_folder_of_one_class_is_a_level_too_high(pets: Path) -> None:
    shutil.move(pets / "train" / "cat", pets / "train" / "dog" / "cat")
    with pytest.raises(ValueError, match=r"train holds one class only, dog; check --data-path"):
        load(pets)
