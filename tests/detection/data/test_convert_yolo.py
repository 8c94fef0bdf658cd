"""YOLO data sets as COCO: the boxes are those of the labels, and what is no object is counted."""

import json

import numpy as np
import pytest
from PIL import Image

from sase_attn.detection.config import DetectionConfig
from sase_attn.detection.data.convert_yolo import convert_yolo
from sase_attn.detection.data.read_coco import read_coco
from sase_attn.detection.data.splits import find_splits
from sase_attn.detection.data.yolo_layout import label_file

SIZE = (40, 20)
LINES = {
    "a": "0 0.5 0.5 0.25 0.5\n1 0.1 0.2 0.1 0.2\n",
    "b": "1 0 0 0.5 0 0.5 1\n",  # a triangle
    "c": "",
}


def write_image(path, lines=None, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)
    if lines is not None:
        labels = label_file(path)
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text(lines)


def ultralytics(folder, yaml="names: {0: cat, 1: dog}\ntrain: images/train\nval: images/val\n"):
    for name, lines in LINES.items():
        write_image(folder / "images" / "train" / f"{name}.png", lines)
    write_image(folder / "images" / "val" / "d.png", "0 0.5 0.5 1 1")
    (folder / "data.yaml").write_text(yaml)
    return folder


def opened(folder):
    splits = find_splits(DetectionConfig(data=str(folder)))
    return [read_coco(split.annotations, split.images, masks=False) for split in (splits.train, splits.val)]


def test_boxes_and_polygons(tmp_path):
    done = convert_yolo(ultralytics(tmp_path))
    assert done.findings == () and list(done.files) == ["train", "val"]
    train, val = opened(tmp_path)
    assert train.classes == ("cat", "dog") and train.category_ids == (0, 1)
    assert [objects.labels.tolist() for objects in train.objects] == [[1, 2], [2], []]
    assert np.allclose(train.objects[0].xywh, [[15, 5, 10, 10], [2, 2, 4, 4]])
    assert train.objects[1].xywh.tolist() == [[0, 0, 20, 20]] and train.objects[1].areas.tolist() == [200]
    assert val.objects[0].xywh.tolist() == [[0, 0, 40, 20]]
    masked = read_coco(tmp_path / "train.json", tmp_path / "images" / "train", masks=True)
    assert masked.objects.count == 1 and 180 < int(masked.objects[1].masks.sum()) < 220
    assert masked.report.count("no_mask") == 2


def test_the_files_may_lie_elsewhere(tmp_path):
    ultralytics(tmp_path / "data")
    convert_yolo(tmp_path / "data" / "data.yaml", tmp_path / "out")
    train, _ = opened(tmp_path / "out")
    assert [image.path.resolve() for image in train.images] == sorted((tmp_path / "data/images/train").iterdir())
    assert not list((tmp_path / "data").glob("*.json"))


@pytest.mark.parametrize(
    "yaml",
    [
        "path: /home/somebody/data\nnames: [cat, dog]\ntrain: images/train\nval: images/val",
        "names: [cat, dog]\ntrain: ../images/train\nval: ../images/val",
        "names: [cat, dog]\ntrain: [images/train]\ntest: images/val",
        "path: .\nnames: [cat, dog]\ntrain: train.txt\nval: images/val",
    ],
)
def test_ways_to_name_the_splits(tmp_path, yaml):
    ultralytics(tmp_path, yaml)
    (tmp_path / "train.txt").write_text("".join(f"./images/train/{name}.png\n" for name in LINES))
    convert_yolo(tmp_path)
    assert [len(coco) for coco in opened(tmp_path)] == [3, 1]


def test_roboflow(tmp_path):
    for split in ("train", "valid"):
        write_image(tmp_path / split / "images" / "a.png", LINES["a"])
    (tmp_path / "data.yaml").write_text("names: ['cat', 'dog']\nnc: 2\ntrain: ../train/images\nval: ../valid/images\n")
    convert_yolo(tmp_path)
    assert [coco.objects.count for coco in opened(tmp_path)] == [2, 2]


def test_classes_txt(tmp_path):
    for split in ("train", "val"):
        write_image(tmp_path / "images" / split / "sub" / "a.png", LINES["a"])
    (tmp_path / "labels" / "classes.txt").write_text("cat\ndog\n")
    convert_yolo(tmp_path)
    assert [coco.objects.count for coco in opened(tmp_path)] == [2, 2]


def test_images_without_splits(tmp_path):
    for number in range(10):
        write_image(tmp_path / f"{number}.png", LINES["a"])
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(ValueError, match="give --val-share"):
        convert_yolo(tmp_path)
    convert_yolo(tmp_path, val_share=0.3)
    train, val = opened(tmp_path)
    names = [{image.path.name for image in coco.images} for coco in (train, val)]
    assert (len(names[0]), len(names[1])) == (7, 3) and not names[0] & names[1]
    convert_yolo(tmp_path, tmp_path / "again", val_share=0.3)
    assert {image.path.name for image in opened(tmp_path / "again")[1].images} == names[1]
    with pytest.raises(ValueError, match="got 0 of 10 to validate on"):
        convert_yolo(tmp_path, tmp_path / "more", val_share=0.01)


@pytest.mark.parametrize(
    "line,kind",
    [
        ("0 0.5 0.5 0.1", "bad_lines"),
        ("0 0.5 0.5 0.1 0.1 0.9", "bad_lines"),
        ("0 0.5 nan 0.1 0.1", "bad_lines"),
        ("cat 0.5 0.5 0.1 0.1", "bad_lines"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "bad_lines"),
        ("2 0.5 0.5 0.1 0.1", "unknown_numbers"),
        ("0.5 0.5 0.5 0.1 0.1", "unknown_numbers"),
        ("0 20 10 10 10", "not_shares"),
        ("0 0.5 0.5 -0.1 0.1", "not_shares"),
    ],
)
def test_lines_that_are_no_object(tmp_path, line, kind):
    ultralytics(tmp_path)
    (tmp_path / "labels" / "train" / "c.txt").write_text(f"{LINES['a']}\n{line}\n")
    (finding,) = convert_yolo(tmp_path).findings
    assert (finding.kind, finding.count) == (kind, 1) and finding.examples == ("c.txt, line 4",)
    assert opened(tmp_path)[0].objects.count == 5


def test_files_that_are_missing_or_broken(tmp_path):
    ultralytics(tmp_path)
    (tmp_path / "labels" / "train" / "a.txt").unlink()
    (tmp_path / "images" / "train" / "b.png").write_bytes(b"")
    found = {finding.kind: finding.count for finding in convert_yolo(tmp_path).findings}
    assert found == {"no_labels": 1, "bad_images": 1}
    assert len(opened(tmp_path)[0]) == 2


def test_keypoints_are_left_out(tmp_path):
    ultralytics(tmp_path, "names: [cat, dog]\nkpt_shape: [2, 3]\ntrain: images/train\nval: images/val")
    for name in LINES:
        (tmp_path / "labels" / "train" / f"{name}.txt").write_text("0 0.5 0.5 0.25 0.5 0.1 0.1 2 0.3 0.3 2")
    convert_yolo(tmp_path)
    assert opened(tmp_path)[0].objects[0].xywh.tolist() == [[15, 5, 10, 10]]


def test_nothing_is_overwritten(tmp_path):
    ultralytics(tmp_path)
    (tmp_path / "val.json").write_text("mine")
    with pytest.raises(FileExistsError, match="val.json exists"):
        convert_yolo(tmp_path)
    assert not (tmp_path / "train.json").exists() and (tmp_path / "val.json").read_text() == "mine"


@pytest.mark.parametrize(
    "yaml,error,words",
    [
        ("train: images/train", ValueError, "wanted the names of the classes, got None"),
        ("names: 5\ntrain: images/train", ValueError, "wanted the names of the classes, got 5"),
        ("names: {a: cat}\ntrain: images/train", ValueError, "wanted the names of the classes"),
        ("names: [cat]", ValueError, "wanted train and val, got names"),
        ("names: [cat]\ntrain: 5", ValueError, "train: wanted a folder, a list of images or several, got 5"),
        ("names: [cat]\ntrain: nowhere", FileNotFoundError, "train: no such folder or list of images: .*nowhere"),
        ("names: [cat", ValueError, "no YAML"),
        ("cat", ValueError, "wanted names, train and val, got str"),
    ],
)
def test_yaml_that_is_not_of_yolo(tmp_path, yaml, error, words):
    ultralytics(tmp_path, yaml)
    with pytest.raises(error, match=words) as caught:
        convert_yolo(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_without_names(tmp_path):
    with pytest.raises(ValueError, match="has no data.yaml, and no classes.txt"):
        convert_yolo(tmp_path)


def test_what_is_written_is_coco(tmp_path):
    """The fields that other readers want are there."""
    value = json.loads((convert_yolo(ultralytics(tmp_path)).files["train"]).read_text())
    assert value["images"][0] == {"id": 1, "file_name": "images/train/a.png", "width": 40, "height": 20}
    wanted = {"id": 1, "image_id": 1, "category_id": 0, "bbox": [15.0, 5.0, 10.0, 10.0], "area": 100.0, "iscrowd": 0}
    assert value["annotations"][0] == wanted
    assert value["categories"] == [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]
