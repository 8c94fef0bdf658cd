"""What a step is made of: augmentation, losses, reconstruction, the average; each against a plain second opinion."""

import pytest
import torch
from safetensors.torch import save_file

from sase_attn.spatially_adaptive.synthesis.augment import augmented, color, translation
from sase_attn.spatially_adaptive.synthesis.average import Average
from sase_attn.spatially_adaptive.synthesis.generator import Generator
from sase_attn.spatially_adaptive.synthesis.losses import generator_loss, hinge
from sase_attn.spatially_adaptive.synthesis.reconstruction import distance, pixel_distance

pytestmark = pytest.mark.usefixtures("one_thread")


def test_translation_moves_whole_images_by_an_eighth():
    images = torch.rand(20, 3, 8, 16) + 1
    moved, shifts = translation(images), set()
    for before, after in zip(images, moved, strict=True):
        found = [
            (down, right)
            for down in (-1, 0, 1)
            for right in (-2, -1, 0, 1, 2)
            if torch.equal(after, _moved(before, down, right))
        ]
        assert len(found) == 1
        shifts |= set(found)
    assert len(shifts) > 5


def _moved(image, down, right):
    result = image.roll((-down, -right), (1, 2)).clone()
    for axis, shift in ((1, down), (2, right)):
        if shift:
            result.narrow(axis, -shift if shift > 0 else 0, abs(shift)).zero_()
    return result


def test_color_is_brightness_then_saturation_then_contrast():
    images = torch.rand(5, 3, 4, 4)
    torch.manual_seed(1)
    changed = color(images)
    torch.manual_seed(1)
    draws = torch.rand(3, 5)
    for image, after, brightness, saturation, contrast in zip(images, changed, *draws, strict=True):
        wanted = image + brightness - 0.5
        wanted = (wanted - wanted.mean(0)) * 2 * saturation + wanted.mean(0)
        wanted = (wanted - wanted.mean()) * (contrast + 0.5) + wanted.mean()
        torch.testing.assert_close(after, wanted)


def test_gradients_pass_through_augmentation():
    images = torch.rand(2, 3, 16, 16, requires_grad=True)
    augmented(images, ("color", "translation")).sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0
    assert augmented(images, ()) is images


def test_hinge_has_random_margins():
    logits = torch.tensor([[-2.0, 0.0, 0.5, 2.0]])
    torch.manual_seed(0)
    real, made = hinge(logits, real=True), hinge(logits, real=False)
    torch.manual_seed(0)
    margins = [[0.8 + 0.2 * torch.rand(()).item() for _ in range(4)] for _ in range(2)]
    values = logits[0].tolist()
    assert real == pytest.approx(sum(max(0, m - v) for m, v in zip(margins[0], values, strict=True)) / 4)
    assert made == pytest.approx(sum(max(0, m + v) for m, v in zip(margins[1], values, strict=True)) / 4)
    assert generator_loss(logits) == pytest.approx(-0.125)


def test_pixel_distance():
    image = torch.rand(2, 3, 16, 16)
    assert pixel_distance(image, image) == 0
    assert pixel_distance(image, image + 0.25) == pytest.approx(0.25, abs=1e-6)  # of pixels at each scale, of no edge
    noise = torch.rand_like(image)
    assert pixel_distance(image, image + noise) > pixel_distance(image, image + noise.mean())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "wanted the file of torchvision's VGG16 weights"),
        ({"features.0.weight": torch.zeros(2, 3)}, "wanted features.0.weight of shape (64, 3, 3, 3), got shape (2, 3)"),
    ],
)
def test_lpips_without_its_weights_is_refused(content, words, tmp_path):
    path = None
    if content is not None:
        path = str(tmp_path / "vgg.safetensors")
        save_file(content, path)
    with pytest.raises(ValueError) as error:
        distance("lpips", path, torch.device("cpu"))
    assert words in str(error.value) and "\n" not in str(error.value)


def test_average_of_weights_and_statistics():
    """0 for the first step, then 1 − (1 + t)^(−2/3); vectors of the spectral norm are copied."""
    generator = Generator(64, 1, 8)
    average = Average(generator, 0.5)
    names = ("start.0.parametrizations.weight.original", "start.1.running_mean")
    wanted = {name: generator.state_dict()[name].clone() for name in names}
    for step in range(1, 5):
        generator.pair(torch.randn(4, 8))
        with torch.no_grad():
            for value in generator.parameters():
                value.add_(torch.randn_like(value))
        average.update(generator, step)
        decay = min(0.5, 1 - (1 + step) ** (-2 / 3))
        for name in names:
            wanted[name] = wanted[name] * decay + generator.state_dict()[name] * (1 - decay)
    found = average.generator.state_dict()
    for key in wanted:
        torch.testing.assert_close(found[key], wanted[key])
    vectors = [key for key in found if key.endswith(("._u", "._v"))]
    assert vectors and all(torch.equal(found[key], generator.state_dict()[key]) for key in vectors)
    assert not average.generator.training
