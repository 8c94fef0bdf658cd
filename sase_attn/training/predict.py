"""`predict`: the classes that a network sees in image files, and how sure it is."""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from sase_attn.training.data.image_file import UnreadableImageError, read_image
from sase_attn.training.data.normalise import Normalise
from sase_attn.training.data.reading import Broken
from sase_attn.training.data.view import View
from sase_attn.training.data.walk import Skipped, images_below


@dataclass(frozen=True)
class Prediction:
    """What a network sees in an image.

    Attributes:
        path: of the file.
        classes: the most probable ones by name, the first first.
        probabilities: theirs, from 0 to 1.
        folder_class: the class that the file's folder is named after, if it is.
    """

    path: Path
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    folder_class: str | None = None

    @property
    def is_wrong(self) -> bool:
        """Whether the folder says another class."""
        return self.folder_class is not None and self.classes[0] != self.folder_class


@dataclass
class Predictions:
    """The predictions of all images that can be read, in their order, and those that cannot.

    `pixels` holds the first images as the network saw them, uint8 (3, H, W), as many as were asked for.
    """

    images: list[Prediction] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    pixels: list[Tensor] = field(default_factory=list)


def image_paths(sources: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Image files as they are given, and those at any depth below folders; a warning says what is left out.

    Raises:
        FileNotFoundError: no such file or folder, or none holds an image.
    """
    found: list[Path] = []
    for source in map(Path, sources):
        if source.is_dir():
            skipped = Skipped()
            found += [source / file.name for file in images_below(source, skipped)]
            skipped.warn(source)
        elif source.is_file():
            found.append(source)
        else:
            raise FileNotFoundError(f"no such image or folder: {source}")
    if not found:
        raise FileNotFoundError(f"no images in {', '.join(map(str, sources))}")
    return found


@torch.inference_mode()
def predict(
    model: nn.Module,
    paths: Sequence[Path],
    classes: Sequence[str],
    view: View,
    normalise: Normalise,
    *,
    top: int = 5,
    batch_size: int = 32,
    keep: int = 0,
) -> Predictions:
    """Predict in eval mode and float32, on the model's device.

    Args:
        model: maps (B, 3, size, size) to (B, classes).
        paths: image files.
        classes: names of the outputs.
        view: how the network sees images; its size must be known.
        normalise: takes values from 0 to 255.
        top: how many classes of each image.
        batch_size: images at a time.
        keep: of how many images the pixels are kept.

    Raises:
        ValueError: the view has no size, or the network has another number of outputs than there are names.
    """
    if view.size is None:
        raise ValueError("the network does not say at which size it sees images; give the size")
    parameter, transform = next(model.parameters()), view.transform(view.size, view.crop_pct or 1.0)
    names, found = set(classes), Predictions()

    def load(path: Path) -> Tensor | str:
        try:
            image = read_image(path)
        except UnreadableImageError as error:
            return str(error)
        return transform(image)

    model.eval()
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        for start in range(0, len(paths), batch_size):
            some = paths[start : start + batch_size]
            loaded = list(pool.map(load, some))
            found.broken += [
                Broken(path, image) for path, image in zip(some, loaded, strict=True) if isinstance(image, str)
            ]
            whole = [path for path, image in zip(some, loaded, strict=True) if isinstance(image, Tensor)]
            pixels = [image for image in loaded if isinstance(image, Tensor)]
            if not pixels:
                continue
            found.pixels += pixels[: keep - len(found.pixels)] if keep > len(found.pixels) else []
            images = normalise(torch.stack(pixels)).to(parameter.device, parameter.dtype)
            scores = model(images).float().softmax(1).cpu()
            if scores.shape[1] != len(classes):
                raise ValueError(f"wanted names of {scores.shape[1]} classes, got {len(classes)}")
            best = scores.topk(min(top, len(classes)))
            for path, values, places in zip(whole, best.values.tolist(), best.indices.tolist(), strict=True):
                folder = path.absolute().parent.name
                best_names = tuple(classes[i] for i in places)
                found.images.append(Prediction(path, best_names, tuple(values), folder if folder in names else None))
    return found
