"""Batches of (images, labels) on the device, from uint8 images in memory.

Training batches are shuffled and augmented with per-image randomness, whole batches at a time on
the device, or by worker processes with torchvision's transforms (`num_workers` > 0). Evaluation
batches are the images as they are, in order, all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset


@dataclass(frozen=True)
class Augmentation:
    """Random crop of the zero-padded image (px on each side) and random horizontal flip.

    Then RandAugment (operations per image) and cutout (px of the square's side); 0 is none.
    """

    padding: int
    flip: bool
    randaugment: int = 0
    cutout: int = 0


def image_transforms(how: Augmentation) -> list:
    """torchvision's RandAugment and cutout of one image, uint8 [3, H, W]."""
    from torchvision.transforms import v2

    steps: list = []
    if how.randaugment:
        steps.append(v2.RandAugment(num_ops=how.randaugment))
    if how.cutout:
        steps.append(v2.Lambda(lambda image: cut_out(image, how.cutout)))
    return steps


def cut_out(image: Tensor, size: int) -> Tensor:
    """A square of zeros at a random place, cut off at the borders (1708.04552)."""
    row, column = (int(torch.randint(n, ())) for n in image.shape[1:])
    image = image.clone()
    top, left = max(0, row - size // 2), max(0, column - size // 2)
    image[:, top : row - size // 2 + size, left : column - size // 2 + size] = 0
    return image


def random_crop_flip(images: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """[B, 3, H, W] -> the same shape; every image has its own shift and flip."""
    b, _, h, w = images.shape
    device = images.device

    def draw(high: int) -> Tensor:  # on the CPU: the same numbers whatever the device
        return torch.randint(0, high, (b,), generator=generator).to(device)

    if how.padding:
        p = how.padding
        padded = F.pad(images, (p, p, p, p))
        rows = draw(2 * p + 1)[:, None] + torch.arange(h, device=device)  # [B, H]
        columns = draw(2 * p + 1)[:, None] + torch.arange(w, device=device)  # [B, W]
    else:
        padded = images
        rows = torch.arange(h, device=device).expand(b, h)
        columns = torch.arange(w, device=device).expand(b, w)
    if how.flip:
        columns = torch.where(draw(2)[:, None] == 1, columns.flip(1), columns)
    batch = torch.arange(b, device=device)[:, None, None]
    # channels move last under this indexing: [B, H, W, 3]
    return padded[batch, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


class Loader:
    """An iterable of (images float [B, 3, H, W] normalised, labels int64 [B]) on `device`.

    With an augmentation it shuffles, augments and drops the last, smaller batch; without, it gives
    every image once, in order, as it is. `state_dict` holds the random state between two epochs.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        batch_size: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        device: torch.device,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        self.in_memory = augmentation is None or num_workers == 0
        home = device if self.in_memory else torch.device("cpu")
        self.images = images.to(home)
        self.labels = labels.to(home)
        self.batch_size = batch_size
        self.mean = torch.tensor(mean, device=device).view(1, -1, 1, 1) * 255
        self.std = torch.tensor(std, device=device).view(1, -1, 1, 1) * 255
        self.device = device
        self.augmentation = augmentation
        self.num_workers = num_workers
        self.generator = torch.Generator().manual_seed(seed)

    @property
    def num_images(self) -> int:
        return len(self.images)

    def __len__(self) -> int:
        if self.augmentation is not None:
            return self.num_images // self.batch_size
        return -(-self.num_images // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self.augmentation is None:
            batches = zip(
                self.images.split(self.batch_size), self.labels.split(self.batch_size), strict=True
            )
        elif self.in_memory:
            batches = self._augmented(self.augmentation)
        else:
            batches = self._from_workers(self.augmentation)
        for images, labels in batches:
            x = (images.to(self.device, non_blocking=True).float() - self.mean) / self.std
            yield (
                x.contiguous(memory_format=torch.channels_last),
                labels.to(self.device, non_blocking=True),
            )

    def _augmented(self, how: Augmentation) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(self.num_images, generator=self.generator)
        for i in range(len(self)):
            rows = order[i * self.batch_size : (i + 1) * self.batch_size].to(self.images.device)
            images = random_crop_flip(self.images[rows], how, self.generator)
            for step in image_transforms(how):
                images = torch.stack([step(image) for image in images])
            yield images, self.labels[rows]

    def _from_workers(self, how: Augmentation) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(
            DataLoader(
                TransformedImages(self.images, self.labels, how),
                self.batch_size,
                shuffle=True,
                drop_last=True,
                num_workers=self.num_workers,
                generator=self.generator,
                pin_memory=self.device.type == "cuda",
            )
        )

    def state_dict(self) -> dict:
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict) -> None:
        self.generator.set_state(state["generator"])


class TransformedImages(Dataset):
    """uint8 images through torchvision's transforms, one at a time, for worker processes."""

    def __init__(self, images: Tensor, labels: Tensor, how: Augmentation) -> None:
        from torchvision.transforms import v2

        self.images, self.labels = images, labels
        steps: list = [v2.RandomCrop(images.shape[-1], padding=how.padding or None)]
        if how.flip:
            steps.append(v2.RandomHorizontalFlip())
        self.transform = v2.Compose(steps + image_transforms(how))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self.transform(self.images[i]), self.labels[i]
