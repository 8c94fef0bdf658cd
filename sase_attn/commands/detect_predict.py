"""`sase-attn detect predict`: what a trained detector finds in images, as pictures and as COCO results."""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sase_attn.commands.arguments import add_command
from sase_attn.commands.detect_arguments import fraction
from sase_attn.commands.detect_source import add_source, load_source
from sase_attn.commands.flags import add_flags
from sase_attn.commands.progress import progress
from sase_attn.detection.config import DetectionConfig
from sase_attn.detection.drawing.picture import SCORE, draw_detections, picture_path
from sase_attn.detection.drawing.sheet import Tile, draw_sheet, draw_tile
from sase_attn.detection.evaluation.results import as_results, write_images, write_results
from sase_attn.detection.predict import predict
from sase_attn.files import json_text
from sase_attn.quoting import counted
from sase_attn.training.data.reading import Broken, in_words, report_broken
from sase_attn.training.distributed import ranks
from sase_attn.training.precision import check_amp
from sase_attn.training.predict import ImagePath, image_paths

_FILES = ("results.json", "images.json")
_SHEET = 24  # largest number of images on a sheet


def add_parser(parts: Any) -> None:
    """Add `predict` to the parts of `sase-attn detect`."""
    sub = add_command(parts, "predict", run, "What a trained detector finds in images of yours, drawn and as JSON.")
    add_source(sub)
    sub.add_argument("images", nargs="+", metavar="IMAGES", help="image files, or folders with images at any depth")
    text = "gets results.json, images.json and pictures/ (default: predictions, beside the detector)"
    sub.add_argument("-o", "--output", type=Path, metavar="FOLDER", help=text)
    text = "what is less sure is not drawn and not counted; the results have all (default: %(default)s)"
    sub.add_argument("--score", type=fraction, default=SCORE, metavar="X", help=text)
    sub.add_argument("--no-pictures", action="store_true", help="write the results only")
    sub.add_argument(
        "--sheet", type=Path, metavar="FILE", help=f"draw the first {_SHEET} images on one sheet: .png or .jpg"
    )
    sub.add_argument("--json", action="store_true", help="print JSON, an entry an image, and not a table")
    add_flags(sub, DetectionConfig, ["amp"])


def run(args: argparse.Namespace) -> None:
    """Load the detector, run it on each image, draw it, and write the results; a warning names unreadable images."""
    if args.sheet is not None:
        picture_path(args.sheet)
    images = image_paths(args.images)
    with ranks(args.device) as group:
        detector = load_source(args, group.device)
        if not group.is_main:
            return
        folder = args.output or _beside(Path(args.source)) / "predictions"
        folder.mkdir(parents=True, exist_ok=True)
        earlier = _files_in(folder)
        pictures = _picture_names(images)
        rows: list[dict[str, Any]] = []
        listed: list[tuple[int, Path, tuple[int, int]]] = []
        shown: list[dict[str, Any]] = []
        broken: list[Broken] = []
        tiles: list[Tile] = []
        drawn: list[str] = []
        check_amp(amp := getattr(args, "amp", "none"), group.device)
        found = predict(detector.model, [image.path for image in images], amp=amp)
        for number, one in enumerate(progress(found, len(images), "images"), start=1):
            if isinstance(one, Broken):
                broken.append(one)
                continue
            listed.append((number, one.path, one.image.size))
            rows += as_results(number, one.seen, detector.category_ids)
            sure = one.seen["labels"][one.seen["scores"] >= args.score].tolist()
            counts = Counter(detector.classes[label - 1] for label in sure)
            shown.append({"image": str(one.path), "image_id": number, "found": dict(counts.most_common())})
            if not args.no_pictures:
                path = folder / "pictures" / pictures[number - 1]
                path.parent.mkdir(parents=True, exist_ok=True)
                draw_detections(one.image, one.seen, detector.classes, path, min_score=args.score)
                drawn.append(path.relative_to(folder).as_posix())
            if args.sheet is not None and len(tiles) < _SHEET:
                title, score = one.path.name, args.score
                tiles.append(draw_tile(one.image, one.seen, detector.classes, title, min_score=score))
    if not listed:
        raise ValueError(f"none of {len(images)} images can be read: {in_words(broken)}")
    report_broken(broken, len(images), "skip", warn=True)
    write_images(listed, detector.classes, detector.category_ids, folder / "images.json")
    write_results(rows, folder / "results.json")
    if args.sheet is not None:
        draw_sheet(tiles, detector.classes, args.sheet)
    replaced = [name for name in (*_FILES, *drawn) if name in earlier]
    left = sorted(earlier - {*_FILES, *drawn})
    if args.json:
        values = {"source": args.source, "output": str(folder), "min_score": args.score, "images": shown,
                  "replaced": replaced, "earlier_pictures": left}  # fmt: skip
        failed = [{"image": str(path), "reason": reason} for path, reason in broken]
        print(json_text(values | {"broken": failed}))
        return
    for row in shown:
        print(f"{row['image']}  {', '.join(f'{count} {name}' for name, count in row['found'].items()) or 'nothing'}")
    total = sum(sum(row["found"].values()) for row in shown)
    pictures_too = "" if args.no_pictures else ", pictures/"
    print(f"{counted(total, 'object')} with a score of {args.score:g} or more in {counted(len(shown), 'image')}")
    print(f"files: {folder} (results.json, images.json{pictures_too})")
    told = [f"replaced in {folder}: {', '.join(replaced[:5])}{' …' if len(replaced) > 5 else ''}"] if replaced else []
    told += [f"pictures/ still has {counted(len(left), 'picture')} of an earlier call"] if left else []
    if told:
        print("; ".join(told))


def _files_in(folder: Path) -> set[str]:
    """The files in a folder that an earlier call has written."""
    pictures = {path.relative_to(folder).as_posix() for path in (folder / "pictures").rglob("*.jpg")}
    return pictures | {name for name in _FILES if (folder / name).exists()}


def _picture_names(images: Sequence[ImagePath]) -> list[Path]:
    """A unique name for the picture of each image, by its path within the given folder."""
    names: list[Path] = []
    taken: set[Path] = set()
    for number, image in enumerate(images, start=1):
        depth = len(image.folders) - 1
        inside = Path(*image.path.parts[-depth - 1 :]) if depth else Path(image.path.name)
        name = inside.with_suffix(".jpg")
        if name in taken:
            name = inside.with_name(f"{inside.stem}_{number}.jpg")
        taken.add(name)
        names.append(name)
    return names


def _beside(source: Path) -> Path:
    return source if source.is_dir() else source.parent
