"""Files that are not COCO's are named for what they look like."""

import json

import pytest
from detection_data import draw_split, edit

from sase_attn.detection.data.parse import parse_coco
from sase_attn.detection.data.read_coco import read_coco

OTHERS = {
    "labelme": {"version": "5", "shapes": [], "imagePath": "a.jpg"},
    "VGG Image Annotator": {"a.jpg1": {"filename": "a.jpg", "regions": []}},
    "COCO results": [{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5}],
    "CreateML": [{"image": "a.jpg", "annotations": []}],
    "Label Studio": [{"id": 1, "data": {}, "annotations": []}],
    "BDD100K": [{"name": "a.jpg", "labels": []}],
    "list of annotations alone": [{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4]}],
    "Supervisely": {"size": {}, "objects": []},
    "panoptic": {"images": [{}], "categories": [{}], "annotations": [{"segments_info": []}]},
    "captions": {"images": [{}], "categories": [{}], "annotations": [{"caption": "a"}]},
    "got an object with a, b": {"a": 1, "b": 2},
    "got an object with nothing": {},
    "got a list": [],
    "got int": 5,
    "got NoneType": None,
    "got str": "images",
}


@pytest.mark.parametrize("words", OTHERS)
def test_json_of_others(tmp_path, words):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(OTHERS[words]))
    with pytest.raises(ValueError, match=f"a.json: wanted COCO JSON.*{words}") as caught:
        parse_coco(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name,content,words",
    [
        ("a.txt", "0 0.5 0.5 0.1 0.1", "a YOLO label file"),
        ("a.xml", "<annotation>", "a Pascal VOC file"),
        ("a.json", " <annotation>", "a Pascal VOC file"),
        ("data.yaml", "names: [a]", "YOLO's data.yaml"),
        ("a.csv", "image,label", "a table"),
        ("a.json", "", "the file is empty"),
        ("a.json", "version https://git-lfs.github.com/spec/v1", "Git LFS"),
        ("a.json", '{"images": [', "got no JSON: Expecting value"),
        ("a.json", "[" * 100_000, "too many levels"),
    ],
)
def test_no_json(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=f"{name}: wanted COCO JSON.*{words}"):
        parse_coco(tmp_path / name)


def test_a_folder(tmp_path):
    with pytest.raises(ValueError, match="got a folder"):
        parse_coco(tmp_path)


@pytest.mark.parametrize(
    "change,words",
    [
        (lambda v: v.update(images=[]), "got 0 images and 2 categories"),
        (lambda v: v.update(categories=[]), "got 3 images and 0 categories"),
        (lambda v: v["images"].append(5), r"images\[3\]: wanted an object, got 5"),
        (lambda v: v["annotations"].insert(0, "a"), r"annotations\[0\]: wanted an object, got a"),
        (lambda v: v["images"][1].update(id="a1"), r"images\[1\].id: wanted a whole number, got 'a1'"),
        (lambda v: v["images"][1].update(id=True), r"images\[1\].id: wanted a whole number, got True"),
        (lambda v: v["images"][1].pop("file_name"), r"images\[1\]: wanted file_name"),
        (lambda v: v["images"][1].update(file_name="\ud800"), r"images\[1\]: wanted file_name"),
        (lambda v: v["images"][1].update(file_name=None, coco_url="a"), "LVIS has coco_url"),
        (lambda v: v["images"][1].update(width=-4), "wanted a width and a height above 0, got -4x48"),
        (lambda v: v["images"][1].update(width="64"), r"images\[1\].width: wanted a whole number"),
        (lambda v: v["images"][1].update(id=10), "train0.png and train1.png have one id, 10"),
        (lambda v: v["categories"][1].update(id=3), "'square' and 'triangle' have one id, 3"),
        (lambda v: v["categories"][1].update(name="square"), "two categories are called 'square', ids 3 and 7"),
        (lambda v: v["categories"][1].update(name=None), r"categories\[1\]: wanted a name"),
        (lambda v: v["categories"][1].update(id=1.5), r"categories\[1\].id: wanted a whole number"),
        (
            lambda v: [one.update(image_id=1) for one in v["annotations"]],
            "none of 6 objects can be used: 6 objects of im",
        ),
    ],
)
def test_structure(tmp_path, change, words):
    path = edit(draw_split(tmp_path, "train", 3), change)
    with pytest.raises(ValueError, match=f"train.json: .*{words}"):
        read_coco(path, tmp_path / "train", masks=False)


def test_numbers_as_pandas_writes_them(tmp_path):
    def floats(value):
        for one in value["annotations"]:
            one["image_id"], one["category_id"] = float(one["image_id"]), float(one["category_id"])
        value["images"][0]["id"] = 10.0

    path = edit(draw_split(tmp_path, "train", 3), floats)
    assert read_coco(path, tmp_path / "train", masks=False).objects.count == 6
