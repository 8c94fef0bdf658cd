"""`read_coco`: read the images and objects of an annotation file, and check them against the image files."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sase_attn.detection.data.coco_set import CocoImages, CocoSet, digest_of
from sase_attn.detection.data.image_files import FileState, find_names, look_at
from sase_attn.detection.data.objects import Objects
from sase_attn.detection.data.parse import CocoRecords, ImageRecord, parse_coco
from sase_attn.detection.data.read_objects import read_objects
from sase_attn.detection.data.report import BROKEN, CocoReport, Findings
from sase_attn.training.data.paths import Paths
from sase_attn.training.data.reading import Broken, report_broken
from sase_attn.training.data.walk import Skipped, images_below


def read_coco(
    annotations: str | os.PathLike[str], images: str | os.PathLike[str], *, masks: bool, on_broken: str = "refuse"
) -> CocoSet:
    """Read a COCO annotation file, and check its image files without reading their pixels.

    Args:
        annotations: the JSON file.
        images: the folder of its images.
        masks: whether to read the masks of the objects.
        on_broken: what to do with images that are missing, cannot be read, or have another size than the file says:
            "refuse", or "skip" them with their objects. The report counts them in both cases.

    Raises:
        OSError: the annotation file or the folder cannot be read.
        FileNotFoundError: none of the images exists.
        ValueError: the file is no COCO JSON, or inconsistent; images are broken and refused; masks are wanted, and no
            object has one; or no image is left.
        ImportError: masks are wanted, and the extra `detection` is missing.
    """
    annotations, images = Path(annotations), Path(images)
    records = parse_coco(annotations)
    findings = Findings()
    findings.add("same_names", records.same_names)
    listed = _once(records.images, annotations, findings)
    names = find_names(images, annotations, [image.name for image in listed])
    states = look_at(Paths(images, names), lambda place: not listed[place].width or not listed[place].height)
    if all(state.bytes < 0 for state in states):
        raise FileNotFoundError(
            f"{images} has none of the {len(listed)} images that {annotations} lists, such as {listed[0].name}"
        )
    kept = _kept(listed, states, images, findings, on_broken)
    _tell_files(names, images, findings)
    sizes = np.array([_size(listed[place], states[place]) for place in kept], np.int64)
    ids = np.array([listed[place].id for place in kept], np.int64)
    left_out = {image.id for image in listed} - set(ids.tolist())
    objects = read_objects(records, ids, left_out, sizes, masks=masks, findings=findings, source=annotations)
    _tell_use(records, ids, objects, findings)
    paths = Paths(images, [names[place] for place in kept])
    report = CocoReport(len(ids), objects.count, len(records.categories), findings.in_order())
    digest = digest_of([listed[place].name for place in kept], [states[place].bytes for place in kept], objects)
    classes, category_ids = tuple(records.categories.values()), tuple(records.categories)
    return CocoSet(annotations, CocoImages(ids, paths, sizes), classes, category_ids, objects, report, digest)


def _once(images: list[ImageRecord], annotations: Path, findings: Findings) -> list[ImageRecord]:
    """The images without repetitions. Raises ValueError if different images have the same id."""
    by_id: dict[int, ImageRecord] = {}
    repeated = []
    for image in images:
        other = by_id.setdefault(image.id, image)
        if other is not image:
            if other.name != image.name:
                raise ValueError(f"{annotations}: {other.name} and {image.name} have one id, {image.id}")
            repeated.append(image.name)
    findings.add("repeated_images", repeated)
    return list(by_id.values())


def _kept(
    listed: list[ImageRecord], states: list[FileState], folder: Path, findings: Findings, on_broken: str
) -> list[int]:
    """Indices of the usable images. Raises ValueError if broken ones are refused, or none is usable."""
    kept = []
    broken: dict[str, list[Broken]] = {kind: [] for kind in BROKEN}
    for place, (image, state) in enumerate(zip(listed, states, strict=True)):
        said = image.width, image.height
        if state.bytes < 0:
            broken["missing"].append(Broken(folder / image.name, state.reason or ""))
        elif state.reason is not None:
            broken["unreadable"].append(Broken(folder / image.name, state.reason))
        elif state.size is not None and all(said) and said != state.size:
            broken["other_size"].append(Broken(folder / image.name, size_differs(state.size, said)))
        else:
            kept.append(place)
    for kind, found in broken.items():
        findings.add(kind, (f"{path.name}: {reason}" if kind != "missing" else path.name for path, reason in found))
    all_broken = [item for found in broken.values() for item in found]
    report_broken(all_broken, len(listed), on_broken, warn=False)
    if not kept:
        raise ValueError(f"{folder}: none of {len(listed)} images can be used: {all_broken[0].reason}")
    return kept


def size_differs(size: tuple[int, int], said: tuple[int, int]) -> str:
    """The reason why an image of one size cannot be used with annotations for another size."""
    turned = ", perhaps turned as EXIF says" if size == said[::-1] and size != said else ""
    return f"is {size[0]}x{size[1]}{turned}, the annotations say {said[0]}x{said[1]}"


def _size(image: ImageRecord, state: FileState) -> tuple[int, int]:
    """The size of an image as the annotations say it, otherwise that of the file."""
    if image.width and image.height:
        return image.width, image.height
    assert state.size is not None
    return state.size


def _tell_files(names: list[str], images: Path, findings: Findings) -> None:
    counts = Counter(names)
    findings.add("shared_files", (name for name, count in counts.items() for _ in range(count - 1)))
    in_folder = [file.name for file in images_below(images, Skipped())]
    findings.add("unlisted", (name for name in in_folder if name not in counts))


def _tell_use(records: CocoRecords, ids: NDArray[np.int64], objects: Objects, findings: Findings) -> None:
    names = {image.id: image.name for image in records.images}
    findings.add("empty_images", (names[int(ids[place])] for place in range(len(ids)) if not len(objects[place])))
    used = set(objects.labels.tolist())
    findings.add("unused_classes", (name for k, name in enumerate(records.categories.values()) if k + 1 not in used))
