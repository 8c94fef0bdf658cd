"""Predictions as a table, as CSV, and as a dictionary for JSON."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from sase_attn.training.confusion import Confusion
from sase_attn.training.predict import Predictions


def as_table(found: Predictions, words: Mapping[str, str]) -> str:
    """One line for each image: path, class, probability, and the next classes; then the images that could not be read.

    `words` holds the description of each class.
    """
    width = max(len(str(image.path)) for image in found.images)
    name = max(len(words[image.classes[0]]) for image in found.images)
    lines = []
    for image in found.images:
        (first, *others) = zip(map(words.__getitem__, image.classes), image.probabilities, strict=True)
        rest = ", ".join(f"{other} {100 * probability:.1f}" for other, probability in others)
        lines.append(f"{image.path!s:<{width}}  {first[0]:<{name}}  {100 * first[1]:5.1f} %  {rest}".rstrip())
    lines += [f"{path!s:<{width}}  cannot be read: {reason}" for path, reason in found.broken]
    if line := folder_line(found):
        lines.append(line)
    return "\n".join(lines)


def folder_confusion(found: Predictions, names: Sequence[str]) -> Confusion | None:
    """The confusion matrix with folder names as true classes; None if no folder is named after a class."""
    place = {name: index for index, name in enumerate(names)}
    pairs = [(place[image.folder_class], place[image.classes[0]]) for image in found.images if image.folder_class]
    if not pairs:
        return None
    rows, columns = torch.tensor(pairs).mT
    counts = torch.zeros(len(names), len(names), dtype=torch.int64)
    counts.index_put_((rows, columns), torch.ones_like(rows), accumulate=True)
    there = rows.unique()
    return Confusion.of(counts, [names[index] for index in there.tolist()], names, there)


def folder_line(found: Predictions) -> str:
    """How many images were predicted as the class that their folder is named after; empty without such folders."""
    named = [image for image in found.images if image.folder_class is not None]
    if not named:
        return ""
    right = sum(not image.is_wrong for image in named)
    return f"{right} of {len(named)} as their folders say: {100 * right / len(named):.1f} %"


def as_csv(found: Predictions) -> str:
    """One line for each image: `image`, `folder_class`, `class_1`, `probability_1`, …, or why it is unreadable."""
    count = max(len(image.classes) for image in found.images)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [f"{kind}_{place}" for place in range(1, count + 1) for kind in ("class", "probability")]
    writer.writerow(["image", "folder_class", *columns, "broken"])
    for image in found.images:
        pairs = [f"{x:.6g}" if isinstance(x, float) else x
                 for pair in zip(image.classes, image.probabilities, strict=True) for x in pair]  # fmt: skip
        writer.writerow([image.path, image.folder_class or "", *pairs, ""])
    for path, reason in found.broken:
        writer.writerow([path, "", *([""] * len(columns)), reason])
    return text.getvalue().rstrip("\n")


def as_dict(found: Predictions, source: str) -> dict[str, Any]:
    """All predictions as a dictionary for JSON."""
    return {
        "source": source,
        "images": [
            {
                "image": str(image.path),
                "folder_class": image.folder_class,
                "predictions": [
                    {"class": name, "probability": probability}
                    for name, probability in zip(image.classes, image.probabilities, strict=True)
                ],
            }
            for image in found.images
        ],
        "broken": [{"image": str(path), "reason": reason} for path, reason in found.broken],
    }
