"""`sase-attn detect check`: report on annotated images; `detect convert`: YOLO and Pascal VOC to COCO."""

import argparse
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sase_attn.commands.arguments import add_command
from sase_attn.commands.flags import add_flags, given_flags
from sase_attn.detection.config import DetectionConfig
from sase_attn.detection.data.check import advice, class_table, in_both, unreadable, would_refuse
from sase_attn.detection.data.coco_set import CocoSet
from sase_attn.detection.data.convert_voc import DIFFICULT, convert_voc
from sase_attn.detection.data.convert_yolo import convert_yolo
from sase_attn.detection.data.open import check_classes
from sase_attn.detection.data.read_coco import read_coco
from sase_attn.detection.data.splits import Split, find_split, find_splits
from sase_attn.detection.data.voc_layout import is_voc
from sase_attn.detection.data.written_coco import Conversion
from sase_attn.detection.data.yolo_layout import is_yolo
from sase_attn.files import json_text
from sase_attn.quoting import command, counted

PLACES = ("train_images", "train_annotations", "val_images", "val_annotations")


def add_parser(parts: Any) -> None:
    """Add `check` and `convert` to the parts of `sase-attn detect`."""
    sub = add_command(parts, "check", check, "Count what annotations hold, and all that is odd in them.")
    sub.add_argument(
        "data", nargs="?", default="", metavar="DATA", help="a folder that `train` takes, or a COCO JSON file"
    )
    sub.add_argument(
        "--images", type=Path, metavar="FOLDER", help="folder of the images of a JSON file, if not beside it"
    )
    sub.add_argument("--masks", action="store_true", help="also read the masks")
    sub.add_argument("--pixels", action="store_true", help="read every image, and not only its first bytes")
    sub.add_argument("--json", action="store_true", help="print JSON")
    add_flags(sub.add_argument_group("where the data lie"), DetectionConfig, PLACES)

    sub = add_command(
        parts, "convert", convert, "Make COCO JSON of a YOLO or Pascal VOC data set; images stay in place."
    )
    sub.add_argument("source", type=Path, metavar="FOLDER", help="the data set, or YOLO's data.yaml")
    sub.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", help="folder of the JSON files (default: the data set's)"
    )
    sub.add_argument("--from", dest="kind", choices=("yolo", "voc"), help="what it is (default: what it looks like)")
    sub.add_argument(
        "--val-share",
        type=_share,
        metavar="X",
        help="share of the images to validate on, such as 0.2, where there are no splits",
    )
    sub.add_argument(
        "--difficult", choices=DIFFICULT, default="ignore",
        help="VOC's difficult objects: neither right nor wrong in evaluation, and background to training; or as others "
        "(default: %(default)s)",
    )  # fmt: skip
    sub.add_argument(
        "--first-pixel", type=int, choices=(0, 1), metavar="0|1",
        help="VOC: number of the first pixel (default: 1, or 0 where a box begins there)",
    )  # fmt: skip


def check(args: argparse.Namespace) -> None:
    """Print the report of each split. Raises ValueError afterwards if training would refuse the data."""
    sets = {
        name: read_coco(split.annotations, split.images, masks=args.masks, on_broken="skip")
        for name, split in _splits(args).items()
    }
    broken = {name: unreadable(coco) if args.pixels else [] for name, coco in sets.items()}
    both = in_both(*sets.values()) if len(sets) == 2 else []
    if args.json:
        values = {name: _as_dict(coco, broken[name]) for name, coco in sets.items()}
        print(json_text(values | {"in_both": len(both)}, indent=None))
    else:
        for coco, names in zip(sets.values(), broken.values(), strict=True):
            _print(coco, names)
        if both:
            print(f"{counted(len(both), 'image')} in both splits, such as {both[0][0].name}")
    if len(sets) == 2:
        check_classes(*sets.values())
    refused = [str(finding) for coco in sets.values() for finding in would_refuse(coco)]
    refused += [f"cannot be read: {name}" for names in broken.values() for name in names[:3]]
    if refused:
        raise ValueError(f'training refuses these data, unless on_broken is "skip": {"; ".join(refused)}')


def convert(args: argparse.Namespace) -> None:
    """Write the JSON files, say what was found, and check them."""
    folder: Path = args.source.expanduser()
    if not folder.exists():
        raise FileNotFoundError(f"no such folder: {folder}")
    kind = args.kind or _kind_of(folder)
    if kind == "yolo":
        done = convert_yolo(folder, args.output, val_share=args.val_share)
    else:
        done = convert_voc(
            folder,
            args.output,
            difficult=args.difficult,
            first_pixel=args.first_pixel,
            val_share=args.val_share,
        )
    _print_conversion(done)


def _splits(args: argparse.Namespace) -> dict[str, Split]:
    """Both splits of a folder, or the one of a file."""
    if Path(args.data).expanduser().is_file():
        images = None if args.images is None else str(args.images)
        return {"data": find_split("", "data", images, args.data)}
    if args.images is not None:
        raise ValueError("--images goes with a JSON file; for a folder there are --train-images and --val-images")
    found = find_splits(DetectionConfig().override(**given_flags(args, DetectionConfig)))
    return {"train": found.train, "val": found.val}


def _print(coco: CocoSet, broken: list[str]) -> None:
    print(f"{coco.annotations}, images in {coco.images.paths.folder}:")
    for line in (*coco.report.lines(), *advice(coco)):
        print(f"  {line}")
    if broken:
        print(f"  {counted(len(broken), 'image')} whose pixels cannot be read: {'; '.join(broken[:3])}")
    print(class_table(coco))


def _as_dict(coco: CocoSet, broken: list[str]) -> dict[str, Any]:
    report = asdict(coco.report) | {"classes": list(coco.classes)}
    return {"annotations": str(coco.annotations), **report, "broken_pixels": broken}


def _kind_of(folder: Path) -> str:
    if folder.is_dir() and is_voc(folder):
        return "voc"
    if is_yolo(folder):
        return "yolo"
    with suppress(FileNotFoundError):
        found = find_split(str(folder), "train")
        raise ValueError(
            f"{found.annotations} is there, as of COCO: `{command('detect', 'check', folder)}` looks at it"
        )
    raise ValueError(f"{folder} looks like no YOLO (data.yaml, or classes.txt) and no Pascal VOC data set (*.xml)")


def _print_conversion(done: Conversion) -> None:
    for finding in done.findings:
        print(finding)
    for note in done.notes:
        print(note)
    for name, path in done.files.items():
        split = find_split("", name, None, str(path))
        _print(read_coco(path, split.images, masks=False, on_broken="skip"), [])
    if "train" not in done.files or not {"val", "test"} & set(done.files):
        print("to train, images to learn from and to validate on are wanted: train.json, and val.json or test.json")


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected a share between 0 and 1, got {text[:40]!r}")
    return value
