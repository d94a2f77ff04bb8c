"""Image files as networks see them: decoded, resized, cropped, normalised."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

SMALL = 64  # px; larger input is cropped out of an image 256/224 times as large, as is usual


def short_side(size: int) -> int:
    """Length (px) that the short side of an image is resized to, for a centre crop of `size` px.

    Up to 64 px the whole short side is kept; above, 224 of 256 px (the usual ImageNet crop).
    """
    return size if size <= SMALL else round(size * 256 / 224)


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """The preprocessing that a trained network expects, and its classes; makes its input.

    Attributes:
        resize: px of the short side (bilinear, antialiased), of which the centre is cropped.
        input_size: px of the crop.
        mean, std: per channel, of images scaled to [0, 1].
        classes: names in the order of the logits.
    """

    input_size: int
    resize: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]

    @classmethod
    def of(cls, values: dict[str, Any]) -> Preprocessing:
        """Make it from a mapping; files of older versions hold no `resize`."""
        size = values["input_size"]
        lists = {key: tuple(values[key]) for key in ("mean", "std", "classes")}
        return cls(input_size=size, resize=values.get("resize", short_side(size)), **lists)

    def values(self) -> dict[str, Any]:
        """Return the attributes as plain values, for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    def __call__(self, image: Image | np.ndarray | str | Path) -> Tensor:
        """Return float32 [3, input_size, input_size] of a file, PIL image or uint8 [H, W, 3].

        Raises:
            ValueError: the file is no readable image.
        """
        from torchvision.transforms.v2 import functional

        if isinstance(image, (str, Path)):
            image = read_image(Path(image))
        pixels = functional.pil_to_tensor(crop(image, self.resize, self.input_size))
        return functional.normalize(pixels.float() / 255, list(self.mean), list(self.std))


def read_image(path: Path) -> Image:
    """Decode a file to RGB, of an animation the first frame.

    Grey is repeated, palettes are looked up, CMYK is converted, alpha is dropped.

    Raises:
        ValueError: it cannot be decoded, all of it, or has no range of brightness that is known.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            if image.mode == "F":
                raise ValueError("floating-point pixels without a range; save it with 8 bits")
            if image.mode.startswith("I"):  # 16 bits of grey, which PIL would clip at 255
                grey = np.asarray(image).astype(np.int64)
                if grey.min() < 0 or grey.max() > 65535:
                    raise ValueError("grey values beyond 16 bits; save it with 8 or 16")
                return Image.fromarray((grey >> 8).astype(np.uint8)).convert("RGB")  # 16 -> 8 bits
            if image.mode == "P" and "transparency" in image.info:
                return image.convert("RGBA").convert("RGB")  # else PIL warns
            return image.convert("RGB")
    except UnidentifiedImageError as error:
        raise ValueError(
            f"{path} is not a readable image (of no format that Pillow knows); fix or remove it"
        ) from error
    except Exception as error:  # PIL's decoders raise nearly every kind there is
        reason = " ".join(str(error).replace(str(path), "it").split()) or type(error).__name__
        raise ValueError(f"{path} is not a readable image ({reason}); fix or remove it") from error


def as_pil(image: Image | np.ndarray) -> Image:
    from PIL import Image

    return Image.fromarray(image) if isinstance(image, np.ndarray) else image


def crop(image: Image | np.ndarray, short: int, size: int) -> Image:
    """Resize the short side of an image to `short` px; return the centre `size` x `size`."""
    from torchvision.transforms.v2 import functional

    image = as_pil(image)
    if min(image.size) != short:
        image = functional.resize(image, [short], antialias=True)
    return image if image.size == (size, size) else functional.center_crop(image, [size, size])
