"""`sase-attn detect check` and `convert`: what they print, and what they refuse."""

import argparse
import json
import random
import shutil

import pytest
from damage import check, damage
from detection_data import draw_coco, draw_split, edit
from PIL import Image

from sase_attn.commands import detect_data


@pytest.fixture
def run(capsys):
    def call(*words):
        parser = argparse.ArgumentParser()
        detect_data.add_parser(parser.add_subparsers())
        args = parser.parse_args([str(word) for word in words])
        try:
            args.run(args)
        finally:
            out[0] = capsys.readouterr().out
        return out[0]

    out = [""]
    call.out = out
    return call


def test_check(tmp_path, run):
    draw_coco(tmp_path, train=3, val=3)
    printed = run("check", tmp_path, "--masks").splitlines()
    assert printed[0] == f"{tmp_path / 'train.json'}, images in {tmp_path / 'train'}:"
    assert printed[1:3] == [
        "  3 images, 6 objects, 2 classes",
        "  1 image without objects, kept with no boxes (train1.png)",
    ]
    assert printed[3].startswith("  sides of boxes: 5 % below ")
    assert printed[4].split() == ["class", "objects", "small", "medium", "large"]
    assert [line.split()[0] for line in printed[5:7]] == ["square", "triangle"]
    assert sum(int(line.split()[1]) for line in printed[5:7]) == 6


def test_check_of_one_file(tmp_path, run):
    path = draw_split(tmp_path, "train", 3)
    assert "3 images, 6 objects" in run("check", path)
    (tmp_path / "train").rename(tmp_path / "others")
    assert f"images in {tmp_path / 'others'}" in run("check", path, "--images", tmp_path / "others")
    with pytest.raises(FileNotFoundError, match="has none of the 3 images"):
        run("check", path)


def test_check_as_json(tmp_path, run):
    draw_coco(tmp_path, train=3, val=3)
    value = json.loads(run("check", tmp_path, "--json"))
    assert value["train"]["images"] == 3 and value["val"]["objects"] == 6 and value["in_both"] == 0
    assert value["train"]["classes"] == value["val"]["classes"] == ["square", "triangle"]
    assert value["train"]["findings"] == [{"kind": "empty_images", "count": 1, "examples": ["train1.png"]}]


def test_a_name_that_is_no_utf8_is_the_same_in_json(tmp_path, run):
    path, name = draw_split(tmp_path, "train", 3), "細胞\udcff.png"
    (tmp_path / "train" / "train1.png").rename(tmp_path / "train" / name)
    edit(path, lambda value: value["images"][1].update(file_name=name))
    printed = run("check", path, "--json")
    assert "細胞\\udcff.png" in printed and json.loads(printed)["data"]["findings"][0]["examples"] == [name]


def test_check_says_what_training_would(tmp_path, run):
    draw_coco(tmp_path, train=4, val=3)
    (tmp_path / "train" / "train0.png").unlink()
    with pytest.raises(ValueError, match="training refuses these data, .*: 1 image without a file, .*train0.png"):
        run("check", tmp_path)
    assert "3 images, 6 objects" in run.out[0]
    path = tmp_path / "val" / "val0.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="cannot be read: val0.png"):
        run("check", tmp_path, "--pixels")
    assert "1 image whose pixels cannot be read: val0.png" in run.out[0]


def test_images_in_both_splits(tmp_path, run):
    draw_coco(tmp_path, train=3, val=3)
    (tmp_path / "val" / "val1.png").write_bytes((tmp_path / "train" / "train2.png").read_bytes())
    assert "1 image in both splits, such as train2.png" in run("check", tmp_path)


def test_many_objects_an_image(tmp_path, run):
    draw_coco(tmp_path, train=1, val=1, objects=101)
    advice = "up to 101 objects an image: by default a detector gives 100 detections, see --detections-per-image"
    assert advice in run("check", tmp_path)


def test_classes_that_differ(tmp_path, run):
    draw_coco(tmp_path, train=3, val=3)
    edit(tmp_path / "val.json", lambda value: value["categories"].append({"id": 9, "name": "circle"}))
    with pytest.raises(ValueError, match="classes differ: circle in"):
        run("check", tmp_path)


def yolo(folder):
    for split in ("train", "val"):
        (folder / "images" / split).mkdir(parents=True)
        (folder / "labels" / split).mkdir(parents=True)
        colour = "red" if split == "train" else "blue"
        Image.new("RGB", (40, 20), colour).save(folder / "images" / split / "a.png")
        (folder / "labels" / split / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n7 0.5 0.5 0.5 0.5\n")
    (folder / "data.yaml").write_text("names: [cat]\ntrain: images/train\nval: images/val\n")


def test_convert_then_check(tmp_path, run):
    yolo(tmp_path)
    printed = run("convert", tmp_path)
    assert "2 lines of a class that has no name, dropped (a.txt, line 2, a.txt, line 2)" in printed
    assert printed.count("1 image, 1 object, 1 class") == 2 and f"{tmp_path / 'train.json'}, images in" in printed
    assert "1 image, 1 object, 1 class" in run("check", tmp_path)
    with pytest.raises(FileExistsError, match="train.json exists"):
        run("convert", tmp_path)


def voc(folder):
    for split in ("train", "valid"):
        (folder / split).mkdir(parents=True)
        Image.new("RGB", (40, 20)).save(folder / split / "a.jpg")
        box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox>"
        body = f"<filename>a.jpg</filename><object><name>cat</name>{box}</object>"
        (folder / split / "a.xml").write_text(f"<annotation>{body}</annotation>")


def test_convert_voc(tmp_path, run):
    voc(tmp_path)
    printed = run("convert", tmp_path, "--difficult", "keep")
    assert "the first pixel is 1: as VOC has it" in printed and printed.count("1 object") == 2


@pytest.mark.parametrize(
    "words,error,message",
    [
        (["convert", "{}/none"], FileNotFoundError, "no such folder"),
        (["convert", "{}"], ValueError, "looks like no YOLO .* and no Pascal VOC"),
        (["check", "{}"], FileNotFoundError, "no annotations of train"),
        (["check", "{}", "--images", "{}"], ValueError, "--images goes with a JSON file"),
        (["check"], FileNotFoundError, "data: wanted a folder"),
        (["check", "{}/none.json"], FileNotFoundError, "no such folder: .*none.json"),
    ],
)
def test_what_is_not_there(tmp_path, run, words, error, message):
    with pytest.raises(error, match=message):
        run(*(word.format(tmp_path) for word in words))


def test_coco_is_not_converted(tmp_path, run):
    draw_coco(tmp_path, train=3, val=3)
    with pytest.raises(ValueError, match="train.json is there, as of COCO: `sase-attn detect check"):
        run("convert", tmp_path)


def test_only_a_part_of_the_splits(tmp_path, run):
    yolo(tmp_path)
    (tmp_path / "data.yaml").write_text("names: [cat]\ntrain: images/train\n")
    assert "to train, images to learn from and to validate on are wanted" in run("convert", tmp_path)


def test_damaged_data(tmp_path, capsys, monkeypatch):
    """Whatever is in the files: one line, or it works."""
    monkeypatch.setenv("SASE_ATTN_TRACEBACK", "1")
    draw_coco(tmp_path / "coco", train=2, val=1, objects=2)
    yolo(tmp_path / "yolo")
    voc(tmp_path / "voc")
    files = {
        "coco/train.json": ["check", "coco", "--masks"],
        "coco/val.json": ["check", "coco", "--pixels", "--json"],
        "coco/train/train0.png": ["check", "coco/train.json", "--pixels"],
        "yolo/data.yaml": ["convert", "yolo"],
        "yolo/labels/train/a.txt": ["convert", "yolo/data.yaml", "-o", "out"],
        "voc/train/a.xml": ["convert", "voc"],
    }
    for seed in range(30):
        rng = random.Random(seed)
        folder = tmp_path / str(seed)
        for name in ("coco", "yolo", "voc"):
            shutil.copytree(tmp_path / name, folder / name)
        monkeypatch.chdir(folder)
        file = rng.choice(list(files))
        damage(folder / file, rng)
        check(["detect", *files[file]], capsys, f"seed {seed}, {file}")
