"""The one function that reads image files: what `convert("RGB")` ruins, and what is refused with its reason."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from sase_attn.training.data import DataConfig, UnreadableImageError, open_data, open_folder, read_image

RAMP = (np.arange(256) * 256).astype(np.uint16).reshape(16, 16)  # 0 … 65280
RAMP_AS_8_BIT = np.rint(RAMP / 257).astype(np.uint8)


def gray(path):
    pixels = np.asarray(read_image(path))
    assert pixels.shape[-1] == 3 and (pixels[..., :1] == pixels).all()
    return pixels[..., 0]


@pytest.mark.parametrize(
    "name, values",
    [
        ("png16.png", RAMP),
        ("tif16.tif", RAMP),
        ("big_endian.tif", RAMP.astype(">u2")),
        ("tif32.tif", RAMP.astype(np.int32)),
        ("float.tif", (RAMP / 65535).astype(np.float32)),
    ],
)
def test_more_than_eight_bits_are_scaled(tmp_path, name, values):
    Image.fromarray(values).save(tmp_path / name)
    assert (gray(tmp_path / name) == RAMP_AS_8_BIT).all()


def test_paths_may_be_strings(tmp_path):
    Image.new("RGB", (4, 3), "red").save(tmp_path / "a.png")
    assert read_image(str(tmp_path / "a.png")).size == (4, 3)


def test_pgm_of_any_maximum(tmp_path):
    path = tmp_path / "ten_bits.pgm"
    path.write_bytes(b"P5 16 16 1023\n" + (RAMP // 64).astype(">u2").tobytes())
    assert np.abs(gray(path).astype(int) - np.arange(256).reshape(16, 16)).max() <= 1


@pytest.mark.parametrize(
    "values, message",
    [
        (np.full((4, 4), 70000, np.int32), "wanted values from 0 to 65535 in mode I, got 70000 to 70000"),
        (np.full((4, 4), -1, np.int32), "in mode I, got -1 to -1"),
        (np.full((4, 4), 1.5, np.float32), "wanted values from 0 to 1 in mode F, got 1.5 to 1.5"),
        (np.full((4, 4), np.nan, np.float32), "wanted values from 0 to 1 in mode F, got nan"),
    ],
)
def test_values_out_of_range_are_refused(tmp_path, values, message):
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(UnreadableImageError, match=message):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L", "I;16"])
def test_what_is_transparent_shows_white(tmp_path, mode):
    """The left half is transparent, and hides a dark colour; the right half is dark."""
    dark, hidden, path = 60, 30, tmp_path / "a.png"
    pixels = np.full((4, 8), dark, np.uint8)
    pixels[:, :4] = hidden
    image = Image.fromarray(pixels)
    alpha = Image.fromarray(np.where(pixels == hidden, 0, 255).astype(np.uint8))
    if mode in ("RGBA", "LA"):
        image = image.convert(mode)
        image.putalpha(alpha)
        image.save(path)
    elif mode == "P":
        image = Image.fromarray((pixels == dark).astype(np.uint8)).convert("P")
        image.putpalette([hidden] * 3 + [dark] * 3)
        image.save(path, transparency=0)
    elif mode == "I;16":
        Image.fromarray(pixels.astype(np.uint16) * 257).save(path)
        path.write_bytes(with_transparent_gray(path.read_bytes(), hidden * 257))
    else:
        image.convert(mode).save(path, transparency=hidden if mode == "L" else (hidden,) * 3)
    read = gray(path)
    assert (read[:, :4] == 255).all() and (read[:, 4:] == dark).all()


def with_transparent_gray(png, value):
    """A PNG with a chunk tRNS, which Pillow does not write for 16 bits."""
    body = b"tRNS" + struct.pack(">H", value)
    at = png.index(b"IDAT") - 4
    return png[:at] + struct.pack(">I", 2) + body + struct.pack(">I", zlib.crc32(body)) + png[at:]


def test_alpha_is_mixed_with_white(tmp_path):
    Image.new("RGBA", (2, 2), (0, 100, 200, 51)).save(tmp_path / "a.png")  # a fifth
    assert np.asarray(read_image(tmp_path / "a.png"))[0, 0].tolist() == [204, 224, 244]


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
def test_images_stand_upright(tmp_path, suffix):
    upright = np.zeros((16, 32), np.uint8)
    upright[:8, :8], upright[:8, 24:] = 250, 120
    turn = Image.Transpose
    stored_by = {2: turn.FLIP_LEFT_RIGHT, 3: turn.ROTATE_180, 4: turn.FLIP_TOP_BOTTOM, 5: turn.TRANSPOSE}
    stored_by |= {6: turn.ROTATE_90, 7: turn.TRANSVERSE, 8: turn.ROTATE_270}
    for orientation in range(1, 9):
        image = Image.fromarray(upright)
        image = image.transpose(stored_by[orientation]) if orientation > 1 else image
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"{orientation}.{suffix}"
        image.save(path, exif=exif)
        read = gray(path).astype(int)
        assert read.shape == upright.shape and np.abs(read - upright).max() <= 8, orientation


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_leaves_the_image_as_it_is(tmp_path):
    Image.new("RGB", (4, 4), (9, 9, 9)).save(tmp_path / "a.png", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert np.asarray(read_image(tmp_path / "a.png")).max() == 9


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "CMYK", "YCbCr"])
def test_what_needs_no_care_is_what_pillow_converts(tmp_path, mode):
    noise = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    path = tmp_path / ("a.jpg" if mode in ("CMYK", "YCbCr") else "a.png")
    Image.fromarray(noise).convert(mode).save(path)
    with Image.open(path) as image:
        assert (np.asarray(read_image(path)) == np.asarray(image.convert("RGB"))).all()


def test_refusals_keep_their_reason_without_the_path(tmp_path):
    huge, cut, text = tmp_path / "huge.png", tmp_path / "cut.jpg", tmp_path / "text.png"
    small = io.BytesIO()
    Image.new("1", (8, 8)).save(small, "png")
    header = b"IHDR" + struct.pack(">IIBBBBB", 20000, 10000, 1, 0, 0, 0, 0)
    data = small.getvalue()
    huge.write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])
    Image.new("RGB", (200, 200), (1, 2, 3)).save(cut)
    cut.write_bytes(cut.read_bytes()[:-300])
    text.write_text("not an image")
    reasons = {}
    for path in (huge, cut, text, tmp_path / "none.png"):
        with pytest.raises(UnreadableImageError) as caught:
            read_image(path)
        reasons[path.stem] = str(caught.value)
        assert str(path) not in reasons[path.stem] and "\n" not in reasons[path.stem]
    assert reasons["huge"].startswith("Image size (200000000 pixels) exceeds limit")
    assert "truncated" in reasons["cut"] and reasons["text"] == "cannot identify image file"
    assert reasons["none"] == "No such file or directory"


def strip(folder, split):
    path = folder / split / "a" / "strip.png"
    Image.new("RGB", (2000, 1)).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    for split in ("train", "val"):
        for name in "ab":
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(2):
                Image.new("RGB", (30, 20), (9 * index,) * 3).save(tmp_path / split / name / f"{index}.png")
    return tmp_path


@pytest.mark.parametrize("augment", ["cifar", "imagenet"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_strips_are_refused_at_the_start(folder, split, augment):
    path = strip(folder, split)
    wanted = f"images cannot be read: {path} (wanted a longer side of at most 100 times the shorter, got 2000x1 pixels)"
    with pytest.raises(ValueError, match=re.escape(wanted)):
        open_data(DataConfig(str(folder), size=16, augment=augment), seed=0)
    with pytest.warns(UserWarning, match=re.escape(wanted)):
        for loader in open_data(DataConfig(str(folder), size=16, augment=augment, on_broken="skip"), seed=0)[:2]:
            assert sum(len(targets) for _, targets in loader.epoch(0)) == 4


def test_strips_beyond_the_headers_that_are_looked_at_are_broken_images(folder, monkeypatch):
    strip(folder, "train")
    monkeypatch.setattr("sase_attn.training.data.reading.HEADERS", 1)
    train, _, _ = open_data(DataConfig(str(folder), size=16, augment="imagenet"), seed=0)
    with pytest.raises(ValueError, match="1 of 5 images cannot be read: .*at most 100 times"):
        list(train.epoch(0))


def test_folders_are_read_by_it(folder, monkeypatch):
    """In memory and file by file, a 16-bit image is not white."""
    for path in folder.glob("*/*/*.png"):
        Image.fromarray(np.full((20, 30), 257 * 100, np.uint16)).save(path)
    for memory in (2**30, 0):
        monkeypatch.setattr(open_folder, "MEMORY_BYTES", memory)
        _, test, info = open_data(DataConfig(str(folder), size=16, augment="none"), seed=0)
        images, _ = next(test.epoch(0))
        pixels = 255 * (images * torch.tensor(info.std).view(3, 1, 1) + torch.tensor(info.mean).view(3, 1, 1))
        torch.testing.assert_close(pixels, torch.full_like(pixels, 100.0), rtol=0, atol=1e-3)
