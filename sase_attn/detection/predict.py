"""`predict`: what a detector finds in image files, one by one; and all of it as COCO writes results."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from torch import nn
from torchvision.transforms.functional import pil_to_tensor

from sase_attn.detection.evaluation.detections import Detections, detect, evaluating
from sase_attn.training.data.image_file import UnreadableImageError, read_image
from sase_attn.training.data.reading import Broken

AHEAD = 4  # images that are read while the detector looks at one


class Predicted(NamedTuple):
    """An image file, its pixels, and what was found in it, in those pixels."""

    path: Path
    image: Image.Image
    seen: Detections


def predict(model: nn.Module, paths: Sequence[Path], *, amp: str = "none") -> Iterator[Predicted | Broken]:
    """What a detector finds in each image, in eval mode; afterwards every module's mode is what it was.

    Images are looked at one by one, as in an evaluation: beside others, padded to a common size, an image would get
    other numbers.

    Args:
        model: what `create_detector` or `load_detector` gives.
        paths: image files.
        amp: type of autocast: "none", "bfloat16" or "float16".

    Returns:
        For each file in turn what was found, or why it cannot be read.

    Raises:
        ImportError: faster-coco-eval, which writes masks, is not installed.
    """
    with evaluating(model), ThreadPoolExecutor(AHEAD) as pool:
        for path, image in _read_ahead(pool, paths):
            if isinstance(image, str):
                yield Broken(path, image)
            else:
                (seen,) = detect(model, [pil_to_tensor(image)], amp=amp)
                yield Predicted(path, image, seen)


def _read_ahead(pool: ThreadPoolExecutor, paths: Sequence[Path]) -> Iterator[tuple[Path, Image.Image | str]]:
    """The images, or why they cannot be read, of which a few are read before they are asked for."""
    waiting: deque[tuple[Path, Future[Image.Image | str]]] = deque()
    for path in paths:
        waiting.append((path, pool.submit(_read, path)))
        if len(waiting) > AHEAD:
            first, read = waiting.popleft()
            yield first, read.result()
    for first, read in waiting:
        yield first, read.result()


def _read(path: Path) -> Image.Image | str:
    try:
        return read_image(path)
    except UnreadableImageError as error:
        return str(error)
