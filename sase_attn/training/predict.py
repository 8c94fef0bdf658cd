"""`predict`: the classes that a network predicts for image files, with probabilities."""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sase_attn.training.data.image_file import UnreadableImageError, read_image
from sase_attn.training.data.normalise import Normalise
from sase_attn.training.data.reading import Broken
from sase_attn.training.data.view import View
from sase_attn.training.data.walk import Skipped, images_below


class ImagePath(NamedTuple):
    """An image file that was given, or that lies below a folder that was.

    Attributes:
        path: the file.
        folders: names of the folders that it is in, from the innermost to the given one; for a given file, its own.
    """

    path: Path
    folders: tuple[str, ...]


@dataclass(frozen=True)
class Prediction:
    """The prediction of a network for an image.

    Attributes:
        path: the file.
        classes: names of the most probable classes, the most probable first.
        probabilities: their probabilities, from 0 to 1.
        folder_class: the class that the nearest folder above the file is named after, if one is.
    """

    path: Path
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    folder_class: str | None = None

    @property
    def is_wrong(self) -> bool:
        """Whether the folder is named after another class."""
        return self.folder_class is not None and self.classes[0] != self.folder_class


@dataclass
class Predictions:
    """The predictions of all images that can be read, in their order, and those that cannot.

    `pixels` holds the first `keep` images as the network saw them, uint8 (3, H, W).
    """

    images: list[Prediction] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    pixels: list[Tensor] = field(default_factory=list)


def image_paths(sources: Iterable[str | os.PathLike[str]]) -> list[ImagePath]:
    """The given image files, and those at any depth below given folders; a warning says what is left out.

    Raises:
        FileNotFoundError: no such file or folder, or none holds an image.
    """
    found: list[ImagePath] = []
    for source in map(Path, sources):
        if source.is_dir():
            skipped = Skipped()
            for file in images_below(source, skipped):
                inner = Path(file.name).parent.parts
                found.append(ImagePath(source / file.name, (*reversed(inner), source.absolute().name)))
            skipped.warn(source)
        elif source.is_file():
            found.append(ImagePath(source, (source.absolute().parent.name,)))
        else:
            raise FileNotFoundError(f"no such image or folder: {source}")
    if not found:
        raise FileNotFoundError(f"no images in {', '.join(map(str, sources))}")
    return found


@torch.inference_mode()
def predict(
    model: nn.Module,
    images: Sequence[ImagePath],
    classes: Sequence[str],
    view: View,
    normalise: Normalise,
    *,
    top: int = 5,
    batch_size: int = 32,
    keep: int = 0,
    compare_folders: bool = True,
) -> Predictions:
    """Predict in eval mode and float32, on the model's device.

    Args:
        model: maps (B, 3, size, size) to (B, classes).
        images: the images, from `image_paths`.
        classes: names of the outputs.
        view: how the network sees images; its size must be known.
        normalise: normalises values from 0 to 255.
        top: how many classes to return for each image.
        batch_size: images at a time.
        keep: for how many images to return the pixels.
        compare_folders: whether folders may be named after classes. They are not if `classes` are only the numbers of
            the outputs: a folder named 10 need not be output 10.

    Raises:
        ValueError: the view has no size, or the network has another number of outputs than there are names.
    """
    if view.size is None:
        raise ValueError("the network does not say at which size it sees images; give the size")
    parameter, transform = next(model.parameters()), view.transform(view.size, view.crop_pct or 1.0)
    names, found = set(classes if compare_folders else ()), Predictions()

    def load(image: ImagePath) -> Tensor | str:
        try:
            whole = read_image(image.path)
        except UnreadableImageError as error:
            return str(error)
        return transform(whole)

    model.eval()
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        for start in range(0, len(images), batch_size):
            some = images[start : start + batch_size]
            loaded = list(pool.map(load, some))
            found.broken += [
                Broken(image.path, reason)
                for image, reason in zip(some, loaded, strict=True)
                if isinstance(reason, str)
            ]
            whole = [image for image, values in zip(some, loaded, strict=True) if isinstance(values, Tensor)]
            pixels = [values for values in loaded if isinstance(values, Tensor)]
            if not pixels:
                continue
            found.pixels += pixels[: keep - len(found.pixels)] if keep > len(found.pixels) else []
            inputs = normalise(torch.stack(pixels)).to(parameter.device, parameter.dtype)
            scores = model(inputs).float().softmax(1).cpu()
            if scores.shape[1] != len(classes):
                raise ValueError(f"wanted names of {scores.shape[1]} classes, got {len(classes)}")
            best = scores.topk(min(top, len(classes)))
            for image, values, places in zip(whole, best.values.tolist(), best.indices.tolist(), strict=True):
                best_names = tuple(classes[i] for i in places)
                folder_class = next((folder for folder in image.folders if folder in names), None)
                found.images.append(Prediction(image.path, best_names, tuple(values), folder_class))
    return found
