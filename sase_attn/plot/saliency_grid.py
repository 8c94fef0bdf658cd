"""The picture of photos × networks: `draw_saliency`."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sase_attn.errors import unknown_name
from sase_attn.plot.figure import figure_path, fitted_text, text_width, write_figure
from sase_attn.plot.saliency_columns import Column, class_names, saliency_columns

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Lengths are in inches, text sizes in points.
_WIDTH, _GAP, _MARGIN, _LINE, _HEAD, _FOOT = 1.5, 0.1, 0.12, 0.155, 0.3, 0.42
_TEXT, _TITLE = 7.5, 10
_INK, _GREY, _WRONG = "#111111", "#555555", "#b3261e"
_HEAT, _OPACITY = "jet", 0.45


def draw_saliency(
    models: Mapping[str, nn.Module],
    images: Tensor,
    path: str | os.PathLike[str],
    *,
    layer: str | Mapping[str, str] | None = None,
    targets: Sequence[int] | Tensor | None = None,
    labels: Sequence[str] | None = None,
    captions: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> None:
    """Draw where each network looks in each photo: one row per photo, which comes first, and one column per network.

    Heat maps are by Grad-CAM (`sase_attn.plot.saliency`), each from zero to its own maximum, over the photo in grey.
    Below each are the class that the network predicts and its probability. With `targets`, the maps are for these
    classes, the same for all networks, which is the fair comparison; a prediction that differs is red, with the
    target's probability under it. Without `targets`, each map is for its network's own prediction.

    Args:
        models: networks by the name of their column, all with the same classes.
        images: the photos, (B, 3, H, W) or (B, 1, H, W), in [0, 1].
        path: a .png, .svg or .pdf file. If it exists, it is replaced once the new one is complete.
        layer: name of a layer for all networks, or one by each network's name; by default the last feature map.
        targets: a class for each photo, usually the true one.
        labels: names of the classes; by default those of the networks' `pretrained_cfg["label_names"]`, which
            `sase-attn train` writes, otherwise numbers.
        captions: a line below each photo; by default the name of its target.
        mean, std: mean and standard deviation per channel by which to normalise the photos; by default those of each
            network's `pretrained_cfg`.

    Raises:
        UnknownNameError: no such layer, or a layer of a network that is not in `models`.
        ValueError: an argument that is not as above, or fits the others badly; another suffix.
        FileNotFoundError: no such folder.
        ImportError: matplotlib or captum is not installed.
    """
    path = figure_path(path, extra="saliency")
    if not models:
        raise ValueError("wanted at least one network to draw")
    if images.ndim != 4 or len(images) == 0 or images.shape[1] not in (1, 3) or not images.is_floating_point():
        raise ValueError(f"wanted photos (B, 3, H, W) of floats, got {tuple(images.shape)} of {images.dtype}")
    if not (images.min() >= 0 and images.max() <= 1):
        raise ValueError(
            f"wanted photos in [0, 1], got {images.min():.3g} to {images.max():.3g}; mean and std come later"
        )
    if isinstance(layer, Mapping) and (strange := [name for name in layer if name not in models]):
        raise unknown_name("network", strange[0], models)
    if captions is not None and len(captions) != len(images):
        raise ValueError(f"wanted {len(images)} captions, one a photo, got {len(captions)}")
    columns = saliency_columns(models, images, layer=layer, targets=targets, mean=mean, std=std)
    names = class_names(labels, models, columns)
    classes = None if targets is None else torch.as_tensor(targets).expand(len(images)).tolist()
    if captions is None:
        captions = [""] * len(images) if classes is None else [names[index] for index in classes]
    photos = images.detach().float().cpu().permute(0, 2, 3, 1).expand(-1, -1, -1, 3)
    write_figure(lambda: _grid(photos, columns, classes, names, captions), path)


def _grid(
    photos: Tensor, columns: list[Column], classes: list[int] | None, names: list[str], captions: Sequence[str]
) -> "Figure":
    """The figure, with coordinates in inches from its lower left corner."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    rows, height, width, _ = photos.shape
    tall = _WIDTH * height / width
    guesses = [column.scores.argmax(1).tolist() for column in columns]
    lines = [1 + any(classes and guess[row] != classes[row] for guess in guesses) for row in range(rows)]
    across = 2 * _MARGIN + (len(columns) + 1) * (_WIDTH + _GAP) - _GAP
    down = _HEAD + sum(tall + 0.05 + count * _LINE + _GAP for count in lines) + _FOOT
    figure = Figure(figsize=(across, down))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    heat = colormaps[_HEAT]
    grey = photos @ torch.tensor([[0.299], [0.587], [0.114]])  # so that an orange van does not look like heat

    def write(x: float, y: float, text: str, size: float = _TEXT, color: str = _INK, **style: Any) -> None:
        axes.text(x, y, text, fontsize=size, color=color, va="center", parse_math=False, **{"ha": "center"} | style)

    def show(x: float, y: float, width: float, height: float, pixels: Any) -> None:
        axes.imshow(pixels, extent=(x, x + width, y, y + height), aspect="auto", interpolation="bilinear")

    lefts = [_MARGIN + place * (_WIDTH + _GAP) for place in range(len(columns) + 1)]
    for left, column in zip(lefts[1:], columns, strict=True):
        title = fitted_text(column.name, _WIDTH, _TITLE, "bold")
        write(left + _WIDTH / 2, down - _HEAD / 2 - 0.02, title, _TITLE, fontweight="bold")
    top = down - _HEAD
    for row in range(rows):
        first = top - tall - 0.05 - _LINE / 2
        show(lefts[0], top - tall, _WIDTH, tall, photos[row].numpy())
        write(lefts[0] + _WIDTH / 2, first, fitted_text(captions[row], _WIDTH))
        for left, column, guess in zip(lefts[1:], columns, guesses, strict=True):
            colours = torch.from_numpy(heat(column.maps[row].numpy())[..., :3]).float()
            show(left, top - tall, _WIDTH, tall, ((1 - _OPACITY) * grey[row] + _OPACITY * colours).numpy())
            wrong = classes is not None and guess[row] != classes[row]
            centre, scores = left + _WIDTH / 2, column.scores[row]
            write(centre, first, _scored(names[guess[row]], scores[guess[row]]), color=_WRONG if wrong else _INK)
            if classes is not None and wrong:
                write(centre, first - _LINE, _scored(names[classes[row]], scores[classes[row]]), color=_GREY)
        top -= tall + 0.05 + lines[row] * _LINE + _GAP
    bar, low = _WIDTH - 0.3, _FOOT - 0.12
    show(_MARGIN + 0.12, low - 0.04, bar, 0.08, heat([[i / 255 for i in range(256)]]))
    write(_MARGIN, low, "0", ha="left")
    write(_MARGIN + 0.18 + bar, low, "maximum of each map", ha="left")
    whose = "each network's prediction" if classes is None else "the photo's class"
    write(_MARGIN, low - _LINE, f"Grad-CAM of {whose}", ha="left")
    axes.set(xlim=(0, across), ylim=(0, down))
    return figure


def _scored(name: str, score: Tensor) -> str:
    """A class and its probability, cut to the width of a column."""
    percent = f" {100 * score.item():.0f} %"
    return fitted_text(name, _WIDTH - text_width(percent, _TEXT) - 0.06) + percent
