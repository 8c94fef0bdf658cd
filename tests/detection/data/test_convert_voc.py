"""Pascal VOC data sets as COCO: pixels from 1 or 0, difficult objects, splits, and what is no object."""

import pytest
from PIL import Image

from sase_attn.detection.config import DetectionConfig
from sase_attn.detection.data.convert_voc import convert_voc
from sase_attn.detection.data.read_coco import read_coco
from sase_attn.detection.data.splits import find_splits

SIZE = "<size><width>40</width><height>20</height><depth>3</depth></size>"


def thing(name="cat", box=(2, 3, 11, 12), more=""):
    corners = "".join(
        f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<object><name>{name}</name>{more}<bndbox>{corners}</bndbox></object>"


def annotate(folder, name, *things, size=SIZE, images="JPEGImages", annotations="Annotations", filename=None):
    for inner in (images, annotations):
        (folder / inner).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 20)).save(folder / images / f"{name}.jpg")
    body = f"<filename>{filename or name + '.jpg'}</filename>{size}{''.join(things)}"
    path = folder / annotations / f"{name}.xml"
    path.write_text(f"<annotation>{body}</annotation>")
    return path


def sets(folder, **names):
    main = folder / "ImageSets" / "Main"
    main.mkdir(parents=True)
    for split, listed in names.items():
        (main / f"{split}.txt").write_text("".join(f"{name}\n" for name in listed))


@pytest.fixture
def voc(tmp_path):
    annotate(tmp_path, "a", thing(), thing("ant", more="<difficult>1</difficult>"))
    annotate(tmp_path, "b")
    annotate(tmp_path, "c", thing(box=(1, 1, 40, 20)))
    sets(tmp_path, train=["a", "b"], val=["c"], trainval=["a", "b", "c"])
    return tmp_path


def opened(folder):
    splits = find_splits(DetectionConfig(data=str(folder)))
    return [read_coco(split.annotations, split.images, masks=False) for split in (splits.train, splits.val)]


def test_pixels_count_from_one(voc):
    done = convert_voc(voc)
    assert done.notes == ("the first pixel is 1: as VOC has it",)
    assert [(finding.kind, finding.count) for finding in done.findings] == [("difficult", 1)]
    train, val = opened(voc)
    assert train.classes == ("ant", "cat") and train.category_ids == (1, 2)
    assert train.objects[0].xywh.tolist() == [[1, 2, 10, 10]] * 2 and len(train.objects[1]) == 0
    assert val.objects[0].xywh.tolist() == [[0, 0, 40, 20]]
    assert train.objects[0].crowds.tolist() == [False, True]


def test_pixels_count_from_zero_where_a_box_begins_there(voc):
    annotate(voc, "b", thing(box=(0, 4, 10, 14)))
    done = convert_voc(voc)
    assert done.notes == ("the first pixel is 0: a box begins there",)
    train, _ = opened(voc)
    assert train.objects[0].xywh[0].tolist() == [2, 3, 9, 9] and train.objects[1].xywh.tolist() == [[0, 4, 10, 10]]
    assert convert_voc(voc, voc / "out", first_pixel=1).notes == ("the first pixel is 1",)
    assert opened(voc / "out")[0].objects[1].xywh.tolist() == [[0, 3, 10, 11]]


def test_difficult_objects_may_count(voc):
    assert convert_voc(voc, difficult="keep").findings == ()
    assert not opened(voc)[0].objects[0].crowds.any()
    with pytest.raises(ValueError, match="wanted difficult .*'perhaps'"):
        convert_voc(voc, difficult="perhaps")


def test_trainval_and_test(tmp_path):
    annotate(tmp_path, "a", thing())
    annotate(tmp_path, "b", thing())
    sets(tmp_path, trainval=["a"], test=["b"], cat_trainval=["a 1"])
    assert list(convert_voc(tmp_path).files) == ["test", "train"]
    assert [len(coco) for coco in opened(tmp_path)] == [1, 1]


def test_a_folder_a_split(tmp_path):
    for split in ("train", "valid"):
        annotate(tmp_path / split, "a", thing(), images=".", annotations=".")
    convert_voc(tmp_path)
    assert [coco.objects.count for coco in opened(tmp_path)] == [1, 1]


def test_no_splits(tmp_path):
    for name in "abcd":
        annotate(tmp_path, name, thing(), images=".", annotations=".")
    with pytest.raises(ValueError, match="give --val-share"):
        convert_voc(tmp_path)
    convert_voc(tmp_path, val_share=0.25)
    assert [len(coco) for coco in opened(tmp_path)] == [3, 1]


@pytest.mark.parametrize(
    "bad",
    [
        "<object><name>cat</name></object>",
        thing(name=""),
        thing(box=(1, 2, "x", 4)),
        thing(box=(1, 2, "nan", 4)),
        thing(box=(1, 2, "1e400", 4)),
    ],
)
def test_objects_without_a_name_or_a_box(voc, bad):
    annotate(voc, "b", bad, thing())
    findings = {finding.kind: finding.count for finding in convert_voc(voc).findings}
    assert findings == {"bad_objects": 1, "difficult": 1}
    assert opened(voc)[0].objects.count == 3


def test_files_that_are_missing_or_broken(voc):
    annotate(voc, "a", thing()).write_text("<annotation>")
    (voc / "JPEGImages" / "b.jpg").unlink()
    sets_file = voc / "ImageSets" / "Main" / "train.txt"
    sets_file.write_text("a\nb\nnone\nc\n")
    findings = {finding.kind: finding.count for finding in convert_voc(voc).findings}
    assert findings == {"bad_files": 2, "no_image": 1}


def test_the_image_that_is_meant(voc):
    """The name in the file, or that of the file; the size in the file, or that of the image."""
    annotate(voc, "a", thing(), filename="C:\\images\\a.JPG", size="")
    annotate(voc, "b", thing(), filename="..", size="<size><width>0</width></size>")
    convert_voc(voc)
    train, _ = opened(voc)
    assert [image.path.name for image in train.images] == ["a.jpg", "b.jpg"]
    assert [image[2:] for image in train.images] == [(40, 20)] * 2


def test_folders_that_hold_none(tmp_path):
    with pytest.raises(ValueError, match="has no Annotations/"):
        convert_voc(tmp_path)
    annotate(tmp_path / "VOC2007", "a", thing())
    with pytest.raises(ValueError, match="has data sets inside: convert VOC2007 each"):
        convert_voc(tmp_path)
    (tmp_path / "VOC2007" / "JPEGImages" / "a.jpg").unlink()
    sets(tmp_path / "VOC2007", train=["a"])
    with pytest.raises(ValueError, match="no images with labels were found"):
        convert_voc(tmp_path / "VOC2007")


def test_names_that_are_not_utf_8(voc):
    names = voc / "ImageSets" / "Main" / "train.txt"
    names.write_bytes(b"a\nb\nm\xfcll\n")
    assert [(finding.kind, finding.count) for finding in convert_voc(voc).findings] == [
        ("bad_files", 1),
        ("difficult", 1),
    ]
