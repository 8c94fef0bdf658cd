"""`Confusion`: the confusion matrix of a network, with the accuracy on each class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class ClassAccuracy:
    """The number of images of a class, the accuracy in percent, and the class that it is most often confused with."""

    name: str
    count: int
    top1: float
    mistaken_for: str | None
    mistakes: int


@dataclass(frozen=True)
class Confusion:
    """How many images of each class of the data (rows) were predicted as each class of the network (columns).

    Attributes:
        classes: names of the rows.
        known: names of the columns.
        counts: int64 (rows, columns).
        places: the column of each row, int64 (rows,).
    """

    classes: tuple[str, ...]
    known: tuple[str, ...]
    counts: Tensor
    places: Tensor

    @classmethod
    def of(cls, counts: Tensor, classes: Sequence[str], known: Sequence[str], places: Tensor) -> "Confusion":
        """From the counts of all outputs of a network, (columns, columns)."""
        return cls(tuple(classes), tuple(known), counts[places], places)

    def accuracies(self) -> list[ClassAccuracy]:
        """The accuracy on each class that has images, in the order of the data."""
        found = []
        for name, row, place in zip(self.classes, self.counts, self.places.tolist(), strict=True):
            if count := int(row.sum()):
                others = row.clone()
                others[place] = 0
                most = int(others.max())
                mistaken = self.known[int(others.argmax())] if most else None
                found.append(ClassAccuracy(name, count, 100 * int(row[place]) / count, mistaken, most))
        return found

    @property
    def balanced_top1(self) -> float:
        """The mean of the accuracies on the classes, in percent: all classes count equally."""
        rows = self.accuracies()
        return sum(row.top1 for row in rows) / len(rows)

    def to_dict(self) -> dict[str, Any]:
        """`balanced_top1`, `per_class` and `confusion` (counts above 0, by the names of both classes), for JSON."""
        per_class = {row.name: {"top1": row.top1, "count": row.count} for row in self.accuracies()}
        confusion = {
            name: {self.known[column]: int(row[column]) for column in row.nonzero().flatten().tolist()}
            for name, row in zip(self.classes, self.counts, strict=True)
        }
        return {"balanced_top1": self.balanced_top1, "per_class": per_class, "confusion": confusion}

    def table(self) -> str:
        """The accuracies of the classes, the worst first, and their mean, as text."""
        rows = sorted(self.accuracies(), key=lambda row: row.top1)
        width = max(5, *(len(row.name) for row in rows))
        lines = [f"{'class':<{width}}  images   top-1  most often mistaken for"]
        for row in rows:
            mistaken = f"{row.mistaken_for} ({row.mistakes})" if row.mistakes else ""
            lines.append(f"{row.name:<{width}}  {row.count:>6}  {row.top1:>5.1f} %  {mistaken}".rstrip())
        lines.append(f"mean of {len(rows)} classes: {self.balanced_top1:.2f} %")
        return "\n".join(lines)
