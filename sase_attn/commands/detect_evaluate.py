"""`sase-attn detect evaluate`: COCO's metrics of a trained detector, and its confusion matrix."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sase_attn.commands.arguments import add_command
from sase_attn.commands.detect_arguments import fraction
from sase_attn.commands.detect_source import add_source, load_source
from sase_attn.commands.flags import add_flags, given_flags
from sase_attn.commands.progress import progress
from sase_attn.detection.config import DetectionConfig
from sase_attn.detection.data.coco_set import CocoSet
from sase_attn.detection.data.loader import DetectionLoader
from sase_attn.detection.data.read_coco import read_coco
from sase_attn.detection.data.splits import find_split
from sase_attn.detection.drawing.picture import picture_path
from sase_attn.detection.drawing.sheet import Tile, draw_sheet, draw_tile
from sase_attn.detection.evaluation.class_names import labels_by_name, relabelled, unknown_classes
from sase_attn.detection.evaluation.coco_numbers import require_coco_tools
from sase_attn.detection.evaluation.confusion import SCORE, confusion_of, pairs
from sase_attn.detection.evaluation.detections import Detections
from sase_attn.detection.evaluation.metrics import detect_all, measure
from sase_attn.detection.evaluation.results import as_results, results_path, write_results
from sase_attn.detection.saved import detector_file
from sase_attn.files import json_text
from sase_attn.plot.confusion import draw_confusion
from sase_attn.plot.figure import figure_path
from sase_attn.training.data.identity import listed
from sase_attn.training.data.image_file import read_image
from sase_attn.training.data.order import Shard
from sase_attn.training.distributed import ranks
from sase_attn.training.precision import check_amp

_PLACES = ("data", "val_images", "val_annotations")
_FIELDS = (*_PLACES, "on_broken", "workers", "amp")
_SHEET = 12  # largest number of images on a sheet


def add_parser(parts: Any) -> None:
    """Add `evaluate` to the parts of `sase-attn detect`."""
    sub = add_command(parts, "evaluate", run, "COCO's numbers of a trained detector on annotated images.")
    add_source(sub)
    sub.add_argument("--per-class", action="store_true", help="also print each class, and what is found of each size")
    text = "for pictures and confusions: what is less sure does not count (default: %(default)s)"
    sub.add_argument("--score", type=fraction, default=SCORE, metavar="X", help=text)
    sub.add_argument(
        "--confusion", type=Path, metavar="FILE", help="draw which class is taken for which: .png, .svg or .pdf"
    )
    sub.add_argument(
        "--sheet", type=Path, metavar="FILE", help=f"draw the first {_SHEET} images, and what was missed: .png or .jpg"
    )
    sub.add_argument("--results", type=Path, metavar="FILE", help="write what was found as COCO results: .json")
    sub.add_argument("--json", action="store_true", help="print JSON; it always holds each class and its confusions")
    text = "by default the images that the detector was validated on in its training; classes are matched by name"
    add_flags(sub.add_argument_group("data", text), DetectionConfig, _FIELDS)


def run(args: argparse.Namespace) -> None:
    """Load the detector, run it on all images, and print the metrics."""
    require_coco_tools()
    if args.confusion is not None:
        figure_path(args.confusion)
    if args.sheet is not None:
        picture_path(args.sheet)
    if args.results is not None:
        results_path(args.results)
    with ranks(args.device) as group:
        detector = load_source(args, group.device)
        config = _data_of(detector.config, given := given_flags(args, DetectionConfig))
        check_amp(amp := given.get("amp", "none"), group.device)
        split = find_split(config.data, "val", config.val_images, config.val_annotations)
        masks = config.has_masks
        coco_set = read_coco(split.annotations, split.images, masks=masks, on_broken=config.on_broken)
        labels = labels_by_name(detector.classes, coco_set.classes)
        loader = DetectionLoader(
            coco_set,
            batch_size=1,
            shard=Shard(config.seed, group.rank, group.world_size),
            training=False,
            workers=config.workers,
            on_broken=config.on_broken,
        )
        with group.together():
            batches = loader.epoch(0)
            shown = progress(batches, loader.batches, "images") if group.is_main else batches
            own = detect_all(detector.model, shown, amp=amp)
        gathered = group.gather(own)
    if not group.is_main:
        return
    found = {image: relabelled(seen, labels) for part in gathered for image, seen in part.items()}
    metrics = measure(found, coco_set, masks=masks)
    confusion = confusion_of(found, coco_set, min_score=args.score)
    if args.results is not None:
        rows = (row for image, seen in sorted(found.items()) for row in as_results(image, seen, coco_set.category_ids))
        write_results(rows, args.results)
    if args.confusion is not None:
        draw_confusion(confusion.counts, confusion.rows, confusion.columns, args.confusion, of="objects")
    if args.sheet is not None:
        draw_sheet(_tiles(found, coco_set, args.score), coco_set.classes, args.sheet)
    file = detector_file(args.source, args.weights)
    unknown = unknown_classes(detector.classes, coco_set)
    if args.json:
        values = {"source": str(file), "annotations": str(split.annotations), "unknown_classes": unknown,
                  **metrics.to_dict()}  # fmt: skip
        print(json_text(values | confusion.to_dict()))
        return
    if detector.classes != coco_set.classes:
        common = sum(label > 0 for label in labels)
        print(f"classes matched by name: the annotations have {common} of the {len(labels)} that {file} knows")
    if unknown:
        print(f"classes that it does not know, in the means with an AP of 0: {listed(list(unknown))}")
    print(f"{file} on {split.annotations}: {metrics.line()}, {metrics.images} images")
    print(metrics.table(per_class=args.per_class))
    if args.per_class:
        print(f"at a score of {args.score:g} or more:")
        print(confusion.table())


def _data_of(recorded: DetectionConfig, given: Mapping[str, Any]) -> DetectionConfig:
    """The recorded configuration, with the data of the flags. Recorded and given places of data are not mixed."""
    elsewhere = any(name in given for name in _PLACES)
    base = recorded.override(data="", val_images=None, val_annotations=None) if elsewhere else recorded
    return base.override(**given)


def _tiles(found: Mapping[int, Detections], coco_set: CocoSet, min_score: float) -> list[Tile]:
    """The first images, with the objects that were found and those that were missed."""
    tiles: list[Tile] = []
    for place, record in enumerate(coco_set.images):
        if record.id in found and len(tiles) < _SHEET:
            seen, objects = found[record.id], coco_set.objects[place]
            missed = objects.boxes[pairs(seen, objects, min_score=min_score).detection_of == -1]
            image, title = read_image(record.path), record.path.name
            tiles.append(draw_tile(image, seen, coco_set.classes, title, min_score=min_score, missed=missed))
    return tiles
