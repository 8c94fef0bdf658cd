"""Batched augmentation against torchvision's, image by image."""

import pytest
import torch
from torchvision.transforms import functional as tv

from sase_attn.training.data import crop
from sase_attn.training.data.augment import JITTERS, Augment
from sase_attn.training.data.crop import padded_crop, resized_crop
from sase_attn.training.data.normalise import Normalise
from sase_attn.training.data.order import seeded_generator

SIZE = (10, 14)


@pytest.fixture(scope="module")
def images():
    return torch.randint(0, 256, (16, 3, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_crop_is_padding_cropping_and_mirroring(images):
    draws = Augment("cifar", SIZE).draw(len(images), SIZE, seeded_generator(0))
    out = Augment("cifar", SIZE)(images, draws)
    assert torch.equal(out, padded_crop(images, draws["top"], draws["left"], draws["flip"]).float())
    for i, image in enumerate(images):
        one = tv.crop(tv.pad(image, 4), int(draws["top"][i]), int(draws["left"][i]), *SIZE)
        assert torch.equal(out[i].byte(), tv.hflip(one) if draws["flip"][i] else one)


def test_crops_and_flips_vary_over_their_whole_range():
    draws = Augment("cifar", SIZE).draw(2000, SIZE, seeded_generator(0))
    for name in ("top", "left"):
        counts = torch.bincount(draws[name], minlength=9)
        assert len(counts) == 9 and counts.min() > 150
    assert not torch.equal(draws["top"], draws["left"])
    assert 0.45 < draws["flip"].float().mean() < 0.55


def test_whole_box_is_the_image_and_its_mirror(images):
    box = torch.tensor([0.0, 0.0, *SIZE]).expand(len(images), 4)
    flip = torch.arange(len(images)) % 2 == 0
    out = resized_crop(images, box, flip, SIZE)
    torch.testing.assert_close(out[1::2], images[1::2].float(), atol=1e-2, rtol=0)
    torch.testing.assert_close(out[::2], images[::2].flip(3).float(), atol=1e-2, rtol=0)


def test_resized_crop_is_torchvisions_away_from_the_border(images):
    draws = Augment("imagenet", (24, 24)).draw(len(images), SIZE, seeded_generator(3))
    out = resized_crop(images, draws["box"], draws["flip"], (24, 24))
    for i, image in enumerate(images):
        top, left, h, w = draws["box"][i].int().tolist()
        one = tv.resized_crop(image.float(), top, left, h, w, [24, 24], antialias=False)
        one = tv.hflip(one) if draws["flip"][i] else one
        y, x = -(-12 // h), -(-12 // w)  # half a source pixel: there torchvision repeats the edge of the box
        torch.testing.assert_close(out[i, :, y:-y, x:-x], one[:, y:-y, x:-x], atol=0.05, rtol=0)


@pytest.mark.parametrize("size", [(64, 64), (40, 90), (200, 30)])
def test_boxes_lie_inside_and_have_torchvisions_distribution(size):
    top, left, h, w = Augment("imagenet", size).draw(4000, size, seeded_generator(0))["box"].unbind(1)
    assert (top >= 0).all() and (left >= 0).all() and (top + h <= size[0]).all() and (left + w <= size[1]).all()
    share, ratio = h * w / (size[0] * size[1]), w / h
    assert share.min() > 0.06 and ratio.min() > 0.6 and ratio.max() < 1.6
    if size == (64, 64):
        assert 0.45 < share.mean() < 0.53 and share.max() > 0.95 and 0.95 < ratio.median() < 1.05
        assert top.max() > 30 and left.max() > 30 and (top == 0).float().mean() < 0.2


def test_narrow_images_fall_back_to_the_centre(monkeypatch):
    monkeypatch.setattr(crop, "SCALE", (1.0, 1.0))
    box = Augment("imagenet", (30, 90)).draw(5, (30, 90), seeded_generator(0))["box"]
    assert box.tolist() == [[0, 25, 30, 40]] * 5


@pytest.mark.parametrize(
    "name,reference",
    [
        ("brightness", tv.adjust_brightness),
        ("contrast", tv.adjust_contrast),
        ("saturation", tv.adjust_saturation),
        ("hue", tv.adjust_hue),
    ],
)
def test_jitter_is_torchvisions(images, name, reference):
    place = JITTERS.index(name)
    strengths = tuple(0.4 * (i == place) for i in range(4))
    augment = Augment("none", SIZE, strengths)
    draws = augment.draw(len(images), SIZE, seeded_generator(0))
    assert draws[name].unique().numel() == len(images)
    out = augment(images, draws)
    for i, image in enumerate(images):
        one = reference(image.float() / 255, float(draws[name][i]))
        torch.testing.assert_close(out[i] / 255, one, atol=2e-3, rtol=0)


def test_jitter_of_gray_images_stays_gray_and_finite():
    augment = Augment("none", (4, 4), (0.4, 0.4, 0.4, 0.5))
    images = torch.stack([torch.full((3, 4, 4), value, dtype=torch.uint8) for value in (0, 128, 255)])
    out = augment(images, augment.draw(3, (4, 4), seeded_generator(0)))
    assert out.isfinite().all()
    torch.testing.assert_close(out, out[:, :1].expand(-1, 3, -1, -1), atol=1e-3, rtol=0)


def test_jitter_order_varies_from_batch_to_batch():
    augment = Augment("cifar", SIZE, (0.1, 0.1, 0.1, 0.1))
    orders = {tuple(augment.draw(2, SIZE, seeded_generator(i))["order"][0].tolist()) for i in range(50)}
    assert len(orders) > 10


def test_smaller_images_are_enlarged_after_the_crop(images):
    augment = Augment("cifar", (20, 28))
    draws = augment.draw(len(images), SIZE, seeded_generator(0))
    wanted = tv.resize(Augment("cifar", SIZE)(images, draws), [20, 28])
    assert torch.equal(augment(images, draws), wanted)


def test_normalisation():
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    out = Normalise((0.1, 0.2, 0.5), (0.5, 0.25, 0.2))(images)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.flatten(), torch.tensor([-0.2, 0.0, 2.5]))
