"""Image folders: in memory and file by file, and what may be wrong with them."""

import gc
import multiprocessing
import os
import pickle
import re
import shutil
import signal
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import center_crop, pil_to_tensor, resize

from sase_attn.training.data import DataConfig, open_data
from sase_attn.training.data import open_folder as folder_module
from sase_attn.training.data.in_memory import MemoryLoader
from sase_attn.training.data.on_disk import FileLoader
from sase_attn.training.data.paths import Paths
from sase_attn.training.interrupt import Interrupt

CLASSES = {"cat": (200, 60, 20), "dog": (20, 60, 200)}


def write(path, size, colour, seed):
    """A picture around a colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(-15, 16, (size[1] // 4 + 1, size[0] // 4 + 1, 3))
    pixels = (np.array(colour) + noise).astype(np.uint8).repeat(4, 0).repeat(4, 1)[: size[1], : size[0]]
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path):
    """Two classes of JPEGs of 16x16, 5 and 3 an image split."""
    for split, count in (("train", 5), ("val", 3)):
        for name, colour in CLASSES.items():
            for i in range(count):
                write(tmp_path / split / name / f"{i}.jpg", (16, 16), colour, i)
    return tmp_path


@pytest.fixture
def photos(tmp_path):
    """The same layout with images of several sizes, as ImageNet's."""
    for split, count in (("train", 9), ("val", 4)):
        for name, colour in CLASSES.items():
            for i in range(count):
                write(tmp_path / split / name / f"{i}.JPEG", (40 + 3 * i, 56 - 2 * i), colour, i)
    return tmp_path


def opened(folder, seed=0, rank=0, world_size=1, **values):
    return open_data(DataConfig(str(folder), **values), seed=seed, rank=rank, world_size=world_size)


def colours(loader, info):
    """Each image's mean colour in [0, 255], and its target."""
    images, targets = (torch.cat(part) for part in zip(*loader.epoch(0), strict=True))
    pixels = images * torch.tensor(info.std).view(3, 1, 1) + torch.tensor(info.mean).view(3, 1, 1)
    return 255 * pixels.mean((2, 3)), targets


def test_small_images_live_in_memory(folder):
    train, test, info = opened(folder, augment="none")
    assert isinstance(train, MemoryLoader) and isinstance(test, MemoryLoader)
    assert info.classes == ("cat", "dog") and info.size == (16, 16) and info.name == folder.name
    assert (info.train_count, info.test_count) == (10, 6)
    for loader in (train, test):
        means, targets = colours(loader, info)
        for mean, target in zip(means, targets, strict=True):
            assert (mean - torch.tensor(list(CLASSES.values())[target])).abs().max() < 8


@pytest.mark.parametrize("size,kind", [(24, MemoryLoader), (16, MemoryLoader), (12, FileLoader)])
def test_resized_crops_of_larger_images_are_made_from_the_files(folder, size, kind):
    train, test, info = opened(folder, augment="imagenet", size=size)
    assert type(train) is type(test) is kind and info.size == (size, size)
    assert next(train.epoch(0))[0].shape == (10, 3, size, size)
    assert next(test.epoch(0))[0].shape == (6, 3, size, size)


@pytest.mark.parametrize("augment", ["cifar", "none"])
def test_images_of_any_size_are_fitted_into_memory(photos, augment):
    train, test, info = opened(photos, augment=augment, size=20)
    assert isinstance(train, MemoryLoader) and info.size == (20, 20)
    assert next(train.epoch(0))[0].shape == (18, 3, 20, 20)
    means, targets = colours(test, info)
    assert (means - torch.tensor(list(CLASSES.values()))[targets]).abs().max() < 8


JITTER = (0.4, 0.4, 0.4, 0.2)


@pytest.mark.parametrize(
    "augment, jitter", [("imagenet", None), ("cifar", None), ("none", None), ("imagenet", JITTER), ("cifar", JITTER)]
)
def test_files_are_served_alike_with_and_without_workers(photos, augment, jitter, monkeypatch):
    monkeypatch.setattr(folder_module, "MEMORY_BYTES", 0)
    values = {"augment": augment, "color_jitter": jitter, "size": 24, "batch_size": 5}
    alone, test, info = opened(photos, **values)
    helped, _, _ = opened(photos, **values, workers=2)
    assert isinstance(helped, FileLoader) and (info.train_count, info.test_count) == (18, 8)
    state = torch.get_rng_state()
    one, two = list(alone.epoch(1)), list(helped.epoch(1))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(one) == len(two) == helped.batches == 4
    for (x, y), (u, v) in zip(one, two, strict=True):
        assert x.dtype == torch.float32 and torch.equal(x, u) and torch.equal(y, v)
    for (x, y), (u, v) in zip(one[2:], alone.epoch(1, start=2), strict=True):
        assert torch.equal(x, u) and torch.equal(y, v)
    for rank in range(2):
        share, _, _ = opened(photos, rank=rank, world_size=2, **values)
        for (x, y), (u, v) in zip(one, share.epoch(1), strict=True):
            assert torch.equal(x[rank::2], u) and torch.equal(y[rank::2], v)
    if augment != "none":
        epochs = [torch.cat([x for x, _ in alone.epoch(epoch)]).flatten(1).sort(0).values for epoch in (1, 2)]
        assert not torch.equal(*epochs)
    means, targets = colours(test, info)
    assert targets.tolist() == [0] * 4 + [1] * 4
    assert (means - torch.tensor(list(CLASSES.values()))[targets]).abs().max() < 8


def test_test_view_of_imagenet_is_the_central_seven_eighths(photos):
    _, test, info = opened(photos, augment="imagenet", size=28)
    assert info.crop_pct == 0.875
    with Image.open(photos / "val" / "cat" / "0.JPEG") as image:
        view = center_crop(resize(image, 32, InterpolationMode.BILINEAR), 28)
    pixels = next(test.epoch(0))[0][0] * torch.tensor(info.std).view(3, 1, 1) + torch.tensor(info.mean).view(3, 1, 1)
    assert torch.equal((255 * pixels).round().byte(), pil_to_tensor(view))
    assert opened(photos, augment="none", size=28)[2].crop_pct == 1.0


def test_workers_stay_between_epochs_and_serve_the_same(photos, monkeypatch):
    monkeypatch.setattr(folder_module, "MEMORY_BYTES", 0)
    values = {"augment": "imagenet", "size": 16, "batch_size": 5}
    alone, _, _ = opened(photos, **values)
    helped, _, _ = opened(photos, **values, workers=2)
    before = set(multiprocessing.active_children())

    def workers():
        return {process.pid for process in set(multiprocessing.active_children()) - before}

    def check(ours, theirs):
        for (x, y), (u, v) in zip(ours, theirs, strict=True):
            assert torch.equal(x, u) and torch.equal(y, v)

    check(helped.epoch(0), alone.epoch(0))
    first = workers()
    assert len(first) == 2
    left = helped.epoch(1)
    next(left)
    del left  # in the middle, with batches under way
    check(helped.epoch(2, start=1), alone.epoch(2, start=1))
    assert workers() == first
    outer = helped.epoch(3)
    start = [next(outer)]
    check(helped.epoch(1), alone.epoch(1))  # inside another epoch
    check([*start, *outer], alone.epoch(3))
    check(helped.epoch(4), alone.epoch(4))
    assert workers() == first


def test_workers_end_with_their_loader(photos, monkeypatch):
    """At once, also in the middle of an epoch, and not when the garbage is collected."""
    monkeypatch.setattr(folder_module, "MEMORY_BYTES", 0)
    gc.collect()
    before = set(multiprocessing.active_children())
    gc.disable()
    try:
        loaders = opened(photos, augment="imagenet", size=16, batch_size=5, workers=1)
        next(loaders[0].epoch(0))
        (started,) = set(multiprocessing.active_children()) - before
        del loaders
        started.join(20)
        assert started.exitcode == 0
    finally:
        gc.enable()


def test_workers_leave_ctrl_c_to_the_run(photos, monkeypatch):
    """They finish their batches, and say nothing."""
    monkeypatch.setattr(folder_module, "MEMORY_BYTES", 0)
    train, _, _ = opened(photos, augment="none", size=16, batch_size=2, workers=1)
    before = set(multiprocessing.active_children())
    batches = train.epoch(0)
    next(batches)
    (worker,) = set(multiprocessing.active_children()) - before
    os.kill(worker.pid, signal.SIGINT)
    assert len(list(batches)) == 8 and worker.is_alive()


def test_workers_that_the_run_ends_have_not_failed(photos, monkeypatch, capfd):
    """At the end of a program they are terminated; torch raises an error for those that a signal has killed."""
    monkeypatch.setattr(folder_module, "MEMORY_BYTES", 0)
    train, _, _ = opened(photos, augment="none", size=16, batch_size=2, workers=1)
    before = set(multiprocessing.active_children())
    with Interrupt():  # its handler is not the workers'
        assert len(list(train.epoch(0))) == 9
    (worker,) = set(multiprocessing.active_children()) - before
    worker.terminate()
    worker.join(20)
    assert worker.exitcode == 0 and "stopping" not in capfd.readouterr().err


def test_paths_take_little_memory():
    tracemalloc.start()
    try:
        paths = Paths(Path("train"), (f"n{place // 1300:08}/n{place // 1300:08}_{place}.JPEG" for place in range(9000)))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 50 * len(paths) and paths[8999] == Path("train/n00000006/n00000006_8999.JPEG")
    assert pickle.loads(pickle.dumps(paths))[-1] == paths[-1]


def spoil(folder):
    """Two broken training images of "cat": cut short, and no image at all."""
    bad = [
        folder / "train" / "cat" / f"{i}.{'JPEG' if (folder / 'train/cat/0.JPEG').exists() else 'jpg'}" for i in (1, 3)
    ]
    bad[0].write_bytes(bad[0].read_bytes()[:-300])
    bad[1].write_text("not an image")
    return bad


def test_broken_images_in_memory(folder):
    bad = spoil(folder)
    wanted = f"2 of 16 images cannot be read: {bad[0]}, {bad[1]}"
    with pytest.raises(ValueError, match=re.escape(wanted)) as error:
        opened(folder)
    assert 'on_broken "skip"' in str(error.value)
    with pytest.warns(UserWarning, match=re.escape(f"skipped: {wanted}")):
        train, _, info = opened(folder, augment="none", on_broken="skip")
    assert (info.train_count, info.test_count) == (8, 6)
    means, targets = colours(train, info)
    assert torch.bincount(targets).tolist() == [3, 5]
    assert (means - torch.tensor(list(CLASSES.values()))[targets]).abs().max() < 8
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened(folder, on_broken="skip", rank=1, world_size=2)


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_files(photos, workers, monkeypatch):
    bad = spoil(photos)
    values = {"augment": "imagenet", "size": 24, "batch_size": 6, "workers": workers}
    with pytest.raises(ValueError, match=r"[12] of 18 images cannot be read: .*/train/cat/[13].JPEG"):
        opened(photos, **values)  # at the start, by their headers
    monkeypatch.setattr(folder_module, "check_headers", lambda paths: None)
    train, _, _ = opened(photos, **values)
    with pytest.raises(ValueError, match=r"[12] of 18 images cannot be read: .*/train/cat/[13].JPEG"):
        list(train.epoch(0))
    train, _, _ = opened(photos, **values, on_broken="skip")
    with pytest.warns(UserWarning) as caught:
        batches = list(train.epoch(0))
    text = " ".join(str(warning.message) for warning in caught)
    assert all(str(path) in text for path in bad)
    assert len(batches) == 3 and torch.bincount(torch.cat([y for _, y in batches])).tolist() == [7, 9]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(train.epoch(1))


def test_batch_of_nothing_but_broken_files(photos):
    spoil(photos)
    train, _, _ = opened(photos, augment="imagenet", size=24, batch_size=1, on_broken="skip")
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="no image of a batch can be read"):
        list(train.epoch(0))


def test_classes_without_a_readable_image(folder):
    for path in (folder / "train" / "dog").iterdir():
        path.write_bytes(b"")
    with pytest.warns(UserWarning), pytest.raises(ValueError, match=r"train/dog: none of its images can be read"):
        opened(folder, on_broken="skip")
    for path in folder.glob("*/*/*.jpg"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="none of 16 images can be read"):
        opened(folder, on_broken="skip")


def test_no_such_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such image folder: .*/nowhere; wanted one with train/<class>/\*"):
        opened(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileNotFoundError, match="no such image folder"):
        opened(tmp_path / "file")


@pytest.mark.parametrize("split,wanted", [("train", "train/"), ("val", "val/, validation/ or test/")])
def test_missing_split(folder, split, wanted):
    (folder / split).rename(folder / "other")
    with pytest.raises(FileNotFoundError, match=f"has no {wanted} with a folder of images a class; it has other, "):
        opened(folder)


@pytest.mark.parametrize("name", ["val", "validation", "test"])
def test_names_of_the_test_split(folder, name):
    (folder / "val").rename(folder / name)
    assert opened(folder)[2].test_count == 6


def test_val_is_taken_before_test(folder):
    write(folder / "test" / "cat" / "0.jpg", (16, 16), (0, 0, 0), 0)
    assert opened(folder)[2].test_count == 6


def test_empty_class(folder):
    for path in (folder / "val" / "dog").iterdir():
        path.rename(path.with_suffix(".txt"))
    with pytest.raises(ValueError, match=r"val/dog holds no images; wanted \.jpg, "):
        opened(folder)


def test_split_without_classes(folder):
    (folder / "train").rename(folder / "old")
    (folder / "train").mkdir()
    with pytest.raises(ValueError, match=r"train holds no class folders; wanted .*train/<class>/\*\.jpg"):
        opened(folder)


def test_one_class_alone(folder):
    for split in ("train", "val"):
        first, *others = sorted((folder / split).iterdir())
        for other in others:
            shutil.rmtree(other)
    with pytest.raises(ValueError, match=f"wanted images of two classes or more, got '{first.name}' alone"):
        opened(folder)


@pytest.mark.parametrize("split,other", [("train", "val"), ("val", "train")])
def test_classes_that_differ(folder, split, other):
    write(folder / split / "emu" / "0.jpg", (16, 16), (0, 0, 0), 0)
    with pytest.raises(ValueError, match=rf"classes differ: emu in /.*/{split} but not in /.*/{other}"):
        opened(folder)


def test_sizes_that_differ_need_a_size(photos):
    with pytest.raises(
        ValueError, match=r"images differ in size \(.*0.JPEG is 40x56, .*1.JPEG is 43x54\); give the size"
    ):
        opened(photos)


def test_splits_whose_sizes_differ_need_a_size(folder):
    for path in (folder / "val").glob("*/*.jpg"):
        write(path, (20, 20), (0, 0, 0), 0)
    with pytest.raises(ValueError, match=r"train is 16x16, .*val is 20x20\); give the size"):
        opened(folder)
    assert opened(folder, size=32)[2].size == (32, 32)


def test_sets_too_large_for_memory_need_a_size(folder, monkeypatch):
    monkeypatch.setattr(folder_module, "MEMORY_BYTES", 1000)
    with pytest.raises(ValueError, match="are too many for memory; give the size"):
        opened(folder)


def test_images_below_a_class_and_of_other_kinds(folder):
    (folder / "train" / "cat" / "images").mkdir()
    Image.new("L", (16, 16), 9).save(folder / "train" / "cat" / "images" / "gray.png")
    Image.new("RGBA", (16, 16)).save(folder / "train" / "cat" / "alpha.PNG")
    (folder / "train" / "cat" / "notes.txt").write_text("")
    (folder / "train" / ".cache").mkdir()
    assert opened(folder)[2].train_count == 12


def test_wrong_rank(folder):
    with pytest.raises(ValueError, match="rank: wanted one from 0 to 1, got 2"):
        opened(folder, rank=2, world_size=2)
