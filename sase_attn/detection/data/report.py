"""`CocoReport`: counts of annotations and of problems in them; everything that is left out is reported."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sase_attn.quoting import counted, one_line

# Kinds of findings in the order of the report: a noun, and what is done about it.
FINDINGS = {
    "empty_images": ("image", "without objects, kept with no boxes"),
    "crowds": ("crowd", "kept for evaluation; no target of training, where it may be learned as background"),
    "cropped": ("box", "reaching beyond the image, cropped to it"),
    "outside": ("box", "wholly outside the image, dropped"),
    "no_area": ("box", "without area, dropped"),
    "no_box": ("object", "whose box is not four finite numbers, dropped"),
    "no_mask": ("object", "without a mask that can be read, dropped"),
    "other_mask": ("object", "whose mask and box hardly overlap, kept"),
    "unknown_images": ("object", "of images that the file does not list, dropped"),
    "unknown_categories": ("object", "of categories that the file does not list, dropped"),
    "duplicates": ("object", "that another repeats: the same class and box in the same image, kept"),
    "repeated_images": ("image", "listed twice under one id, taken once"),
    "shared_files": ("image", "whose file another image has too, kept"),
    "missing": ("image", "without a file, left out, objects too"),
    "unreadable": ("image", "that cannot be read, left out, objects too"),
    "other_size": ("image", "whose file has another size than the annotations say, left out, objects too"),
    "unlisted": ("image", "in the folder that the file does not list, not used"),
    "same_names": ("category", "named like another and without objects, left out"),
    "unused_classes": ("class", "without objects, kept"),
}
# Further kinds of findings, of conversions.
CONVERSION_FINDINGS = {
    "bad_lines": ("line", "without the numbers of an object, dropped"),
    "not_shares": ("line", "with numbers that are no shares of the image, from 0 to 1, dropped"),
    "unknown_numbers": ("line", "of a class that has no name, dropped"),
    "no_labels": ("image", "without a label file, kept with no boxes"),
    "no_image": ("label file", "without an image, dropped"),
    "bad_images": ("image", "that cannot be read, left out"),
    "bad_files": ("label file", "that cannot be read, left out, images too"),
    "bad_objects": ("object", "without a name and a box of numbers, dropped"),
    "difficult": ("object", "marked difficult, made crowds: neither right nor wrong, and no targets of training"),
}
BROKEN = ("missing", "unreadable", "other_size")
EXAMPLES = 3
_PLURALS = {"box": "boxes", "category": "categories", "class": "classes"}


@dataclass(frozen=True)
class Finding:
    """A kind of finding, with its number and the first few examples."""

    kind: str
    count: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        noun, fate = (FINDINGS | CONVERSION_FINDINGS)[self.kind]
        what = f"{self.count} {_PLURALS[noun]}" if self.count != 1 and noun in _PLURALS else counted(self.count, noun)
        more = " …" if self.count > len(self.examples) else ""
        where = f" ({', '.join(map(one_line, self.examples))}{more})" if self.examples else ""
        return f"{what} {fate}{where}"


class Findings:
    """Collects findings while annotations are read."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, list[str]]] = {}

    def add(self, kind: str, examples: Iterable[object]) -> None:
        """Count findings of a kind, and keep the first ones as examples."""
        count, kept = self._found.get(kind, (0, []))
        for example in examples:
            count += 1
            if len(kept) < EXAMPLES:
                kept.append(str(example))
        if count:
            self._found[kind] = count, kept

    def in_order(self) -> tuple[Finding, ...]:
        """All findings, in the order of the tables above."""
        kinds = (*FINDINGS, *CONVERSION_FINDINGS)
        return tuple(Finding(kind, *self._of(kind)) for kind in kinds if kind in self._found)

    def _of(self, kind: str) -> tuple[int, tuple[str, ...]]:
        count, kept = self._found[kind]
        return count, tuple(kept)


@dataclass(frozen=True)
class CocoReport:
    """Counts of a set of annotations, and the findings in it.

    Args:
        images, objects, classes: numbers of those that are used; crowds count as objects.
        findings: the findings, in the order of `FINDINGS`.
    """

    images: int
    objects: int
    classes: int
    findings: tuple[Finding, ...] = ()

    def count(self, kind: str) -> int:
        """The number of findings of a kind of `FINDINGS`. Raises KeyError for another kind."""
        _ = FINDINGS[kind]
        return next((finding.count for finding in self.findings if finding.kind == kind), 0)

    def lines(self) -> Iterator[str]:
        """The counts, then one line for each finding, then possible causes."""
        classes = f"{self.classes} {'class' if self.classes == 1 else 'classes'}"
        yield f"{counted(self.images, 'image')}, {counted(self.objects, 'object')}, {classes}"
        yield from map(str, self.findings)
        outside = self.count("outside")
        if 2 * (self.count("cropped") + outside) > self.objects + outside:
            yield "most boxes reach beyond their images: COCO's are x, y, width and height, and not two corners"
