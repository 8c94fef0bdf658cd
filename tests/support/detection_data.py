"""Tiny COCO folders: coloured rectangles and triangles on noise, with boxes and masks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CATEGORIES = ((3, "square"), (7, "triangle"))  # ids with gaps
COLOURS = {"square": (220, 40, 40), "triangle": (40, 60, 220)}


def draw_coco(
    folder: Path,
    *,
    train: int = 6,
    val: int = 4,
    size: tuple[int, int] = (64, 48),
    objects: int = 3,
    masks: bool = True,
    seed: int = 0,
) -> Path:
    """Make FOLDER/train.json and FOLDER/train/, and the same for val; of more than two images, the second is empty."""
    for place, (split, count) in enumerate((("train", train), ("val", val))):
        draw_split(folder, split, count, size=size, objects=objects, masks=masks, seed=2 * seed + place)
    return folder


def draw_split(
    folder: Path,
    split: str,
    count: int,
    *,
    size: tuple[int, int] = (64, 48),
    objects: int = 3,
    masks: bool = True,
    seed: int = 0,
) -> Path:
    """Make one split, and return the path of its annotation file."""
    rng = np.random.default_rng(seed)
    width, height = size
    (folder / split).mkdir(parents=True)
    value: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": number, "name": name} for number, name in CATEGORIES],
    }
    for place in range(count):
        pixels = rng.integers(90, 140, (height, width, 3)).astype(np.uint8)
        image_id, name = 10 + 5 * place, f"{split}{place}.png"
        for _ in range(0 if place == 1 and count > 2 else objects):
            annotation = _draw(pixels, rng)
            if not masks:
                del annotation["segmentation"]
            value["annotations"].append({"id": len(value["annotations"]) + 1, "image_id": image_id, **annotation})
        Image.fromarray(pixels).save(folder / split / name)
        value["images"].append({"id": image_id, "file_name": name, "width": width, "height": height})
    path = folder / f"{split}.json"
    path.write_text(json.dumps(value))
    return path


def edit(path: Path, change: Any) -> Path:
    """Change the value of a JSON file in place."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    return path


def _draw(pixels: Any, rng: np.random.Generator) -> dict[str, Any]:
    """Draw one object, and return its annotation."""
    height, width, _ = pixels.shape
    side = int(rng.integers(min(height, width) // 5, min(height, width) // 2))
    x, y = int(rng.integers(0, width - side)), int(rng.integers(0, height - side))
    number, name = CATEGORIES[int(rng.integers(len(CATEGORIES)))]
    if name == "square":
        pixels[y : y + side, x : x + side] = COLOURS[name]
        polygon = [x, y, x + side, y, x + side, y + side, x, y + side]
        area = side * side
    else:
        for row in range(side):
            pixels[y + row, x : x + row + 1] = COLOURS[name]
        polygon = [x, y, x + side, y + side, x, y + side]
        area = side * (side + 1) // 2
    box = [x, y, side, side]
    return {"category_id": number, "bbox": box, "area": area, "iscrowd": 0, "segmentation": [polygon]}
