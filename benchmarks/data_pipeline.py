"""Images per second of the in-memory pipeline against the standard DataLoader with PIL transforms.

python -m benchmarks.data_pipeline                       # 50,000 images of CIFAR's size, batch 256
python -m benchmarks.data_pipeline --num-images 5000 --rounds 3
python -m benchmarks.data_pipeline --device cuda

Both give the same batches of normalised float images after random crop (padding 4) and flip. The
sides take turns within one run, and the medians of their rates are compared. In memory, one thread
works unless --threads says more; the DataLoader counts with the best number of workers tried.
"""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Iterable

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks._common import device, synchronize
from config_file.arg_config.fields import Parser
from data.augment import Augmentation
from data.loader import BatchSpec, MemoryLoader, pad

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class PilImages(Dataset):
    """Images as torchvision's CIFAR10 gives them: by PIL, one by one."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = images, labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.ToPILImage(),
                transforms.RandomCrop(images.shape[1], padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[i]), self.labels[i]


def rate(batches: Iterable, limit: int, device: torch.device) -> float:
    """Return images per second of up to `limit` batches after the first, which starts workers."""
    iterator, number = iter(batches), 0
    next(iterator)
    start = time.perf_counter()
    for images, labels in itertools.islice(iterator, limit):
        number += len(images.to(device))
        labels.to(device)
    synchronize()
    return number / (time.perf_counter() - start)


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--num-images", type=int, default=50000)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7, help="turns of each side (default: 7)")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="of the DataLoader")
    parser.add_argument("--batches", type=int, default=24, help="per turn of the DataLoader")
    parser.add_argument("--threads", type=int, default=1, help="of torch, in memory (default: 1)")
    parser.add_argument("--device", type=device, default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (args.num_images, 32, 32, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, args.num_images)
    crops = Augmentation(padding=4, flip=True)
    where = torch.arange(len(images)), torch.from_numpy(labels)
    spec = BatchSpec(*where, args.batch_size, MEAN, STD, args.device, crops)
    ours = MemoryLoader(pad(torch.from_numpy(images), 4, args.device), 4, spec)
    sides: dict[str, tuple[Iterable, int]] = {"in memory": (ours, 8 * args.batches)}
    options = {"batch_size": args.batch_size, "shuffle": True, "drop_last": True}
    for workers in args.workers:
        loader = DataLoader(PilImages(images, labels), num_workers=workers, **options)
        sides[f"DataLoader, {workers} workers"] = (loader, args.batches)

    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(args.rounds):
        for name, (batches, limit) in sides.items():
            rates[name].append(rate(batches, limit, args.device))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    fastest = max((name for name in medians if name != "in memory"), key=medians.__getitem__)
    found = {
        "images_per_s": {name: round(value) for name, value in medians.items()},
        "compared_with": fastest,
        "ratio": round(medians["in memory"] / medians[fastest], 1),
        "batch_size": args.batch_size,
        "threads": torch.get_num_threads(),
        "device": str(args.device),
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
