"""Annotation files: what is read, and that all that is odd is counted."""

import json

import numpy as np
import pytest
from detection_data import draw_coco, draw_split, edit
from faster_coco_eval.core import mask as tools
from PIL import Image

from sase_attn.detection.data.read_coco import read_coco
from sase_attn.detection.data.report import CONVERSION_FINDINGS, FINDINGS, Finding


@pytest.fixture
def split(tmp_path):
    return draw_split(tmp_path, "train", 4)


def read(path, masks=True, on_broken="refuse"):
    return read_coco(path, path.with_suffix(""), masks=masks, on_broken=on_broken)


def first(value, **changes):
    value["annotations"][0].update(changes)


def test_what_the_file_says(split):
    coco, value = read(split), json.loads(split.read_text())
    assert coco.classes == ("square", "triangle") and coco.category_ids == (3, 7)
    assert [image.id for image in coco.images] == [10, 15, 20, 25]
    assert coco.images[2].path == split.with_suffix("") / "train2.png" and coco.images[2][2:] == (64, 48)
    for image, objects in zip(coco.images, coco.objects, strict=True):
        listed = [one for one in value["annotations"] if one["image_id"] == image.id]
        assert objects.xywh.tolist() == [one["bbox"] for one in listed]
        assert [coco.category_ids[label - 1] for label in objects.labels] == [one["category_id"] for one in listed]
        assert objects.areas.tolist() == [one["area"] for one in listed]
        assert objects.masks.shape == (len(listed), 48, 64) and objects.run_lengths == [
            tools.merge(tools.frPyObjects(one["segmentation"], 48, 64)) for one in listed
        ]
        x, y = objects.boxes[:, :2].T if len(listed) else ((), ())
        assert [(a, b) for a, b in zip(x, y, strict=True)] == [tuple(one["bbox"][:2]) for one in listed]
    assert coco.label_of(7) == 2 and len(coco.objects_of(15)) == 0 and len(coco.objects_of(20)) == 3
    assert list(coco.report.lines()) == [
        "4 images, 9 objects, 2 classes",
        "1 image without objects, kept with no boxes (train1.png)",
    ]


def test_without_masks_the_extra_is_not_needed(split, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "faster_coco_eval.core", None)
    coco = read_coco(str(split), str(split.with_suffix("")), masks=False)
    assert coco.objects[0].counts is None
    with pytest.raises(ValueError, match="masks were not read"):
        _ = coco.objects[0].masks
    with pytest.raises(ImportError, match=r'pip install "sase-attn\[detection\]"'):
        read(split)


def test_run_lengths_and_polygons_are_one(split):
    """The three forms of a mask give the same masks; faster-coco-eval's decoding is the judge."""
    masks = read(split).objects[0].masks

    def other_forms(value):
        for place, form in enumerate(("compressed", "plain")):
            mask = masks[place].numpy()
            if form == "compressed":
                lengths = tools.encode(np.asfortranarray(mask))
                value["annotations"][place]["segmentation"] = {"size": [48, 64], "counts": lengths["counts"].decode()}
                continue
            flat = mask.flatten(order="F")
            edges = np.flatnonzero(np.diff(flat)) + 1
            counts = np.diff([0, *edges, flat.size]).tolist()
            value["annotations"][place]["segmentation"] = {"size": [48, 64], "counts": [0] * int(flat[0]) + counts}

    assert read(edit(split, other_forms)).objects[0].masks.equal(masks)


BAD = {
    "crowds": dict(iscrowd=1),
    "cropped": dict(bbox=[-4, 0, 20, 20]),
    "outside": dict(bbox=[64, 0, 20, 20]),
    "no_area": dict(bbox=[5, 5, 0, 20]),
    "no_box": dict(bbox=[5, float("nan"), 9, 20]),
    "other_mask": dict(segmentation=[[60, 40, 64, 40, 64, 48]], bbox=[0, 0, 20, 20]),
    "unknown_images": dict(image_id=99),
    "unknown_categories": dict(category_id=99),
    "no_mask": dict(segmentation=[]),
}
DROPPED = {"outside", "no_area", "no_box", "unknown_images", "unknown_categories", "no_mask"}


@pytest.mark.parametrize("kind", BAD)
def test_odd_objects_are_counted(split, kind):
    coco = read(edit(split, lambda value: first(value, **BAD[kind])))
    assert coco.report.count(kind) == 1
    assert coco.report.objects == coco.objects.count == 9 - (kind in DROPPED)
    line = next(line for line in coco.report.lines() if FINDINGS[kind][1] in line)
    assert line.startswith(f"1 {FINDINGS[kind][0]} ") and "annotation 1 of image" in line


@pytest.mark.parametrize("value,is_crowd", [("0", False), ("1", True), (1.0, True), ("false", False), (None, False)])
def test_a_crowd_by_the_word(split, value, is_crowd):
    coco = read(edit(split, lambda file: first(file, iscrowd=value)), masks=False)
    assert coco.report.count("crowds") == coco.objects[0].crowds.sum() == is_crowd


def test_findings_of_one_and_of_many():
    for kind, (noun, fate) in (FINDINGS | CONVERSION_FINDINGS).items():
        assert not {"its", "that is"} & {*fate.split(), fate[:7]}, kind
        assert str(Finding(kind, 1, ())) == f"1 {noun} {fate}"
    assert str(Finding("difficult", 4, ())).startswith("4 objects marked difficult, made crowds: ")
    assert str(Finding("bad_lines", 4, ())) == "4 lines without the numbers of an object, dropped"
    assert str(Finding("bad_files", 2, ())) == "2 label files that cannot be read, left out, images too"
    assert str(Finding("missing", 2, ("a", "b"))) == "2 images without a file, left out, objects too (a, b)"


@pytest.mark.parametrize(
    "box",
    [[5, 5, -3, 20], [5, 5, 1e-9, 20], [5, 5, float("inf"), 20], [5, 5, 20], ["5", 5, 20, 20], 7, [1e300, 0, 5, 5],
     [5] * 5, [-9, 5, 9, 5], [True, 5, 9, 5], [5, 1e12, 5, 5], [5, 5, 10**400, 5]],
)  # fmt: skip
def test_boxes_that_cannot_be_used(split, box):
    coco = read(edit(split, lambda value: first(value, bbox=box)), masks=False)
    assert coco.report.objects == 8
    assert sum(coco.report.count(kind) for kind in ("no_box", "no_area", "outside")) == 1


@pytest.mark.parametrize(
    "segmentation",
    [None, {}, [[]], [[1, 2, 3, 4]], [[1, 2, 3, 4, 5]], [[1, 2, 3, 4, 5, float("nan")]], [["a"] * 6], "polygon", 5, [5],
     [[10**400] * 6],
     [[0, 0, 1e9, 0, 1e9, 1e9]], [[100, 100, 120, 100, 120, 120]], {"size": [48, 64]},
     *({"size": [64, 48], "counts": counts} for counts in ([3072], "0PP3")),
     *({"size": [48, 64], "counts": counts}
       for counts in ([3072], [3, 4], [-3, 3075], "zzz~~~", "ü", "", [1.5, 3070.5], ["a"], {}))],
)  # fmt: skip
def test_masks_that_cannot_be_read(split, segmentation):
    coco = read(edit(split, lambda value: first(value, segmentation=segmentation)))
    assert coco.report.count("no_mask") == 1 and coco.report.objects == 8


def test_a_box_that_is_not_given_is_that_of_the_mask(split):
    def remove_box(value):
        del value["annotations"][0]["bbox"], value["annotations"][1]["bbox"]

    boxes = [read(split).objects[0].xywh, read(edit(split, remove_box)).objects[0].xywh]
    assert boxes[0].tolist() == boxes[1].tolist() == read(split, masks=False).objects[0].xywh.tolist()


def test_cropped_boxes_lie_in_the_image(split):
    coco = read(edit(split, lambda value: first(value, bbox=[-4.5, 40, 100, 20])))
    assert coco.objects[0].xywh[0].tolist() == [0, 40, 64, 8]
    assert coco.objects[0].boxes[0].tolist() == [0, 40, 64, 48]


def test_boxes_that_are_two_corners(split):
    """What other tools write, taken for COCO's."""

    def corners(value):
        for one in value["annotations"]:
            x, y, width, height = one["bbox"]
            one["bbox"] = [x + 20, y + 20, x + 20 + width, y + 20 + height]

    words = "most boxes reach beyond their images: COCO's are x, y, width and height, and not two corners"
    assert words not in read(split).report.lines()
    assert words in read(edit(split, corners), masks=False).report.lines()


def test_areas_that_are_missing_are_measured(split):
    coco = read(split)
    areas = coco.objects[0].areas

    def remove(value):
        for one in value["annotations"]:
            one["area"] = None

    edit(split, remove)
    assert np.allclose(read(split).objects[0].areas, areas, rtol=0.2)
    assert read(split).objects[0].areas.tolist() == coco.objects[0].masks.sum((1, 2)).tolist()
    assert read(split, masks=False).objects[0].areas.tolist() == np.prod(coco.objects[0].xywh[:, 2:], axis=1).tolist()


def test_odd_images_are_counted(split, tmp_path):
    def change(value):
        value["images"] += [value["images"][0], {**value["images"][0], "id": 7}]
        value["annotations"].append({**value["annotations"][0], "id": 77})
        value["categories"].append({"id": 1, "name": "circle"})

    Image.new("RGB", (5, 5)).save(tmp_path / "train" / "new.png")
    coco = read(edit(split, change))
    counts = {finding.kind: finding.count for finding in coco.report.findings}
    assert counts == {
        "empty_images": 2,
        "duplicates": 1,
        "repeated_images": 1,
        "shared_files": 1,
        "unlisted": 1,
        "unused_classes": 1,
    }
    assert coco.classes == ("circle", "square", "triangle") and coco.label_of(3) == 2


@pytest.mark.parametrize("unused", [0, 5, 9])
def test_a_name_that_an_unused_category_has_too(split, unused):
    """Roboflow lists the name of the data set as category 0, and a class may be called like it."""
    coco = read(edit(split, lambda value: value["categories"].insert(0, {"id": unused, "name": "square"})))
    assert coco.classes == ("square", "triangle") and coco.category_ids == (3, 7)
    line = f"1 category named like another and without objects, left out (square, id {unused})"
    assert line in coco.report.lines() and coco.objects.count == 9


def test_one_name_and_no_object_of_it(split):
    def change(value):
        value["categories"] += [{"id": 1, "name": "circle"}, {"id": 9, "name": "circle"}]

    coco = read(edit(split, change))
    assert (
        coco.category_ids == (3, 7, 9) and coco.report.count("same_names") == coco.report.count("unused_classes") == 1
    )


@pytest.mark.parametrize(
    "kind,break_it,words",
    [
        ("missing", lambda path: path.unlink(), "No such file"),
        ("unreadable", lambda path: path.write_bytes(b"no image"), "cannot identify image file"),
        ("other_size", lambda path: Image.new("RGB", (48, 64)).save(path), "is 48x64"),
    ],
)
def test_broken_images_are_refused_or_skipped(split, tmp_path, kind, break_it, words):
    break_it(tmp_path / "train" / "train2.png")
    with pytest.raises(ValueError, match=f"1 of 4 images cannot be read: .*train2.png .*{words}.*on_broken"):
        read(split)
    coco = read(split, on_broken="skip")
    assert coco.report.count(kind) == 1 and len(coco) == 3 and coco.objects.count == 6
    assert [image.id for image in coco.images] == [10, 15, 25] and len(coco.objects_of(25)) == 3


def test_an_image_that_lies_on_its_side(split, tmp_path):
    """The size that counts is that of the image as it stands."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 48)).save(tmp_path / "train" / "a.jpg", exif=exif)
    edit(split, lambda value: value["images"][0].update(file_name="a.jpg"))
    with pytest.raises(ValueError, match="is 48x64, perhaps turned as EXIF says, the annotations say 64x48"):
        read(split)
    edit(split, lambda value: value["images"][0].update(width=48, height=64))
    assert read(split).images[0][2:] == (48, 64)


def test_sizes_that_the_file_does_not_give(split):
    def remove(value):
        del value["images"][0]["width"]
        value["images"][1]["height"] = None

    assert [image[2:] for image in read(edit(split, remove)).images] == [(64, 48)] * 4


def test_names_in_other_folders(split, tmp_path):
    """The last part of a name will do, also with the separators of Windows."""

    def rename(value):
        value["images"][0]["file_name"] = "images/set/train0.png"
        value["images"][1]["file_name"] = "set\\train1.png"
        value["images"][2]["file_name"] = "train/train2.png"

    names = [image.path.name for image in read(edit(split, rename)).images]
    assert names == ["train0.png", "train1.png", "train2.png", "train3.png"]


def test_a_last_part_that_two_images_share_names_neither(split):
    def rename(value):
        for place in range(2):
            value["images"][place]["file_name"] = f"{place}/train2.png"

    coco = read(edit(split, rename), on_broken="skip")
    assert coco.report.count("missing") == 2 and coco.report.count("shared_files") == 0


def test_none_of_the_images_is_there(split, tmp_path):
    (tmp_path / "other").mkdir()
    with pytest.raises(
        FileNotFoundError, match="other has none of the 4 images that .*train.json lists, such as train0.png"
    ):
        read_coco(split, tmp_path / "other", masks=False)


def test_masks_of_a_file_without_any(tmp_path):
    path = draw_split(tmp_path, "train", 3, masks=False)
    with pytest.raises(
        ValueError, match=r"none of 6 objects has a mask \(annotation 1 .*no segmentation\).*faster_rcnn"
    ):
        read(path)
    assert read(path, masks=False).objects.count == 6


def test_the_identity_is_that_of_the_content(tmp_path):
    paths = [draw_coco(tmp_path / name) / "train.json" for name in "ab"]
    assert read(paths[0]).identity_digest == read(paths[1]).identity_digest
    edit(paths[1], lambda value: first(value, bbox=[0, 0, 9, 9]))
    assert read(paths[0]).identity_digest != read(paths[1]).identity_digest
