"""Where images and annotations are looked for."""

import pytest

from sase_attn.detection.config import DetectionConfig
from sase_attn.detection.data.splits import find_splits

LAYOUTS = {
    "train.json": ("train", "val.json", "val"),
    "train.json ": ("images/train", "valid.json", "images/valid"),
    "train.json  ": ("images", "test.json", "images"),
    "annotations/instances_train2017.json": ("train2017", "annotations/instances_val2017.json", "val2017"),
    "annotations/instances_train2014.json": (
        "images/train2014",
        "annotations/instances_val2014.json",
        "images/val2014",
    ),
    "annotations/train.json": ("train", "annotations/val.json", "val"),
    "train/_annotations.coco.json": ("train", "valid/_annotations.coco.json", "valid"),
    "train/annotations.json": ("train/images", "val/annotations.json", "val/images"),
    "instances_train.json": ("train", "instances_val.json", "val"),
    "train.json   ": (".", "val.json", "."),
}


def make(folder, *names):
    for name in names:
        path = folder / name.strip()
        if name.strip().endswith(".json"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}")
        else:
            path.mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize("train", LAYOUTS)
def test_layouts(tmp_path, train):
    train_images, val, val_images = LAYOUTS[train]
    make(tmp_path, train, *LAYOUTS[train])
    found = find_splits(DetectionConfig(data=str(tmp_path)))
    assert found.train == (tmp_path / train_images, tmp_path / train.strip())
    assert found.val == (tmp_path / val_images, tmp_path / val)


def test_what_is_named_wins(tmp_path):
    make(tmp_path, "train.json", "val.json", "train", "val", "others", "more/x.json", "more/y.json")
    config = DetectionConfig(
        data=str(tmp_path), train_images=str(tmp_path / "others"), val_annotations=str(tmp_path / "more" / "x.json")
    )
    found = find_splits(config)
    assert found.train == (tmp_path / "others", tmp_path / "train.json")
    assert found.val == (tmp_path / "more", tmp_path / "more" / "x.json")
    alone = DetectionConfig(
        train_annotations=str(tmp_path / "train.json"),
        val_annotations=str(tmp_path / "more" / "x.json"),
        val_images=str(tmp_path / "val"),
    )
    assert find_splits(alone).train.images == tmp_path / "train" and find_splits(alone).val.images == tmp_path / "val"


@pytest.mark.parametrize(
    "there,fields,error,words",
    [
        ((), {"data": ""}, FileNotFoundError, "data: wanted a folder, or train_annotations and train_images"),
        ((), {"data": "{}/none"}, FileNotFoundError, "no such folder: .*none"),
        (
            ("val.json", "pictures"),
            {},
            FileNotFoundError,
            "no annotations of train: wanted .*; it has pictures, val.json",
        ),
        (
            ("train.json",),
            {},
            FileNotFoundError,
            "no annotations of val, valid, validation, test: .* it has train.json",
        ),
        ((), {"train_annotations": "{}/a.json"}, FileNotFoundError, "train_annotations: no such file: .*a.json"),
        (("train.json",), {"train_images": "{}/a"}, FileNotFoundError, "train_images: no such folder: .*a"),
        (
            ("annotations/instances_train2014.json", "annotations/instances_train2017.json"),
            {},
            ValueError,
            "several annotation files: annotations/instances_train2014.json, .*; choose by train_annotations",
        ),
        (("train.json",), {"val_annotations": "{}/train.json"}, ValueError, "is what is trained on"),
    ],
)
def test_what_is_missing(tmp_path, there, fields, error, words):
    make(tmp_path, *there)
    filled = {name: value.format(tmp_path) for name, value in fields.items()}
    with pytest.raises(error, match=words) as caught:
        find_splits(DetectionConfig(**{"data": str(tmp_path), **filled}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name,kind", [("data.yaml", "YOLO"), ("Annotations/a.xml", "Pascal VOC"), ("a.xml", "Pascal VOC")]
)
def test_data_of_another_form(tmp_path, name, kind):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(
        FileNotFoundError, match=f"this looks like {kind}: `sase-attn detect convert .*` makes COCO of it"
    ):
        find_splits(DetectionConfig(data=str(tmp_path)))
