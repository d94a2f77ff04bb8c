"""Augmentation against torchvision's, and both pipelines against each other."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import chi2_contingency, chisquare
from torchvision.transforms import v2

from data.augment import NUM_DRAWS, Augmentation, Draws, RandomCrops, cut_out
from data.loader import BatchSpec, Loader, MemoryLoader, pad
from data.streaming import StreamingLoader

CPU = torch.device("cpu")
SIZE, PADDING = 6, 2  # 25 shifts


def draw(number: int, seed: int = 0) -> Draws:
    generator = torch.Generator().manual_seed(seed)
    return Draws(*torch.randint(2**62, (NUM_DRAWS, number), generator=generator))


def coded_images(number: int) -> np.ndarray:
    """The same image `number` times, in which every pixel says where it is."""
    places = np.arange(1, SIZE * SIZE + 1, dtype=np.uint8).reshape(SIZE, SIZE)
    return np.repeat(np.stack([places] * 3, -1)[None], number, axis=0)


def loaders(number: int, how: Augmentation, num_workers: int = 0) -> list[Loader]:
    """The same images in memory and streamed; mean 0 and std 1/255 leave bytes as they are."""
    images = coded_images(number)
    rows = torch.arange(number)
    spec = BatchSpec(rows, rows, number, (0.0,) * 3, (1 / 255,) * 3, CPU, how, 7)
    in_memory = MemoryLoader(pad(torch.from_numpy(images), how.padding, CPU), how.padding, spec)
    return [in_memory, StreamingLoader(images, SIZE, num_workers, spec)]


def versions() -> dict[bytes, tuple[int, int, bool]]:
    """Every image that torchvision's crop and flip can make -> (top, left, flipped)."""
    image = torch.from_numpy(coded_images(1)[0]).permute(2, 0, 1)
    padded = v2.functional.pad(image, [PADDING] * 4)
    possible = {}
    for top in range(2 * PADDING + 1):
        for left in range(2 * PADDING + 1):
            crop = v2.functional.crop(padded, top, left, SIZE, SIZE)
            for flipped in (False, True):
                out = v2.functional.horizontal_flip(crop) if flipped else crop
                possible[out.contiguous().numpy().tobytes()] = (top, left, flipped)
    assert len(possible) == 50
    return possible


def counts(loader: Loader, epochs: int) -> np.ndarray:
    """How often each version came, [5, 5, 2]; anything else is an error."""
    possible, seen = versions(), Counter()
    for _ in range(epochs):
        for images, _ in loader:
            pixels = images.round().to(torch.uint8).contiguous().numpy()
            seen.update(possible[image.tobytes()] for image in pixels)
    table = np.zeros((5, 5, 2), dtype=int)
    for place, number in seen.items():
        table[place[0], place[1], int(place[2])] = number
    return table


def test_shifts_and_flips_are_distributed_as_torchvisions() -> None:
    """Uniform over all 50 versions, within one batch: each image has its own; both pipelines."""
    how = Augmentation(padding=PADDING, flip=True)
    memory, streaming = (counts(loader, 3) for loader in loaders(1000, how))
    assert memory.sum() == streaming.sum() == 3000
    assert chisquare(memory.ravel()).pvalue > 1e-3
    assert chi2_contingency([memory.ravel(), streaming.ravel()]).pvalue > 1e-3
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        assert chisquare(memory.sum(others)).pvalue > 1e-3
    one_batch = counts(loaders(1000, how)[0], 1)
    assert (one_batch > 0).all()


def test_crops_equal_a_loop() -> None:
    images = torch.randint(0, 256, (9, 7, 5, 3), dtype=torch.uint8)
    draws, rows = draw(6), torch.tensor([8, 0, 3, 3, 1, 5])
    got = RandomCrops(pad(images, 2, CPU), 2)(rows, draws, flip=True)
    for i, row in enumerate(rows):
        image = v2.functional.pad(images[row].permute(2, 0, 1), [2] * 4)
        top, left = int(draws.top[i] % 5), int(draws.left[i] % 5)
        image = v2.functional.crop(image, top, left, 7, 5)
        if draws.flip[i] % 2:
            image = v2.functional.horizontal_flip(image)
        assert torch.equal(got[i], image.permute(1, 2, 0))


@pytest.mark.parametrize("size", [1, 4, 5])
def test_cutout_equals_a_loop(size: int) -> None:
    """The square of the paper: its centre is uniform over the image, its rim may be cut off."""
    draws = draw(300)  # of an image of 8 px
    got = cut_out(torch.ones(300, 2, 8, 8), draws, size)
    for i in range(300):
        row, column = int(draws.cutout_row[i] % 8), int(draws.cutout_column[i] % 8)
        expected = torch.ones(2, 8, 8)
        top, left = row - size // 2, column - size // 2
        expected[:, max(0, top) : top + size, max(0, left) : left + size] = 0
        assert torch.equal(got[i], expected)
    assert len({int(x) for x in draws.cutout_row % 8}) == 8


@pytest.mark.parametrize("how", [Augmentation(2, True, 3, 2), Augmentation(flip=True)])
def test_streamed_epochs_do_not_depend_on_workers(how: Augmentation) -> None:
    none, two = loaders(40, how)[1], loaders(40, how, num_workers=2)[1]
    state = torch.get_rng_state()
    for _ in range(2):  # the second epoch runs in the same, persistent workers
        (a, labels), (b, same) = next(iter(none)), next(iter(two))
        assert torch.equal(a, b) and torch.equal(labels, same)
        assert len({image.numpy().tobytes() for image in a}) > 1
    assert torch.equal(state, torch.get_rng_state())  # the model's random numbers are its own
    resumed = loaders(40, how)[1]
    resumed.load_state_dict({"seed": 7, "epoch": 1})
    assert torch.equal(next(iter(resumed))[0], a)


def test_an_epoch_broken_off_leaves_nothing_behind_in_the_workers() -> None:
    rows, how = torch.arange(60), Augmentation(PADDING, True, cutout=2)
    spec = BatchSpec(rows, rows, 6, (0.0,) * 3, (1 / 255,) * 3, CPU, how, 7)
    broken, whole = (StreamingLoader(coded_images(60), SIZE, n, spec) for n in (2, 0))
    next(iter(broken))
    whole.load_state_dict(broken.state_dict())
    for (a, x), (b, y) in zip(broken, whole, strict=True):
        assert torch.equal(a, b) and torch.equal(x, y)


def test_randaugment_is_torchvisions_with_a_seed_per_image() -> None:
    loader = loaders(30, Augmentation(randaugment=2))[1]
    ((_, draws),) = loader.plan(0)
    images, _ = next(iter(loader))
    original = Image.fromarray(coded_images(1)[0])
    changed = 0
    for image, seed in zip(images, draws.seed.tolist(), strict=True):
        torch.manual_seed(seed)
        expected = np.array(v2.RandAugment(num_ops=2)(original))
        assert np.array_equal(image.permute(1, 2, 0).numpy(), expected)
        changed += not np.array_equal(expected, np.array(original))
    assert changed > 5


def test_without_augmentation_both_only_shuffle() -> None:
    (a, x), (b, y) = (next(iter(loader)) for loader in loaders(50, Augmentation()))
    assert torch.equal(a, b) and torch.equal(x, y) and sorted(x.tolist()) == list(range(50))
    assert x.tolist() != list(range(50))
