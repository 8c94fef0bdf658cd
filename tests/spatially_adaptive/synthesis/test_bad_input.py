"""Bad input of a training of images: one line each, and nothing lost."""

import errno
import os

import numpy as np
import pytest
import synthesis_driver as driver
import torch
from PIL import Image

from sase_attn.commands.main import main
from sase_attn.spatially_adaptive.synthesis import SynthesisConfig, train_synthesis
from sase_attn.spatially_adaptive.synthesis.checkpoint import load_synthesis
from sase_attn.spatially_adaptive.synthesis.images import read_folder

pytestmark = pytest.mark.usefixtures("one_thread")
FLAGS = ["--size", "64", "--width", "1", "--latent", "8", "--batch-size", "2", "--steps", "1", "--score-images", "0"]


def empty(folder):
    folder.mkdir()


def unreadable(folder):
    driver.image_folder(folder, 3)
    (folder / "001.png").write_bytes(b"no image")


def tiny(folder):
    driver.image_folder(folder, 3)
    Image.new("RGB", (60, 15)).save(folder / "small.png")


def few(folder):
    driver.image_folder(folder, 1)


def a_file(folder):
    folder.write_text("no folder")


def nothing(folder):
    pass


@pytest.mark.parametrize(
    ("make", "flags", "words"),
    [
        (nothing, [], "No such file or directory"),
        (a_file, [], "Not a directory"),
        (empty, [], "holds no images; wanted .jpg"),
        (unreadable, [], "1 of 3 images cannot be read: "),
        (tiny, [], "small.png (wanted at least 16 pixels a side, got 60x15)"),
        (few, [], "wanted at least a batch of 2 images, got 1; give more images, or --batch-size 1"),
        (few, ["--batch-size", "1", "--score-images", "10"], "metrics: wanted at least 4 images, got 1"),
        (few, ["--size", "100"], "field size: wanted one of 64, 128, 256, 512, 1024, got 100"),
        (few, ["--skip", "spacial"], "unknown skip 'spacial'; did you mean spatial?"),
        (few, ["--steps", "7", "--sample-every", "3"], "a multiple of sample_every, such as 6 or 9, got 7"),
        (few, ["--augment", "noise"], "wanted color and translation, got 'noise'"),
        (few, ["--reconstruction", "lpips", "--batch-size", "1"], "wanted the file of torchvision's VGG16 weights"),
    ],
)
def test_one_line(make, flags, words, tmp_path, capsys):
    folder, output = tmp_path / "photos", tmp_path / "run"
    make(folder)
    command = ["synthesize", "train", "--images", str(folder), "--output", str(output), "--device", "cpu"]
    assert main([*command, *FLAGS, *flags]) in (1, 2)
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and "internal" not in error
    assert not output.exists() or not list(output.iterdir())  # the corrected command finds its folder new


def test_images_are_read_as_they_are_meant(tmp_path):
    """16 bits, transparent, turned by EXIF, in folders below; broken ones are left out where that is asked for."""
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    half = np.zeros((64, 64), np.uint16)
    half[:, 32:] = 65535
    Image.fromarray(half).save(folder / "a_sixteen.png")
    Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(folder / "below" / "clear.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = Image.new("RGB", (128, 64), "black")
    wide.paste("white", (0, 0, 64, 64))
    wide.save(folder / "turned.png", exif=exif)
    (folder / "z_broken.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="1 of 4 images cannot be read"):
        read_folder(folder, 64)
    with pytest.warns(UserWarning, match="skipped"):
        found = read_folder(folder, 64, "skip")
    assert found.names == ("a_sixteen.png", os.path.join("below", "clear.png"), "turned.png")
    sixteen, clear, turned = found.pixels
    assert sixteen[:, 0, 0].tolist() == [0, 0, 0] and sixteen[:, 0, 63].tolist() == [255] * 3
    assert (clear == 255).all()
    assert turned[0, 2, 30] == 255 and turned[0, 61, 30] == 0  # white above, as EXIF says


def test_batches_take_each_image_in_turn(tmp_path):
    found = read_folder(driver.image_folder(tmp_path / "photos", 5), 64)
    seen = [image.sum().item() for step in range(5) for image in found.batch(3, step, 3)]
    wanted = sorted(image.sum().item() for image in found.pixels)
    assert [sorted(seen[start : start + 5]) for start in (0, 5, 10)] == [wanted] * 3
    assert torch.equal(found.batch(3, 1, 3), found.batch(3, 1, 3)) and seen[:5] != seen[5:10]
    again = read_folder(tmp_path / "photos", 64)
    assert again.identity == found.identity and again.identity.train_count == 5


def test_full_disk_loses_nothing(tmp_path, monkeypatch):
    """The checkpoint of before stays whole, and the training goes on from it when there is room."""
    images, folder = driver.image_folder(tmp_path / "photos"), tmp_path / "run"
    config = driver.tiny(images, score_images=0, checkpoint_every=1, steps=2)
    save, saves = torch.save, 0

    def full(content, file):
        nonlocal saves
        saves += 1
        save(content, file)
        if saves == 3:  # after the start and the first step
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("torch.save", full)
    with pytest.raises(OSError) as error:
        train_synthesis(config, folder, device="cpu", echo=lambda line: None)
    assert error.value.filename == str(folder / "checkpoint.pt")
    assert load_synthesis(folder).progress.step == 1
    monkeypatch.undo()
    assert train_synthesis(config, folder, resume=True, device="cpu", echo=lambda line: None).steps == 2


def test_torchrun_is_refused(tmp_path, monkeypatch):
    from sase_attn.spatially_adaptive.synthesis import run
    from sase_attn.training.distributed import Ranks

    class Two:
        def __enter__(self):
            return Ranks(0, 2, torch.device("cpu"))

        def __exit__(self, *error):
            return None

    monkeypatch.setattr(run, "ranks", lambda device: Two())
    with pytest.raises(ValueError, match="trains in one process, got 2: start it without torchrun"):
        train_synthesis(SynthesisConfig(), tmp_path / "run")
