"""One-shot synthesis: the networks and their training on a tiny image, what is resumed, and what is refused."""

import errno
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sase_attn.spatially_adaptive import SpatiallyAdaptiveSkip
from sase_attn.spatially_adaptive.synthesis.one_shot import OneShotConfig, load_one_shot, train_one_shot
from sase_attn.spatially_adaptive.synthesis.one_shot.estimate import estimated_seconds
from sase_attn.spatially_adaptive.synthesis.one_shot.loop import OneShotLoop
from sase_attn.spatially_adaptive.synthesis.one_shot.losses import gradient_penalty
from sase_attn.spatially_adaptive.synthesis.one_shot.model import OneShotModel
from sase_attn.spatially_adaptive.synthesis.one_shot.networks import (
    ScaleDiscriminator,
    ScaleGenerator,
    channels_of,
    start_from,
)
from sase_attn.spatially_adaptive.synthesis.one_shot.pyramid import (
    as_pixels,
    as_values,
    open_image,
    scale_sizes,
    sizes_for,
)
from sase_attn.spatially_adaptive.synthesis.one_shot.trainer import ScaleTrainer, learning_rate

pytestmark = pytest.mark.usefixtures("one_thread")
TINY = OneShotConfig(size=20, smallest=12, scales=2, width=4, iterations=3, inner_steps=2, log_every=1)


def picture(width=40, height=30, seed=0):
    """A sky over a striped ground."""
    pixels = np.random.default_rng(seed).integers(0, 40, (height, width, 3)).astype(np.uint8)
    pixels[: height // 2] += np.array([60, 120, 200], np.uint8)
    pixels[height // 2 :, ::4] += np.array([150, 90, 30], np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run, and its image's file."""
    folder = tmp_path_factory.mktemp("one-shot")
    picture().save(folder / "image.png")
    lines = []
    result = train_one_shot(folder / "image.png", folder / "run", TINY, echo=lines.append)
    return folder / "run", folder / "image.png", result, lines


def test_generator_keeps_sizes_and_has_the_skip_above_the_coarsest_scale():
    for scale, dilation in ((0, None), (1, 5), (3, 5), (4, 8)):
        network = ScaleGenerator(scale, 4)
        skips = [module for module in network.modules() if isinstance(module, SpatiallyAdaptiveSkip)]
        assert len(skips) == (scale > 0)
        if skips:
            assert skips[0].masks[3].dilation == (dilation, dilation)
            assert skips[0].masks[3].weight.shape[1] == skips[0].source_channels // 4  # reduction 1
            assert not list(skips[0].styles.norm.children()) and not list(skips[0].styles.norm.parameters())
        made = network(torch.randn(2, 3, 13, 29))
        assert made.shape == (2, 3, 13, 29) and made.abs().max() <= 1
    assert [channels_of(scale, 32) for scale in (0, 3, 4, 7, 8, 20)] == [32, 32, 64, 64, 128, 128]


def test_discriminator_sees_patches_of_11_pixels():
    network = ScaleDiscriminator(0, 4).eval()
    x = torch.randn(1, 3, 15, 17, requires_grad=True)
    scores = network(x)
    assert scores.shape == (1, 1, 5, 7)
    (seen,) = torch.autograd.grad(scores[0, 0, 2, 3], x)
    rows, columns = seen.abs().sum((0, 1)).nonzero().unbind(1)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 12, 3, 13)


def test_a_scale_starts_from_the_weights_of_the_coarser_one_where_they_fit():
    coarse, fine, wider = ScaleGenerator(0, 4), ScaleGenerator(1, 4), ScaleGenerator(4, 4)
    kept = {key: value.clone() for key, value in wider.state_dict().items()}
    start_from(fine, coarse)
    assert all(torch.equal(fine.state_dict()[key], value) for key, value in coarse.state_dict().items())
    start_from(wider, coarse)
    assert all(torch.equal(wider.state_dict()[key], value) for key, value in kept.items())


def test_gradient_penalty_of_a_linear_critic():
    """Its gradient is its weight, at each pixel."""
    critic = torch.nn.Conv2d(3, 1, 1)
    penalty = gradient_penalty(critic, torch.randn(1, 3, 4, 5), torch.randn(1, 3, 4, 5))
    norm = critic.weight.flatten().norm()
    assert penalty.item() == pytest.approx((norm.item() - 1) ** 2, rel=1e-5)
    penalty.backward()
    expected = 2 * (norm - 1) * critic.weight / norm
    torch.testing.assert_close(critic.weight.grad, expected.detach())


def test_scales_go_from_the_smallest_side_to_the_image():
    assert scale_sizes(43, 64, 25, 3) == ((25, 37), (33, 49), (43, 64))
    assert scale_sizes(43, 64, 25, 1) == ((43, 64),)
    assert sizes_for(43, 115, ((25, 37), (33, 49), (43, 64))) == ((25, 66), (33, 88), (43, 115))
    assert OneShotConfig().for_image(187, 250).scales == 1 + math.ceil(math.log(25 / 187) / math.log(0.75))
    assert OneShotConfig().for_image(25, 250).scales == 1
    assert OneShotConfig().for_image(26, 250).scales == 2


def test_pixels_and_values():
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16).expand(3, -1, -1)
    assert torch.equal(as_pixels(as_values(pixels))[0], pixels)
    assert as_pixels(torch.tensor([[[[-3.0, 3.0]]]])).tolist() == [[[[0, 255]]]]


def test_every_step_of_the_generator_has_a_fake_of_its_own():
    """The weights after three steps are those of a loop that is written out, and the coarser scale stays."""
    image = open_image(picture(20, 15))
    model = OneShotModel(image, scale_sizes(15, 20, 12, 2), 4)
    model.amplitudes[0] = 1.0
    model.generators[0].requires_grad_(True)
    config = TINY.override(inner_steps=3)
    trainer = ScaleTrainer(config, model, 1)
    coarse = [value.clone() for value in model.generators[0].state_dict().values()]
    inputs, outputs = [], []

    def kept(module, arguments, output):
        inputs.append(arguments[0])
        outputs.append(output)

    trainer.generator.register_forward_hook(kept)
    before = trainer.generator.tail.weight.clone()
    trainer.step(0)
    noisy, fakes = inputs[3::2], outputs[3::2]  # after the discriminator's three, each step has a fake and a rebuilt
    assert len(inputs) == 9 and all(torch.equal(x, noisy[0]) for x in noisy)
    assert not torch.equal(fakes[0], fakes[1]) and not torch.equal(fakes[1], fakes[2])
    assert len({x.sum().item() for x in inputs[:3]}) == 3  # fresh noise for each step of the discriminator
    assert all(torch.equal(x, trainer.before) for x in inputs[4::2])
    assert not torch.equal(trainer.generator.tail.weight, before)
    after = model.generators[0].state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(coarse, after, strict=True))
    assert all(parameter.requires_grad for parameter in trainer.discriminator.parameters())


def test_the_estimate_changes_nothing():
    model = OneShotModel(open_image(picture(20, 15)), scale_sizes(15, 20, 12, 2), 4)
    before, draw = {key: value.clone() for key, value in model.state_dict().items()}, torch.get_rng_state()
    once, twice = (estimated_seconds(TINY.override(iterations=count), model) for count in (1, 1000))
    assert 0 < once < twice
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), draw)


def test_learning_rate_falls_after_four_fifths():
    config = TINY.override(iterations=10)
    assert [learning_rate(config, i) for i in (0, 7)] == [5e-4, 5e-4]
    assert learning_rate(config, 8) == pytest.approx(5e-5)


def test_amplitude_is_a_tenth_of_what_the_coarser_scale_gets_wrong():
    image = open_image(picture(20, 15))
    model = OneShotModel(image, scale_sizes(15, 20, 12, 2), 4).eval()
    ScaleTrainer(TINY, model, 0)
    assert model.amplitudes[0] == 1
    trainer = ScaleTrainer(TINY, model, 1)
    wrong = (trainer.before - model.real(1)).square().mean().sqrt()
    assert model.amplitudes[1].item() == pytest.approx(0.1 * wrong.item())


def test_the_image_is_learned():
    """The image is rebuilt better than by its mean, and the generators of both scales have moved."""
    image = open_image(picture(16, 14))
    config = TINY.override(iterations=15, lr=1e-2)
    model = OneShotModel(image, scale_sizes(14, 16, 12, 2), 4)
    coarser = None
    for scale in range(2):
        trainer = ScaleTrainer(config, model, scale, coarser)
        for iteration in range(config.iterations):
            trainer.step(iteration)
        in_training = trainer.generator(trainer.before)
        trainer.settle()
        coarser = trainer.discriminator
        torch.testing.assert_close(trainer.generator(trainer.before), in_training, atol=0.02, rtol=0)
        assert all(m.momentum == 0.1 for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))
    with torch.no_grad():
        wrong = (model.reconstruct() - model.real(1)).square().mean().sqrt()
    deviation = model.real(1).flatten(2).var(2).mean().sqrt()
    assert wrong < 0.8 * deviation


def test_run_writes_what_it_says(trained):
    folder, _, result, lines = trained
    names = {path.name for path in folder.iterdir()}
    files = {"one_shot.json", "log.jsonl", "checkpoint.pt", "one_shot.safetensors", "sheet.png", "result.json"}
    assert names == files
    assert result.sizes == ((12, 16), (15, 20)) and result.config["scales"] == 2
    assert lines[0] == "2 scales of 3 iterations: 16x12 → 20x15"
    assert lines[1].startswith("time: about ") and lines[1].endswith("seconds, as the second of two iterations took")
    assert lines[2].startswith("scale 1/2  16x12  rebuilt to ") and len(lines) == 4
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [row["kind"] for row in rows] == (["step"] * 3 + ["scale"]) * 2
    model = load_one_shot(folder)
    found = (model.reconstruct() - as_values(model.image)).square().mean().sqrt().item()
    assert result.measures.reconstruction_rmse == pytest.approx(found) == pytest.approx(rows[-1]["reconstruction_rmse"])
    namespace = {}
    exec(result.load_lines, namespace)
    assert namespace["images"].shape == (4, 3, 15, 20)


class Killed(Exception):
    pass


@pytest.mark.parametrize("at, every", [(4, 0), (3, 0), (5, 1), (2, 1)])
def test_resumed_run_has_the_same_numbers(trained, tmp_path, monkeypatch, at, every):
    """Killed within a scale or between two, with a checkpoint a scale or an iteration."""
    folder, image, result, _ = trained
    config, step = TINY.override(checkpoint_every=every), OneShotLoop.step

    def dying(loop, batch):
        if loop.global_step == at:
            raise Killed
        return step(loop, batch)

    with monkeypatch.context() as patch:
        patch.setattr(OneShotLoop, "step", dying)
        with pytest.raises(Killed):
            train_one_shot(image, tmp_path / "run", config, echo=lambda line: None)
    again = train_one_shot(None, tmp_path / "run", resume=True, echo=lambda line: None)
    whole, resumed = load_one_shot(folder).state_dict(), load_one_shot(tmp_path / "run").state_dict()
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
    assert again.measures == result.measures
    at_once = train_one_shot(
        image, tmp_path / "run", config.override(scales=None), resume=True, echo=lambda line: pytest.fail(line)
    )
    assert at_once.measures == result.measures


def test_grey_deep_transparent_and_turned_images_are_read_as_everywhere(tmp_path):
    plain = picture(40, 30)
    turned = plain.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    assert torch.equal(open_image(tmp_path / "turned.png"), open_image(plain))
    grey = np.asarray(plain.convert("L"))
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert torch.equal(open_image(tmp_path / "deep.png"), open_image(tmp_path / "grey.png"))
    clear = plain.convert("RGBA")
    clear.putpixel((1, 1), (9, 9, 9, 0))
    clear.save(tmp_path / "clear.png")
    assert open_image(tmp_path / "clear.png")[:, 1, 1].tolist() == [255] * 3
    assert open_image(plain, 20).shape == (3, 15, 20)
    assert open_image(plain, 200).shape == (3, 30, 40)


def bad(folder, kind):
    """A file that is no image to learn from."""
    path = folder / f"{kind}.png"
    if kind == "tiny":
        picture(30, 10).save(path)
    elif kind == "blank":
        Image.new("RGB", (40, 40), "grey").save(path)
    elif kind == "damaged":
        picture().save(path)
        path.write_bytes(path.read_bytes()[:200])
    elif kind == "text":
        path.write_text("no image")
    elif kind == "strip":
        picture(300, 2).save(path)
    elif kind == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize(
    "kind, error, message",
    [
        ("missing", FileNotFoundError, "no such image: .*missing.png"),
        ("folder", IsADirectoryError, "is a folder: wanted one image file"),
        ("tiny", ValueError, "wanted an image of at least 12 pixels a side, got 20x7 with size=20: raise size"),
        ("blank", ValueError, "blank.png is of one colour"),
        ("damaged", ValueError, "damaged.png: "),
        ("text", ValueError, "text.png: cannot identify image file"),
        ("strip", ValueError, "strip.png: wanted a longer side of at most 100 times the shorter, got 300x2"),
    ],
)
def test_images_that_cannot_be_learned(tmp_path, kind, error, message):
    path = bad(tmp_path, kind)
    with pytest.raises(error, match=message):
        train_one_shot(path, tmp_path / "run", TINY)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "values, message",
    [
        ({"size": 11}, "size: wanted from 12 to 2,048, got 11"),
        ({"width": 6}, "width: wanted a multiple of 4"),
        ({"scales": 0}, "scales: wanted from 1 to 20"),
        ({"factor": 1.0}, "factor: wanted from 0.1 to 0.95"),
        ({"lr": 0.0}, "lr: wanted a number above 0"),
        ({"betas": (0.5,)}, "betas: wanted two numbers"),
    ],
)
def test_configurations_that_are_refused(values, message):
    with pytest.raises(ValueError, match=f"one-shot recipe field {message}"):
        OneShotConfig(**values)


def test_more_scales_than_there_are_sizes():
    with pytest.raises(ValueError, match="scales: wanted at most 2 for sides of 25 to 26 pixels, got 3"):
        OneShotConfig(scales=3).for_image(26, 64)


def test_what_cannot_be_resumed(trained, tmp_path):
    folder, image, _, _ = trained
    with pytest.raises(FileExistsError, match="is in use: wanted a new or empty folder"):
        train_one_shot(image, folder, TINY)
    with pytest.raises(ValueError, match=r"another one-shot recipe: width \(saved 4, now 8\)"):
        train_one_shot(image, folder, TINY.override(width=8), resume=True)
    picture(seed=1).save(tmp_path / "other.png")
    with pytest.raises(ValueError, match="cannot resume with other data"):
        train_one_shot(tmp_path / "other.png", folder, TINY, resume=True)
    with pytest.raises(FileNotFoundError, match="nothing to resume"):
        train_one_shot(image, tmp_path / "none", TINY, resume=True)
    with pytest.raises(ValueError, match="wanted an image to learn from, got none"):
        train_one_shot(None, tmp_path / "none", TINY)
    other = tmp_path / "training"
    other.mkdir()
    torch.save({"recipe": "{}", "progress": {}}, other / "checkpoint.pt")
    message = "is no checkpoint of a run: it is of another kind, wanted one with 'one_shot', got one with 'recipe'"
    with pytest.raises(ValueError, match=message):
        train_one_shot(image, other, TINY, resume=True)


def test_a_full_disk_loses_nothing(trained, tmp_path, monkeypatch):
    """A checkpoint that cannot be written leaves the one before, from which the run goes on."""
    folder, image, result, _ = trained
    module = "sase_attn.training.checkpoint.write_atomically"
    from sase_attn.training import checkpoint

    write, count = checkpoint.write_atomically, []

    def full(path, content):
        count.append(path)
        if len(count) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(module, full)
        with pytest.raises(OSError, match="No space left on device"):
            train_one_shot(image, tmp_path / "run", TINY, echo=lambda line: None)
    again = train_one_shot(None, tmp_path / "run", resume=True, echo=lambda line: None)
    assert again.measures == result.measures


def test_a_loss_that_is_not_finite_stops_the_run(trained, tmp_path, monkeypatch):
    _, image, _, _ = trained
    monkeypatch.setattr(ScaleTrainer, "step", lambda self, iteration: {"penalty": float("nan")})
    with pytest.raises(FloatingPointError, match="penalty is nan at iteration 1 of scale 0; try a lower lr"):
        train_one_shot(image, tmp_path / "run", TINY)
    assert Path(tmp_path / "run" / "checkpoint.pt").is_file()
