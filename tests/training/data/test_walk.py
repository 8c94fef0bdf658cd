"""Which files of a folder are its images: links, folders that tools make, and what is said of the rest."""

import os
import re
import warnings

import pytest

from sase_attn.training.data.folder import scan


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "data"
    for split, count in (("train", 3), ("val", 2)):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                (root / split / name / f"{index}.png").write_bytes(b"x" * index)
    return root


def link(path, target):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def names(files):
    return [path.relative_to(files.folder).as_posix() for path in files.paths]


PLAIN = [f"{name}/{index}.png" for name in ("cat", "dog") for index in range(3)]


@pytest.mark.parametrize(
    "at, target",
    [
        ("train/cat/self", "."),
        ("train/cat/inner/self", ".."),
        ("train/cat/root", "../.."),
        ("train/cat/above", "../../.."),
        ("train/cat/split", "../../val"),
        ("train/cat/other", "../../val/cat"),
        ("train/cat/dog", "../dog"),
        ("train/cat/dog.png", "../dog/1.png"),
        ("train/cat/val.png", "../../val/cat/1.png"),
    ],
)
def test_links_into_the_data_are_not_followed(folder, at, target):
    link(folder / at, target)
    with pytest.warns(UserWarning, match=re.escape(f"skipped in {folder}: 1 × a link")) as caught:
        found = scan(folder)
    assert len(caught) == 1 and f"({at})" in str(caught[0].message)
    assert names(found.train) == PLAIN and len(found.test.paths) == 4


def test_links_elsewhere_are_followed_once(folder, tmp_path):
    pool = tmp_path / "pool"
    (pool / "deep").mkdir(parents=True)
    (pool / "deep" / "9.png").write_bytes(b"x")
    link(pool / "back", folder / "train" / "cat")
    link(pool / "round", ".")
    link(folder / "train" / "cat" / "pool", pool)
    link(folder / "train" / "cat" / "too", pool / "deep")
    link(folder / "train" / "cat" / "8.png", pool / "deep" / "9.png")
    with pytest.warns(UserWarning, match="3 × a link"):
        found = scan(folder)
    assert names(found.train)[:5] == ["cat/0.png", "cat/1.png", "cat/2.png", "cat/8.png", "cat/pool/deep/9.png"]


def test_classes_that_are_links(folder, tmp_path):
    for split in ("train", "val"):
        (folder / split / "cat").rename(tmp_path / f"{split}-cats")
        link(folder / split / "cat", tmp_path / f"{split}-cats")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert names(scan(folder).train) == PLAIN
    for target in (".", "../..", "cat", "../val/dog", tmp_path / "train-cats"):
        for split in ("train", "val"):
            (folder / split / "emu").unlink(missing_ok=True)
        link(folder / "train" / "emu", target)
        link(folder / "val" / "emu", tmp_path / "train-cats")
        with pytest.raises(ValueError, match=r"/(train|val)/emu is a link to .*, a folder of the same data or above"):
            scan(folder)


def test_a_test_split_that_is_the_training_split(folder):
    (folder / "val").rename(folder / "old")
    link(folder / "val", "train")
    with pytest.raises(ValueError, match="val is the folder train/ itself: wanted other images"):
        scan(folder)


def test_folders_of_tools_are_left_out(folder):
    for name in (".ipynb_checkpoints", "@eaDir", "__MACOSX"):
        for place in (folder / "train" / "cat" / name, folder / "train" / "dog" / "x" / name, folder / "train" / name):
            place.mkdir(parents=True)
            (place / "0.png").write_bytes(b"x")
    (folder / "train" / "cat" / "._0.png").write_bytes(b"x")
    (folder / "train" / "cat" / "notes.txt").write_text("")
    (folder / "train" / "dog" / "0.jp2").write_text("")
    (folder / "train" / "0.png").write_text("")
    (folder / "train" / "cat" / ".DS_Store").write_text("")
    with pytest.warns(UserWarning) as caught:
        found = scan(folder)
    (message,) = (str(warning.message) for warning in caught)
    assert found.classes == ("cat", "dog") and names(found.train) == PLAIN
    for part in (
        "9 × a tool's folder (train/.ipynb_checkpoints)",
        "1 × a hidden image (train/cat/._0.png)",
        "2 × a file of unknown suffix (train/cat/notes.txt)",
        "1 × an image in no class (train/0.png)",
    ):
        assert part in message
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scan(folder, warn=False)


def test_what_was_left_out_is_said_of_an_empty_class_too(folder):
    for path in (folder / "train" / "cat").iterdir():
        path.rename(path.with_suffix(".heic"))
    with pytest.warns(UserWarning, match="3 × a file of unknown suffix"), pytest.raises(ValueError, match="no im"):
        scan(folder)


def test_order_is_that_of_whole_names(folder):
    for name in ("a-b/0.png", "a/0.png", "a.png"):
        path = folder / "train" / "cat" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    found = scan(folder)
    assert list(found.train.paths) == sorted(found.train.paths)  # as Path compares them
    assert found.train.targets.tolist() == [0] * 6 + [1] * 3
    assert found.train.paths[-1] == found.train.paths[8] and found.train.paths[7:] == list(found.train.paths)[7:]
    with pytest.raises(IndexError):
        found.train.paths[9]


def test_names_that_are_no_utf8(folder):
    name = os.fsdecode(b"\xff.png")
    (folder / "train" / "cat" / name).write_bytes(b"x")
    found = scan(folder)
    assert found.train.paths[3].name == name and found.train.paths[3].is_file()
