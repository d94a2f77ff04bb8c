"""Batches of images that do not fit in memory: decoded and augmented by worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data.augment import Augmentation, image_transform
from data.images import Images, fit
from data.loader import BatchSpec, Loader, Part
from utils.preprocessing import as_pil

S = TypeVar("S", bound="StreamingLoader")


class TransformedImages(Dataset):
    """Dataset of (index, seed) -> uint8 [size, size, 3], or the text of an error."""

    def __init__(self, images: Images, size: int, how: Augmentation) -> None:
        self.images, self.size = images, size
        plain = how == Augmentation(cutout=how.cutout)  # cutout is the device's
        self.transform = None if plain else image_transform(how, size)
        self.fit_first = not how.resized_crop

    def __getitem__(self, request: tuple[int, int]) -> np.ndarray | str:
        row, seed = request
        try:
            image = as_pil(self.images[row])
        except ValueError as error:  # raised in a worker it would come with a traceback
            return str(error)
        if self.fit_first:
            image = fit(image, self.size)
        if self.transform is not None:
            state = torch.get_rng_state()  # without workers, it is the model's generator
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed GPUs too
            image = self.transform(image)
            torch.set_rng_state(state)
        return np.array(image)


def stack(images: list[np.ndarray | str]) -> Tensor | str:
    """Stack a batch to uint8 [B, H, W, 3], or return its first error."""
    errors = [x for x in images if isinstance(x, str)]
    return errors[0] if errors else torch.from_numpy(np.stack(images))


class Requests:
    """Batches of (index, seed) for a DataLoader, out of the plan of an epoch."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.plan: Iterator[Part] = iter(())

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for rows, draws in self.plan:
            seeds = [0] * len(rows) if draws is None else draws.seed.tolist()  # 0: not used
            yield list(zip(rows.tolist(), seeds, strict=True))


class StreamingLoader(Loader):
    """Images decoded anew in every epoch.

    Args:
        images: of the whole part; the loader's `indices` choose among them.
        size: px of a side of the batches.
        num_workers: processes that decode and augment; those of training live as long as the
            loader; 0 does it in this process.
    """

    def __init__(self, images: Images, size: int, num_workers: int, spec: BatchSpec) -> None:
        super().__init__(spec)
        self.dataset = TransformedImages(images, size, self.augmentation or Augmentation())
        self.num_workers = num_workers
        self._make_batches()

    def _make_batches(self) -> None:
        self.requests = Requests(len(self))
        self.batches = DataLoader(
            self.dataset,
            batch_sampler=self.requests,
            collate_fn=stack,
            num_workers=self.num_workers,
            persistent_workers=self.augmentation is not None and self.num_workers > 0,
            pin_memory=self.device.type == "cuda",  # else copies block
            generator=torch.Generator(),  # not torch's global one: it is the model's
        )

    def sharded(self: S, rank: int, world_size: int) -> S:
        part = super().sharded(rank, world_size)
        part._make_batches()  # the copy would share its requests
        return part

    def pixels(self, plan: Iterator[Part]) -> Iterator[Tensor]:
        self.requests.plan = plan  # read when the DataLoader is iterated
        return to_device_ahead(map(checked, self.batches), self.device)


def checked(batch: Tensor | str) -> Tensor:
    """Return the batch; raise ValueError if it is an error instead."""
    if isinstance(batch, str):
        raise ValueError(f"{batch}; then go on with --resume")
    return batch


def to_device_ahead(batches: Iterator[Tensor], device: torch.device) -> Iterator[Tensor]:
    """Yield batches on the device; on CUDA the next one is copied while this one is computed on."""
    if device.type != "cuda":
        for batch in batches:
            yield batch.to(device)
        return
    side = torch.cuda.Stream(device)

    def copied() -> Iterator[tuple[Tensor, torch.cuda.Event]]:
        for batch in batches:
            with torch.cuda.stream(side):
                on_device = batch.to(device, non_blocking=True)  # pinned: the host does not wait
                done = side.record_event()
            yield on_device, done

    def ready(batch: Tensor, done: torch.cuda.Event) -> Tensor:
        torch.cuda.current_stream(device).wait_event(done)  # the GPU waits, not the host
        batch.record_stream(torch.cuda.current_stream(device))  # memory of the side stream
        return batch

    waiting = None
    for following in copied():  # one batch ahead
        if waiting is not None:
            yield ready(*waiting)
        waiting = following
    if waiting is not None:
        yield ready(*waiting)
