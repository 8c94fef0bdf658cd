"""Saved generators, sheets of images, and the estimate: what is written is what was made."""

import pytest
import synthesis_driver as driver
import torch
from PIL import Image
from safetensors.torch import save_file

from sase_attn.spatially_adaptive.synthesis import SynthesisConfig, load_generator
from sase_attn.spatially_adaptive.synthesis.estimate import Kept, duration, memory
from sase_attn.spatially_adaptive.synthesis.saved_generator import save_generator
from sase_attn.spatially_adaptive.synthesis.sheets import grid, interpolation, neighbours, save_png
from sase_attn.spatially_adaptive.synthesis.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def generator():
    return driver.generator()


def test_a_saved_generator_makes_the_same_images(generator, tmp_path):
    save_generator(generator, tmp_path / "generator.safetensors", step=7, scores={"kid": 0.5})
    loaded = load_generator(tmp_path)
    assert not loaded.training
    assert torch.equal(loaded.sample(2, seed=3), generator.sample(2, seed=3))
    save_generator(driver.generator(seed=1), tmp_path / "best.safetensors", step=8, scores={})
    assert not torch.equal(load_generator(tmp_path).sample(1), loaded.sample(1))
    assert torch.equal(load_generator(tmp_path, "last").sample(1), loaded.sample(1))


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("nowhere", FileNotFoundError, "no such folder"),
        ("empty", FileNotFoundError, "holds no generator.safetensors"),
        ("other.safetensors", ValueError, "not of a generator"),
        ("damaged.safetensors", ValueError, "damaged"),
        ("cut.safetensors", ValueError, "does not fit the model"),
    ],
)
def test_what_is_no_generator_is_refused_in_one_line(name, error, words, generator, tmp_path):
    (tmp_path / "empty").mkdir()
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    (tmp_path / "damaged.safetensors").write_bytes(b"no tensors")
    save_generator(generator, tmp_path / "whole.safetensors", step=7, scores={})
    from safetensors import safe_open

    with safe_open(tmp_path / "whole.safetensors", "pt") as file:
        names = [key for key in file.keys() if key != "to_image.weight"]  # noqa: SIM118 (no mapping)
        save_file({key: file.get_tensor(key) for key in names}, tmp_path / "cut.safetensors", file.metadata())
    with pytest.raises(error, match=words) as found:
        load_generator(tmp_path / name)
    assert "\n" not in str(found.value)


def test_grid_and_png(tmp_path):
    images = torch.randint(0, 256, (5, 3, 4, 6), dtype=torch.uint8)
    sheet = grid(images, 2)
    assert sheet.shape == (3, 12, 12)
    assert torch.equal(sheet[:, 4:8, 6:12], images[3]) and (sheet[:, 8:, 6:] == 255).all()
    save_png(sheet, tmp_path / "new" / "sheet.png")
    with Image.open(tmp_path / "new" / "sheet.png") as found:
        assert found.size == (12, 12) and found.getpixel((0, 0)) == tuple(images[0, :, 0, 0].tolist())


def test_interpolation_begins_and_ends_at_samples(generator):
    made = generator.plain()
    sheet = interpolation(made, rows=2, steps=3, seed=5)
    assert sheet.shape == (3, 128, 192)
    latents = made.latents(4, 5)
    assert torch.equal(sheet[:, :64, :64], made.render(latents[:1], 5)[0])
    assert torch.equal(sheet[:, 64:, 128:], made.render(latents[3:], 5)[0])
    with pytest.raises(ValueError, match="got 1 of 1"):
        interpolation(made, rows=1, steps=1)


def test_neighbours_stand_below_what_was_made():
    made, images = (torch.randint(0, 256, (count, 3, 2, 2), dtype=torch.uint8) for count in (9, 4))
    sheet = neighbours(made, images, torch.tensor([3, 0, 0, 0, 0, 0, 0, 0, 2]))
    assert sheet.shape == (3, 8, 16)
    assert torch.equal(sheet[:, :2, :2], made[0]) and torch.equal(sheet[:, 2:4, :2], images[3])
    assert torch.equal(sheet[:, 4:6, :2], made[8]) and torch.equal(sheet[:, 6:, :2], images[2])
    assert (sheet[:, 4:, 2:] == 255).all()


def test_memory_is_what_waits_for_the_backward_pass():
    """Counted without numbers as it is with them."""
    config = SynthesisConfig(size=64, width=1, latent=8, batch_size=2)
    found = memory(config)
    trainer = Trainer(config, torch.device("cpu"))
    generator, discriminator = trainer.generator, trainer.discriminator
    parameters = [sum(value.numel() for value in network.parameters()) for network in (generator, discriminator)]
    assert found.weights == 4 * (5 * parameters[0] + 4 * parameters[1])
    kept = Kept()
    with kept:
        discriminator.look(torch.rand(2, 3, 64, 64), torch.rand(2, 3, 32, 32), 0)
    assert found.step == pytest.approx(kept.bytes, rel=0.4)
    assert memory(config.override(batch_size=4)).step == pytest.approx(2 * found.step, rel=0.1)
    assert found.sentence(2**30).startswith("memory: about 1.0 GiB: 1.0 GiB by now, 0 MiB for networks")


def test_durations():
    assert [duration(seconds) for seconds in (0.1, 89, 300, 9000)] == [
        "1 seconds",
        "89 seconds",
        "5 minutes",
        "2.5 hours",
    ]
