"""Batches: pure functions of (seed, epoch, batch, rank), whatever the number of workers, in bounded memory."""

import gc
import json
import multiprocessing
import os
from pathlib import Path

import pytest
import torch
from detection_data import draw_coco, edit
from PIL import Image

from sase_attn.detection.config import DetectionConfig
from sase_attn.detection.data import DetectionLoader, open_detection_data, read_coco
from sase_attn.detection.data.images import DetectionImages, mirrored
from sase_attn.training.data.order import Shard
from sase_attn.training.distributed import Ranks

ALONE = Ranks(0, 1, torch.device("cpu"))


def config(folder, **values):
    return DetectionConfig(data=str(folder), batch_size=2, detector="mask_rcnn", **values)


def flat(batches):
    """Everything in batches as a list of tensors."""
    return [
        tensor
        for images, targets in batches
        for image, target in zip(images, targets, strict=True)
        for tensor in (image, *(target[name] for name in sorted(target)))
    ]


def assert_same(first, second):
    assert len(first) == len(second) > 0
    assert all(a.equal(b) for a, b in zip(first, second, strict=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return draw_coco(tmp_path_factory.mktemp("coco"), train=7, val=3)


def test_targets_are_what_torchvision_wants(folder):
    data = open_detection_data(config(folder, flip=0.0), ALONE)
    assert data.train.batches == 3 and data.val.batches == 3
    seen = []
    for images, targets in data.train.epoch(0):
        for image, target in zip(images, targets, strict=True):
            objects = data.train_set.objects_of(int(target["image_id"]))
            seen.append(int(target["image_id"]))
            assert image.dtype == torch.float32 and image.shape == (3, 48, 64) and 0 <= image.min() < image.max() <= 1
            assert target["boxes"].dtype == torch.float32 and target["boxes"].equal(objects.boxes)
            assert target["labels"].dtype == torch.int64 and target["labels"].tolist() == objects.labels.tolist()
            assert target["masks"].dtype == torch.uint8 and target["masks"].equal(objects.masks)
            assert target["boxes"].shape == (len(objects), 4) and target["masks"].shape == (len(objects), 48, 64)
    assert sorted(seen) == data.train_set.images.ids.tolist()
    assert [int(targets[0]["image_id"]) for _, targets in data.val.epoch(0)] == data.val_set.images.ids.tolist()
    assert data.identity.classes == ("square", "triangle")
    assert (data.identity.train_count, data.identity.test_count) == (7, 3)


def test_an_epoch_is_a_function_of_its_number(folder):
    loader = open_detection_data(config(folder), ALONE).train
    first = flat(loader.epoch(1))
    assert_same(first, flat(loader.epoch(1)))
    rest = flat(loader.epoch(1, 1))
    assert_same(rest, first[-len(rest) :])
    assert not all(a.equal(b) for a, b in zip(first, flat(loader.epoch(2)), strict=False))
    samples = DetectionImages(loader.coco, flip=0.5)
    of_epochs = [samples[epoch, 0][0] for epoch in range(12)]
    assert {image.equal(of_epochs[0]) for image in of_epochs} == {True, False}
    with pytest.raises(ValueError, match="wanted a batch from 0 to 3, got 4"):
        list(loader.epoch(0, 4))


def test_the_generator_is_left_alone(folder):
    loader = open_detection_data(config(folder), ALONE).train
    torch.manual_seed(3)
    list(loader.epoch(0))
    drawn = torch.rand(3)
    torch.manual_seed(3)
    assert drawn.equal(torch.rand(3))


def test_workers_change_no_number(folder):
    loaders = [open_detection_data(config(folder, workers=count), ALONE).train for count in (0, 2)]
    for epoch in range(2):
        assert_same(*(flat(loader.epoch(epoch)) for loader in loaders))


def test_workers_end_with_their_loader(folder):
    """At once, also in the middle of an epoch, and not when the garbage is collected."""
    gc.collect()
    before = set(multiprocessing.active_children())
    gc.disable()
    try:
        loader = open_detection_data(config(folder, workers=1), ALONE).train
        next(loader.epoch(0))
        next(loader.epoch(1))
        (started,) = set(multiprocessing.active_children()) - before
        del loader
        started.join(20)
        assert started.exitcode == 0
    finally:
        gc.enable()


def test_ranks_divide_the_batches(folder):
    alone = open_detection_data(config(folder), ALONE)
    pair = [open_detection_data(config(folder), Ranks(rank, 2, torch.device("cpu"))) for rank in range(2)]
    whole = list(alone.train.epoch(1))
    parts = [list(data.train.epoch(1)) for data in pair]
    for batch, batches in zip(whole, zip(*parts, strict=True), strict=True):
        shared = [flat([(images[rank::2], targets[rank::2])]) for rank in range(2) for images, targets in [batch]]
        for own, wanted in zip(batches, shared, strict=True):
            assert_same(flat([own]), wanted)
    ids = [[int(targets[0]["image_id"]) for _, targets in data.val.epoch(0)] for data in pair]
    assert ids == [[10, 20], [15]]
    with pytest.raises(ValueError, match="for each of 3 processes, got 2"):
        open_detection_data(config(folder), Ranks(0, 3, torch.device("cpu")))


def test_mirrored_images_fit_their_targets(folder):
    """The object's colour is inside its box and its mask before and after."""
    samples = DetectionImages(read_coco(folder / "train.json", folder / "train", masks=True), flip=1.0)
    plain = DetectionImages(samples.coco)
    pixels, target, _ = samples[0, 0]
    before, before_target, _ = plain[0, 0]
    assert pixels.equal(before.flip(-1))
    for box, mask, old in zip(target["boxes"], target["masks"], before_target["masks"], strict=True):
        rows, columns = mask.nonzero().unbind(1)
        around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert torch.allclose(torch.stack(around).float(), box, atol=1)
        assert pixels[:, mask.bool()].sum() == before[:, old.bool()].sum()
    assert_same(*(flat([([image], [one])]) for image, one in ((before, before_target), mirrored(pixels, target))))


def test_crowds_are_not_learned_from(tmp_path):
    draw_coco(tmp_path, train=3, val=3)
    edit(tmp_path / "train.json", lambda value: value["annotations"][1].update(iscrowd=1))
    coco = read_coco(tmp_path / "train.json", tmp_path / "train", masks=True)
    _, target, _ = DetectionImages(coco)[0, 0]
    kept = [0, 2]
    assert coco.objects[0].crowds.tolist() == [False, True, False]
    assert target["boxes"].equal(coco.objects[0].boxes[kept]) and target["masks"].equal(coco.objects[0].masks[kept])


def test_images_of_other_kinds(tmp_path):
    """Gray, transparent and turned images are read as elsewhere in the library."""
    draw_coco(tmp_path, train=3, val=3, masks=False)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (64, 48), 30).save(tmp_path / "train" / "train0.png")
    Image.new("RGBA", (64, 48)).save(tmp_path / "train" / "train1.png")
    Image.new("RGB", (48, 64), "red").save(tmp_path / "train" / "train2.tif", exif=exif)
    edit(tmp_path / "train.json", lambda value: value["images"][2].update(file_name="train2.tif"))
    samples = DetectionImages(read_coco(tmp_path / "train.json", tmp_path / "train", masks=False))
    gray, transparent, turned = (samples[0, place][0] for place in range(3))
    assert (gray == 30).all() and (transparent == 255).all() and turned.shape == (3, 48, 64)


def test_a_test_batch_is_one_image(folder):
    """Whatever the batch of training."""
    val = open_detection_data(config(folder).override(batch_size=4), ALONE).val
    assert [len(images) for images, _ in val.epoch(0)] == [1, 1, 1]


def test_a_size_that_only_the_pixels_show(tmp_path):
    draw_coco(tmp_path, train=3, val=3)
    coco = read_coco(tmp_path / "train.json", tmp_path / "train", masks=False)
    Image.new("RGB", (48, 64)).save(tmp_path / "train" / "train0.png")
    assert DetectionImages(coco)[0, 0][0] == "is 48x64, perhaps turned as EXIF says, the annotations say 64x48"


def test_broken_pixels(tmp_path):
    """Files whose first bytes are sound are found out when they are read."""
    draw_coco(tmp_path, train=5, val=3, masks=False)
    path = tmp_path / "train" / "train2.png"
    path.write_bytes(path.read_bytes()[:200])
    settings = config(tmp_path).override(detector="faster_rcnn")
    with pytest.raises(ValueError, match="1 of 5 images cannot be read: .*train2.png"):
        list(open_detection_data(settings, ALONE).train.epoch(0))
    loader = open_detection_data(settings.override(on_broken="skip"), ALONE).train
    with pytest.warns(UserWarning, match="skipped: 1 of 5 images cannot be read: .*train2.png"):
        seen = [int(target["image_id"]) for _, targets in loader.epoch(0) for target in targets]
    assert sorted(seen) == [10, 15, 25, 30] and len(list(loader.epoch(1))) == 2


def test_no_batch_is_without_images(tmp_path):
    """In place of a batch of broken images comes the next that can be read; a test leaves it out."""
    draw_coco(tmp_path, train=3, val=3, masks=False)
    for path in (tmp_path / "train" / "train2.png", tmp_path / "val" / "val1.png"):
        path.write_bytes(path.read_bytes()[:200])
    settings = config(tmp_path).override(detector="faster_rcnn", batch_size=1, on_broken="skip")
    data = open_detection_data(settings, ALONE)
    with pytest.warns(UserWarning, match="skipped: 1 of 3"):
        ids = [
            [[int(target["image_id"]) for target in targets] for _, targets in loader.epoch(0)]
            for loader in (data.train, data.val)
        ]
    assert sorted(ids[0]) == [[10], [10], [15]] and ids[1] == [[10], [20]]
    for path in (tmp_path / "train").iterdir():
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="none of 3 images of .*train.json can be read"):
        list(data.train.epoch(1))


def test_splits_with_other_classes(tmp_path):
    draw_coco(tmp_path, train=3, val=3)
    edit(tmp_path / "val.json", lambda value: value["categories"].append({"id": 9, "name": "circle"}))
    with pytest.raises(ValueError, match="classes differ: circle in .*val.json but not in .*train.json"):
        open_detection_data(config(tmp_path), ALONE)

    def renumber(value):
        value["categories"] = [{"id": 3, "name": "square"}, {"id": 8, "name": "triangle"}]

    edit(tmp_path / "val.json", renumber)
    with pytest.raises(ValueError, match="category ids differ: triangle is 7 in .*train.json and 8 in .*val.json"):
        open_detection_data(config(tmp_path), ALONE)


def test_many_images_in_little_memory(tmp_path):
    """2,000 images: what the first 400 take, the others do not take again."""
    path = draw_coco(tmp_path, train=1, val=0, size=(24, 20), objects=1) / "train.json"
    value = json.loads(path.read_text())
    image, (annotation,) = value["images"][0], value["annotations"]
    value["images"], value["annotations"] = [], []
    for number in range(2000):
        name = f"{number:04}.png"
        os.link(tmp_path / "train" / "train0.png", tmp_path / "train" / name)
        value["images"].append({**image, "id": number, "file_name": name})
        value["annotations"] += [{**annotation, "image_id": number}] * 2
    path.write_text(json.dumps(value))
    coco = read_coco(path, tmp_path / "train", masks=True)
    loader = DetectionLoader(coco, batch_size=8, shard=Shard(0), training=True, flip=0.5)
    del value
    seen, used = 0, {}
    for step, (_, targets) in enumerate(loader.epoch(0)):
        seen += sum(len(target["labels"]) for target in targets)
        used[step] = resident()
    assert seen == 2000 * 2 and len(used) == 250
    assert used[249] - used[50] < 4_000_000, used


def resident() -> int:
    """Bytes of memory that this process uses."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
