"""The table of `results/pretrained.jsonl`, with one line for each file of weights that comes with the package."""

import math

from pretrained import ARCHITECTURES, PLAIN, SETS, from_hex
from rows import Row


def cards(rows: list[Row], place: str) -> str:
    """Accuracy with its standard error over the test images, and the paired difference to the plain network.

    Args:
        rows: one for each file, all of one seed.
        place: the provenance of the rows, in words.
    """
    lines = ["| name | parameters | file | top-1, % | minus plain, points |", "| --- | ---: | ---: | ---: | ---: |"]
    tags = [tag for tag in SETS if any(row["tag"] == tag for row in rows)]
    for tag in tags:
        found = {row["architecture"]: row for row in rows if row["tag"] == tag}
        lines += [_line(found[name], found.get(PLAIN)) for name in ARCHITECTURES if name in found]
    regimes = [_regime(next(row for row in rows if row["tag"] == tag)) for tag in tags]
    notes = (
        "± is the standard error over the test images; that of a difference is of the same images answered by both "
        "networks. It does not hold the spread between trainings: one seed each, so that the table ranks nothing. "
    )
    return "\n".join([*lines, "", f"{notes}{' '.join(regimes)} {place}."])


def difference(row: Row, other: Row) -> tuple[float, float]:
    """The difference of accuracy to another network on the same images, in points, and its standard error."""
    n = row["count"]
    first, second = (from_hex(each["right"], n).double() for each in (row, other))
    return 100 * (first - second).mean().item(), 100 * (first - second).std().item() / math.sqrt(n)


def standard_error(row: Row) -> float:
    """The standard error of the accuracy over the test images, in points."""
    share = row["top1"] / 100
    return 100 * math.sqrt(share * (1 - share) / row["count"])


def _line(row: Row, plain: Row | None) -> str:
    cells = [
        f"`{row['label']}`",
        f"{row['parameters']:,}",
        f"{row['bytes'] / 1e6:.2f} MB",
        f"{row['top1']:.1f} ± {standard_error(row):.1f}",
        "" if plain is None or row is plain else "{:+.1f} ± {:.1f}".format(*difference(row, plain)),
    ]
    return f"| {' | '.join(cells)} |"


def _regime(row: Row) -> str:
    recipe = row["recipe"]
    half = "" if recipe["amp"] == "none" else f" in {recipe['amp']}"
    return (
        f"`{row['tag']}`: {row['train_count']:,} training images, {row['count']:,} test images, "
        f"{recipe['epochs']} epochs{half}, batch {recipe['batch_size']}, learning rate {recipe['lr']:g}, "
        "the last epoch's weights."
    )
