"""`predict`: the detections of a detector in image files, one by one."""

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

AHEAD = 4  # images that are read in advance while the detector works


class Predicted(NamedTuple):
    """An image file, its picture, and the detections in pixels of the picture."""

    path: Path
    image: Image.Image
    seen: Detections


def predict(model: nn.Module, paths: Sequence[Path], *, amp: str = "none") -> Iterator[Predicted | Broken]:
    """The detections in each image, in eval mode; afterwards every module has its own mode again.

    Images are processed one by one, as in an evaluation, because padding to a common size would change the result of an
    image.

    Args:
        model: a detector, from `create_detector` or `load_detector`.
        paths: image files.
        amp: type of autocast: "none", "bfloat16" or "float16".

    Returns:
        For each file in turn, its detections, or the reason why it cannot be read.

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
    """The images, or the reasons why they cannot be read; a few are read in advance."""
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
