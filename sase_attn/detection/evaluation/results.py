"""Detections in COCO's results format, and the list of their images: `write_results`, `write_images`."""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch

from sase_attn.detection.data.written_coco import name_from
from sase_attn.detection.evaluation.detections import Detections
from sase_attn.files import write_atomically, write_json


def as_results(image_id: int, seen: Detections, category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """The detections of an image as COCO results; `category_ids` are the ids of the labels from 1 on."""
    corners = seen["boxes"].double()
    boxes = torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1).tolist()
    results = [
        {"image_id": image_id, "category_id": category_ids[label - 1], "bbox": box, "score": score}
        for box, label, score in zip(boxes, seen["labels"].tolist(), seen["scores"].tolist(), strict=True)
    ]
    for result, mask in zip(results, seen.get("masks", ()), strict=False):
        result["segmentation"] = mask
    return results


def results_path(path: str | os.PathLike[str]) -> Path:
    """Check that results can be written to a path; call it before the work that they need.

    Raises:
        ValueError: the suffix is not .json. IsADirectoryError: the path is a folder. FileNotFoundError: no such folder.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"wanted a file to write results to, got the folder {str(path)!r}")
    if path.suffix.lower() != ".json":
        raise ValueError(f"results are a .json file, got {str(path)!r}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no folder {str(path.parent)!r} to write in")
    return path


def write_results(rows: Iterable[dict[str, Any]], path: str | os.PathLike[str]) -> None:
    """Write results as JSON, one per line, atomically; masks are text, as COCO's server expects.

    Raises:
        OSError: the file cannot be written.
    """

    def write(file: BinaryIO) -> None:
        start = b"[\n"
        for row in rows:
            file.write(start + json.dumps(_as_text(row)).encode())
            start = b",\n"
        file.write(b"\n]\n" if start == b",\n" else b"[]\n")

    write_atomically(path, write)


def write_images(
    images: Iterable[tuple[int, Path, tuple[int, int]]],
    classes: Sequence[str],
    category_ids: Sequence[int],
    path: str | os.PathLike[str],
) -> None:
    """Write ids, paths and (width, height) of images as a COCO file without annotations, atomically.

    Paths are relative to the file's folder, as in the files that conversions write.

    With this file, COCO's tools can read results: `COCO("images.json").loadRes("results.json")`.

    Raises:
        OSError: the file cannot be written.
    """
    folder = Path(path).parent
    listed = [
        {"id": id, "file_name": name_from(folder, file), "width": size[0], "height": size[1]}
        for id, file, size in images
    ]
    names = [{"id": id, "name": name} for id, name in zip(category_ids, classes, strict=True)]
    write_json(path, {"images": listed, "annotations": [], "categories": names})


def _as_text(row: dict[str, Any]) -> dict[str, Any]:
    mask = row.get("segmentation")
    if mask is None or isinstance(mask["counts"], str):
        return row
    return row | {"segmentation": {"size": list(mask["size"]), "counts": mask["counts"].decode("ascii")}}
