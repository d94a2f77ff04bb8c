"""The figures that need a GPU, as one table with the card's name.

python -m benchmarks.gpu                                 # at most 9 minutes: gpu_results.md
python -m benchmarks.gpu --only compiled --minutes 40 --save compiled.md
python -m benchmarks.gpu --device cpu --tiny             # tries the command without a GPU

Rows run in order of importance until --minutes are over. An error is written in its row, and the
next one starts with fresh memory: in a new process, where the error broke the old one or its CUDA
context. The file is replaced after every row, so that a run which is killed leaves what it has
measured. Images are random; the search is that of the embedded digits.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks._common import hardware
from benchmarks._measure import Cells, Row, Work, measure, release, run_row, run_search
from benchmarks._worker import Ended, Worker
from benchmarks.evaluation import evolved
from benchmarks.training_steps import Kind, Training
from config_file.arg_config.fields import Parser
from config_file.arg_config.types import number, path
from data.augment import Augmentation
from data.loader import BatchSpec, MemoryLoader, pad
from model import Subnet, build_supernet, load_space
from search_strategy.evaluator import Evaluator
from utils.errors import user_errors
from utils.files import write_text

COLUMNS = ("measured", "ms", "per second", "GPU busy", "launches", "peak MiB", "note")
USABLE = 0.97  # of --minutes; the rest is start-up, and what cannot be interrupted
START_S = 120  # until a process has loaded PyTorch and reached the device, at most
GRACE_S = 30  # beyond a row's limit, which does not interrupt a kernel
CLASSES = 10
PIPELINE_BATCH = 256
ABOUT = """\
- A step is one of training: forward, backward, gradient clipping, SGD, in channels_last. Supernet
  and subnet take the same path, drawn with seed 0. The evaluator calibrates and scores {networks}
  networks of generation {generation} of an evolution, the pipeline gives {images:,} images.
- ms: of one step, batch or network, or of the whole search; the median over windows of
  {window_s:g} s between two synchronisations, after warm-up. GPU busy: time in kernels, by the
  profiler, over that time. launches: kernels, copies and fills. peak MiB: the most that PyTorch's
  allocator gave out. On a CPU: time within operators, operators, the most that the process had."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of what the rows measure; batches and pixels in order of importance."""

    batches: tuple[int, ...] = (256, 64, 1024)
    pixels: tuple[int, ...] = (32, 224)
    backend: str = "inductor"  # of torch.compile
    window_s: float = 0.5
    enough_s: float = 4.0
    networks: int = 60  # of a population
    generation: int = 10
    scored_images: int = 5120
    eval_batch: int = 512
    images: int = 51200  # in memory
    search: tuple[str, ...] = ()  # flags


TINY = Sizes(
    batches=(2,),
    pixels=(8,),
    backend="eager",
    window_s=0.01,
    enough_s=0.0,
    networks=10,
    generation=2,
    scored_images=16,
    eval_batch=8,
    images=512,
    search=("--epochs", "1", "--batch-size", "256", "--generation-num", "1", "--population", "10"),
)


class Bench:
    """Works that the rows measure, on one device, in one search space."""

    def __init__(self, device: torch.device, space: str, sizes: Sizes) -> None:
        self.device, self.sizes = device, sizes
        self.space = str(Path(space).resolve()) if Path(space).is_file() else space

    def step(self, net: str, pixels: int, batch: int, kind: Kind) -> Work:
        """Return a training step of the supernet, or of the subnet on its own."""
        torch.manual_seed(0)
        space = load_space(self.space, pixels, CLASSES)
        path = np.random.default_rng(0).integers(0, space.num_choices)
        alone = net == "subnet"
        whole = Subnet(space, path, space.training_style) if alone else build_supernet(space)
        training = Training(whole, self.device, kind, self.sizes.backend)
        images = torch.randn(batch, 3, pixels, pixels, device=self.device)
        images = images.contiguous(memory_format=torch.channels_last)
        labels = torch.randint(0, CLASSES, (batch,), device=self.device)
        route = () if alone else (path,)
        return Work(run=lambda: training.step(images, labels, *route), count=batch)

    def scoring(self, precision: str) -> Work:
        """Return calibration and validation of a population that shares prefixes."""
        torch.manual_seed(0)
        size, sizes = self.sizes.pixels[0], self.sizes
        space = load_space(self.space, size, CLASSES)
        supernet = build_supernet(space).to(self.device, memory_format=torch.channels_last)
        population = evolved(space, sizes.networks, sizes.generation)
        shape = (sizes.scored_images, 3, size, size)
        images = torch.randn(shape, device=self.device).split(sizes.eval_batch)
        labels = torch.randint(0, CLASSES, shape[:1], device=self.device).split(sizes.eval_batch)
        validation = list(zip(images, labels, strict=True))

        def run() -> None:
            Evaluator(supernet, images[:2], validation, precision)(population)

        return Work(run=run, units=len(population), count=len(population), things="networks")

    def pipeline(self, augmentation: Augmentation | None) -> Work:
        """Return a pass over images that are all on the device."""
        size, number = self.sizes.pixels[0], self.sizes.images
        pixels = np.random.default_rng(0).integers(0, 256, (number, size, size, 3), np.uint8)
        labels, mean, std = torch.zeros(number, dtype=torch.int64), (0.5,) * 3, (0.25,) * 3
        spec = BatchSpec(
            torch.arange(number), labels, PIPELINE_BATCH, mean, std, self.device, augmentation
        )
        loader = MemoryLoader(pad(torch.from_numpy(pixels), 4, self.device), 4, spec)
        # a deque of no length takes all that a loader yields
        return Work(run=lambda: deque(loader, maxlen=0), units=len(loader), count=number)

    def measured(self, make: Callable[[], Work]) -> Cells:
        """Measure a work; return its cells."""
        work, found = measure(make, self.device, self.sizes.window_s, self.sizes.enough_s)
        notes = [f"the first run took {found.first_s:.0f} s"] if found.first_s > 5 else []
        notes += [] if found.launches else ["the profiler saw nothing"]
        return {
            "ms": f"{1e3 * found.unit_s:,.3f}",
            "per second": f"{found.rate:,.0f} {work.things}",
            "GPU busy": "" if found.busy is None else f"{found.busy:.0%}",
            "launches": "" if found.launches is None else f"{found.launches:,.0f}",
            "peak MiB": "" if found.peak_mib is None else f"{found.peak_mib:,.0f}",
            "note": "; ".join(notes),
        }

    def search(self) -> Cells:
        """Return the cells of the default search, a process of its own with all its start-up."""
        flags = ["--search-strategy", "evolution", "--search-space", self.space]
        flags += ["--device", self.device.type, *self.sizes.search]
        start = time.perf_counter()
        facts = run_search(flags)
        took, peak = time.perf_counter() - start, facts["peak_mib"]
        phases = {"start-up": took - sum(facts["phases"].values()), **facts["phases"]}
        return {
            "ms": f"{1e3 * took:,.0f}",
            "peak MiB": "" if peak is None else f"{peak:,.0f}",
            "note": ", ".join(f"{name} {spent:.1f} s" for name, spent in phases.items()),
        }

    def steps(self, pixels: int, compiled: bool) -> Iterator[Row]:
        """Yield training steps; the subnet finds its compiled graphs in the supernet's cache."""
        options = itertools.product(self.sizes.batches, ("off", "bf16"), ("supernet", "subnet"))
        for batch, amp, net in options:
            kind = Kind(amp=amp, compiled=compiled)
            name = f"{net} step, {'float32' if amp == 'off' else amp}"
            name += f"{', compiled' if compiled else ''}, {pixels} px, batch {batch}"
            make = partial(self.step, net, pixels, batch, kind)
            yield Row(name=name, run=partial(self.measured, make))

    def rows(self) -> Iterator[Row]:
        """Yield all rows, in order of importance."""
        small, *larger = self.sizes.pixels
        yield from self.steps(small, compiled=False)
        yield Row(name="default search on digits, end to end", run=self.search, limit=0.5)
        for precision in ("fp32", "bf16"):
            name = f"evaluator, {precision}, {small} px, {self.sizes.scored_images:,} images"
            make = partial(self.scoring, precision)
            yield Row(name=name, run=partial(self.measured, make))
        ways = {"augmented": Augmentation(padding=4, flip=True), "as they are": None}
        for how, augmentation in ways.items():
            name = f"in-memory pipeline, {how}, {small} px, batch {PIPELINE_BATCH}"
            yield Row(name=name, run=partial(self.measured, partial(self.pipeline, augmentation)))
        for pixels in larger:
            yield from self.steps(pixels, compiled=False)
        for pixels in self.sizes.pixels:
            yield from self.steps(pixels, compiled=True)


def call_row(worker: Worker, row: Row, limit_s: float, device: torch.device) -> Cells:
    """Return the cells of a row that the worker runs; where its process ends, a note."""
    with contextlib.suppress(Ended):  # an earlier row broke the device; the process is replaced
        worker.call(release, device, limit_s=START_S)
    try:
        return worker.call(run_row, row, limit_s, limit_s=limit_s + GRACE_S)
    except Ended as error:
        return {"note": f"error: {error}"}


def heading(device: torch.device, space: str, sizes: Sizes) -> str:
    """Format device, space and method of the table as Markdown."""
    title = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
    states = ", ".join(
        f"{what} {'on' if on else 'off'}"
        for what, on in (
            ("convolutions", torch.backends.cudnn.allow_tf32),
            ("matrix products", torch.backends.cuda.matmul.allow_tf32),
        )
    )
    where = f"- Search space {Path(space).stem}. {hardware()}. TF32: {states}."
    return f"# Measured on {title}\n\n{where}\n{ABOUT.format(**vars(sizes))}\n"


def line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def table(rows: Sequence[Row], results: dict[str, Cells]) -> list[str]:
    """Format Markdown: two lines of the header, then one per row; rows to come are "not run"."""
    lines = [line(COLUMNS), "|---" * len(COLUMNS) + "|"]
    for row in rows:
        cells = results.get(row.name, {"note": "not run"}) | {"measured": row.name}
        lines.append(line([cells.get(column, "") for column in COLUMNS]))
    return lines


def arguments() -> argparse.Namespace:
    """Read the flags. Raises ValueError where the device is not there, or too slow."""
    parser = Parser(__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes that take seconds on a CPU")
    parser.add_argument("--space", default="proxylessnas", help="a name, or a path to a .yaml")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose name contains it")
    parser.add_argument("--minutes", type=number(0, open_low=True), default=9.0, help="at most (9)")
    parser.add_argument("--save", type=path, default=Path("gpu_results.md"), metavar="FILE")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "--device cuda: PyTorch sees no GPU here; --device cpu --tiny tries the command"
        )
    if args.device == "cpu" and not args.tiny:
        raise ValueError("--device cpu needs --tiny: the other sizes are those of a GPU")
    return args


@user_errors
def main() -> None:
    args = arguments()
    seconds = USABLE * 60 * args.minutes
    deadline = time.perf_counter() + seconds
    device, sizes = torch.device(args.device), TINY if args.tiny else Sizes()
    load_space(args.space, sizes.pixels[0], CLASSES)  # a user error here, not in every row
    rows = [row for row in Bench(device, args.space, sizes).rows() if args.only in row.name]
    if not rows:
        raise ValueError(f"--only {args.only!r}: no row's name contains it")
    with Worker() as worker:
        try:
            head = worker.call(heading, device, args.space, sizes, limit_s=START_S)
        except Ended as error:
            raise ValueError(f"--device {args.device} cannot be used: {error}") from None
        results: dict[str, Cells] = {}

        def save() -> list[str]:
            lines = table(rows, results)
            write_text(args.save, "\n".join([head, *lines, ""]))
            return lines

        print(head, *save()[:2], sep="\n", flush=True)
        for i, row in enumerate(rows):
            left = deadline - time.perf_counter()
            results[row.name] = {"note": "not run: out of time"}
            if left > 0:
                limit_s = min(left, row.limit * seconds)
                results[row.name] = call_row(worker, row, limit_s, device)
            print(save()[2 + i], flush=True)
    print(f"\nwritten: {args.save}")


if __name__ == "__main__":
    main()
