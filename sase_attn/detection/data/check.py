"""Text about a set of annotated images: counts by class and size, advice on settings, images in both splits."""

from collections import defaultdict
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from textwrap import indent

import numpy as np

from sase_attn.describe import text_table
from sase_attn.detection.config import DetectionConfig
from sase_attn.detection.data.coco_set import CocoSet
from sase_attn.detection.data.coco_sizes import SIZES, size_of
from sase_attn.detection.data.report import BROKEN, Finding
from sase_attn.training.data.image_file import UnreadableImageError, read_image

MAX_DETECTIONS = DetectionConfig.detections_per_image


def class_table(coco: CocoSet) -> str:
    """A table of the number of objects of each class, in all and by COCO's three sizes; crowds do not count."""
    kinds = size_of(coco.objects.areas)
    rows = [["class", "objects", *SIZES]]
    for label, name in enumerate(coco.classes, start=1):
        own = kinds[(coco.objects.labels == label) & ~coco.objects.crowds]
        rows.append([name, str(len(own)), *(str(int((own == kind).sum())) for kind in range(len(SIZES)))])
    return indent(text_table(rows, right=range(1, len(rows[0]))), "  ")


def advice(coco: CocoSet) -> Iterator[str]:
    """Advice on the configuration that follows from the objects: from the sides of boxes, and the number per image."""
    sides = np.sqrt(np.prod(coco.objects.xywh[~coco.objects.crowds, 2:], axis=1))
    if len(sides):
        low, middle, high = np.percentile(sides, [5, 50, 95])
        yield f"sides of boxes: 5 % below {low:.0f} pixels, half below {middle:.0f}, 5 % above {high:.0f}"
    most = max((len(objects.without_crowds()) for objects in coco.objects), default=0)
    if most > MAX_DETECTIONS:
        yield (f"up to {most} objects an image: by default a detector gives {MAX_DETECTIONS} detections, see "
               "--detections-per-image; COCO counts the best 100 of a class in an image")  # fmt: skip


def would_refuse(coco: CocoSet) -> list[Finding]:
    """The findings for which a training refuses the data, unless `on_broken` is "skip"."""
    return [finding for finding in coco.report.findings if finding.kind in BROKEN]


def unreadable(coco: CocoSet) -> list[str]:
    """Names of the images whose pixels cannot be read, with reasons; this reads every file."""
    found = []
    for image in coco.images:
        try:
            read_image(image.path)
        except UnreadableImageError as error:
            found.append(f"{image.path.name}: {error}")
    return found


def in_both(first: CocoSet, second: CocoSet) -> list[tuple[Path, Path]]:
    """Pairs of files of two sets with the same bytes."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    for image in first.images:
        by_size[image.path.stat().st_size].append(image.path)
    digests: dict[Path, bytes] = {}
    found = []
    for image in second.images:
        for other in by_size.get(image.path.stat().st_size, ()):
            for path in (image.path, other):
                if path not in digests:
                    digests[path] = blake2b(path.read_bytes()).digest()
            if digests[other] == digests[image.path]:
                found.append((other, image.path))
                break
    return found
