"""`read_image`: read an image file of any mode as 8-bit RGB. The whole library reads images by it.

It differs from `Image.open(path).convert("RGB")`, which timm and torchvision use, where that loses information:

- 16-bit values are divided by 257 instead of being clipped at 255; floats from 0 to 1 are multiplied by 255.
- Transparent pixels become white instead of their hidden colour.
- The image is rotated by its EXIF orientation.

For 8-bit images without alpha and orientation the result is the same.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

LONGEST = 100  # times the shorter side: resized to 224 such an image takes 15 MB, one of 20000x1 would take 13 GB
ORIENTATION = 0x0112
SIDEWAYS = 5  # orientations from here on exchange width and height
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadableImageError(ValueError):
    """An image that cannot be read; the message is the reason, if possible that of Pillow."""


def read_image(path: str | os.PathLike[str]) -> Image.Image:
    """The first frame of an image file as RGB.

    Modes `I` and `I;16` are read as 16-bit, F as values from 0 to 1. The image is rotated by EXIF; damaged EXIF is
    ignored. Alpha is composited on white.

    Raises:
        UnreadableImageError: no file, no image, a damaged or a huge one, a longer side of more than 100 times the
            shorter, or values out of their range.
    """
    try:
        with _opened(Path(path)) as image:
            image.load()
            return _rgb(_upright(image))
    except MemoryError:
        raise
    except Exception as error:  # damaged files make Pillow's decoders raise almost anything
        raise UnreadableImageError(_reason(error)) from None


def check_header(path: Path) -> tuple[int, int]:
    """Width and height by the first bytes of a file, rotated by EXIF if that comes before the pixels.

    Raises:
        UnreadableImageError: `read_image` would, as far as these bytes tell.
    """
    try:
        with _opened(path) as image:
            width, height = image.size
            return (height, width) if _lies_on_its_side(image) else (width, height)
    except MemoryError:
        raise
    except Exception as error:
        raise UnreadableImageError(_reason(error)) from None


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image of a file whose header has been read. Raises UnreadableImageError for a strip."""
    # Given a path, Pillow maps plain TIFFs into memory, and exchanges height and width of those to rotate.
    with path.open("rb") as file, Image.open(file) as image:
        if max(image.size) > LONGEST * min(image.size):
            width, height = image.size
            raise UnreadableImageError(
                f"wanted a longer side of at most {LONGEST} times the shorter, got {width}x{height} pixels"
            )
        yield image


def _upright(image: Image.Image) -> Image.Image:
    """The image rotated by its EXIF orientation; Pillow has already rotated TIFFs."""
    try:
        turn = UPRIGHT.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged EXIF, while the pixels may be intact
        return image
    return image if turn is None else image.transpose(turn)


def _lies_on_its_side(image: Image.Image) -> bool:
    """Whether `_upright` exchanges width and height; for a TIFF, Pillow's size is that after rotation."""
    if image.format == "TIFF" or "exif" not in image.info:
        return False
    try:
        return image.getexif().get(ORIENTATION, 1) >= SIDEWAYS
    except Exception:  # damaged EXIF
        return False


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        gray = Image.fromarray(_eight_bits(image))
        return gray.convert("RGB")
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), colours).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> NDArray[np.uint8]:
    """Gray values of more than 8 bits in 0…255, rounded."""
    values = np.asarray(image)
    top, scale = (1, 255.0) if image.mode == "F" else (65535, 1 / 257)
    if not (values.min() >= 0 and values.max() <= top):  # NaN too
        raise UnreadableImageError(
            f"wanted values from 0 to {top} in mode {image.mode}, got {values.min():g} to {values.max():g}"
        )
    scaled = np.rint(values * scale).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        scaled[values == transparent] = 255
    return scaled


def _reason(error: Exception) -> str:
    """The message of an error, in one line and without the file's name, which reports add."""
    if isinstance(error, UnidentifiedImageError):
        return "cannot identify image file"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__
