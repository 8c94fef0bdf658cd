"""Which data a loader serves: equal wherever they lie, and named where they differ."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from sase_attn.training.data import DataConfig, DataIdentity, DataInfo, open_data, open_folder, sets
from sase_attn.training.data.folder import scan


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "data"
    for split, count in (("train", 3), ("val", 2)):
        for number, name in enumerate(("cat", "dog")):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                Image.new("RGB", (9, 9), (9 * index, 90 * number, 0)).save(root / split / name / f"{index}.png")
    return root


def difference(folder, before):
    return scan(folder, warn=False).identity.difference(before)


def test_a_moved_or_renamed_folder_is_the_same_data(folder, tmp_path):
    before = scan(folder).identity
    folder.rename(tmp_path / "moved")
    moved = tmp_path / "moved"
    (moved / "val").rename(moved / "validation")
    assert scan(moved).identity == before and before.classes == ("cat", "dog")
    assert (before.train_count, before.test_count) == (6, 4) and before.train_digest != before.test_digest
    pool = tmp_path / "pool"
    (moved / "train").rename(pool)
    (moved / "train").symlink_to(pool)
    assert scan(moved).identity == before


def test_differences_are_named(folder):
    before = scan(folder).identity
    (folder / "train" / "cat" / "notes.txt").write_text("no image")
    (folder / "train" / "cat" / ".ipynb_checkpoints").mkdir()
    assert difference(folder, before) == ""
    path = folder / "train" / "cat" / "0.png"
    path.write_bytes(path.read_bytes() + b"more")
    assert difference(folder, before) == "files changed: as many training images, but other names, sizes or pixels"
    (folder / "val" / "dog" / "1.png").rename(folder / "val" / "dog" / "one.png")
    assert "as many test images" in difference(folder, before)
    path.unlink()
    assert difference(folder, before).startswith("5 training images, saved with 6; files changed: as many test")
    for split in ("train", "val"):
        (folder / split / "dog").rename(folder / split / "zebra")
    wanted = "classes differ: zebra in the data but not in what was saved, dog in what was saved but not in the data"
    assert difference(folder, before) == wanted
    other = replace(before, classes=("dog", "cat"))
    assert before.difference(other) == "classes differ: cat, dog in the data are in another order in what was saved"


def test_broken_images_and_how_they_are_served_change_nothing(folder, monkeypatch):
    (folder / "train" / "cat" / "1.png").write_bytes(b"broken")
    identity = scan(folder).identity
    for memory in (2**30, 0):
        monkeypatch.setattr(open_folder, "MEMORY_BYTES", memory)
        for changes in ({}, {"augment": "imagenet", "batch_size": 3}):
            config = DataConfig(str(folder), size=16, on_broken="skip", **changes)
            with pytest.warns(UserWarning, match="skipped: 1 of 10|skipped: 1 of 6") as _:
                train, _, info = open_data(config, seed=1)
                list(train.epoch(0))
            assert info.identity == identity


def test_sets_in_memory_are_known_by_their_bytes():
    arrays = sets.embedded()
    _, _, info = open_data(DataConfig(size=8), seed=3)
    assert info.identity.classes == arrays.classes and info.identity.train_count == 6000
    arrays.train[0][0, 0, 9, 9] += 1
    from sase_attn.training.data.in_memory import identity_of

    changed = identity_of(arrays)
    assert changed.test_digest == info.identity.test_digest and changed.train_digest != info.identity.train_digest
    swapped = replace(arrays, train=(arrays.train[0], arrays.train[1].flip(0)))
    assert identity_of(swapped).train_digest != changed.train_digest
    assert torch.equal(swapped.train[1].flip(0), arrays.train[1])


def test_loaders_of_your_own_are_known_by_names_and_counts():
    info = DataInfo("x", ("a", "b"), 3, (2, 2), (0.5,) * 3, (0.5,) * 3, 7, 5)
    assert info.identity == DataIdentity(("a", "b"), 7, 5) and replace(info, mean=(0.1,) * 3).identity == info.identity
