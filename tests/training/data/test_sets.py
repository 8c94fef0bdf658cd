"""The embedded data set, and those of torchvision."""

import hashlib
import re
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision

from sase_attn.training.data import DataConfig, open_data, sets

FOLDER = Path(sets.__file__).parent
PIXELS = {
    "train": "2b8cf51fa7e3142613accbf989a3b770",
    "test": "24ce93209bd2223c61ac80bbc5b85cfe",
}  # of the pixels and labels, from Debian's files


def test_embedded_counts_and_balance():
    train, test, info = open_data(DataConfig(), seed=0)
    assert info.name == "embedded" and info.channels == 3 and info.size == (32, 32) and len(info.classes) == 10
    assert (info.train_count, info.test_count) == (6000, 1000)
    for loader, each in ((train, 600), (test, 100)):
        targets = torch.cat([targets for _, targets in loader.epoch(0)])
        assert targets.dtype == torch.int64 and torch.bincount(targets).tolist() == [each] * 10
    assert (train.batches, test.batches) == (47, 8)


def test_embedded_file_is_small_needs_no_pickle_and_has_its_licence():
    assert (FOLDER / "fashion_mnist.npz").stat().st_size <= 4 * 2**20
    arrays = np.load(FOLDER / "fashion_mnist.npz", allow_pickle=False)
    for split, count in (("train", 6000), ("test", 1000)):
        images = arrays[f"{split}_images"]
        assert images.shape == (count, 28, 28) and images.dtype == np.uint8
        assert hashlib.md5(images.tobytes() + arrays[f"{split}_labels"].tobytes()).hexdigest() == PIXELS[split]
    text = (files("sase_attn.training.data") / "fashion_mnist.LICENSE").read_text()
    assert "MIT License" in text and "2017 Zalando SE" in text and "WITHOUT WARRANTY OF ANY KIND" in text


def test_embedded_statistics_are_those_it_is_normalised_with():
    arrays = sets.embedded()
    pixels = arrays.train[0][:, :, 2:-2, 2:-2].float() / 255
    assert abs(pixels.mean() - arrays.mean[0]) < 3e-3 and abs(pixels.std() - arrays.std[0]) < 3e-3
    border = arrays.train[0].clone()
    border[:, :, 2:-2, 2:-2] = 0
    assert arrays.train[0].shape == (6000, 1, 32, 32) and not border.any()


def test_embedded_takes_no_folder():
    with pytest.raises(ValueError, match=r"wanted no folder after it, got 'elsewhere'"):
        open_data(DataConfig("embedded:elsewhere"), seed=0)


@pytest.mark.parametrize("name,cls", [("cifar10", "CIFAR10"), ("cifar100", "CIFAR100")])
def test_cifar_of_torchvision(name, cls, monkeypatch):
    asked = []

    def fake(root, train, download=False):
        asked.append((str(root), train, download))
        data = np.arange(2 * 32 * 32 * 3, dtype=np.int64).astype(np.uint8).reshape(2, 32, 32, 3)
        return SimpleNamespace(data=data, targets=[1, 0], classes=["cat", "dog"])

    monkeypatch.setattr(torchvision.datasets, cls, fake)
    _, test, info = open_data(DataConfig(f"{name}:some/where", augment="none"), seed=0)
    assert asked == [("some/where", True, False), ("some/where", False, False)]
    assert info.name == name and info.classes == ("cat", "dog") and info.size == (32, 32)
    images, targets = next(test.epoch(0))
    assert targets.tolist() == [1, 0]
    pixels = images * torch.tensor(info.std).view(3, 1, 1) + torch.tensor(info.mean).view(3, 1, 1)
    torch.testing.assert_close(pixels[0, :, 0, 1] * 255, torch.tensor([3.0, 4.0, 5.0]))


def idx(array, kind):
    """An IDX file: magic number, sizes, bytes."""
    return kind.to_bytes(4, "big") + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def test_fashion_mnist_of_torchvision(tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for split, count in (("train", 5), ("t10k", 3)):
        (raw / f"{split}-images-idx3-ubyte").write_bytes(idx(np.full((count, 28, 28), 255, np.uint8), 0x803))
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(idx(np.arange(count, dtype=np.uint8), 0x801))
    _, test, info = open_data(DataConfig(f"fashion-mnist:{tmp_path}"), seed=0)
    assert (info.name, info.train_count, info.test_count, info.size) == ("fashion-mnist", 5, 3, (32, 32))
    images, targets = next(test.epoch(0))
    assert images.shape == (3, 3, 32, 32) and targets.tolist() == [0, 1, 2]
    assert images[0, 0, 1, 1] < 0 < images[0, 0, 2, 2]


@pytest.mark.parametrize(
    "name,wanted",
    [
        ("cifar10", "put cifar-10-python.tar.gz, or what it unpacks to, in {}/"),
        ("cifar100", "put cifar-100-python.tar.gz, or what it unpacks to, in {}/"),
        ("fashion-mnist", "put the four *-ubyte files, unpacked, in {}/FashionMNIST/raw/"),
    ],
)
def test_no_network_says_what_to_put_where(name, wanted, tmp_path, monkeypatch):
    def refused(*args, **kwargs):
        raise OSError("network is unreachable")

    for module in (torchvision.datasets.cifar, torchvision.datasets.mnist):
        monkeypatch.setattr(module, "download_and_extract_archive", refused)
    with pytest.raises(FileNotFoundError, match=re.escape(wanted.format(tmp_path))) as error:
        open_data(DataConfig(f"{name}:{tmp_path}"), seed=0)
    assert "network is unreachable" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name,hint", [("cifar1", "did you mean cifar10"), ("fashion_mnist", "did you mean fashion-m")])
def test_unknown_name(name, hint):
    with pytest.raises(ValueError, match=f"unknown data set or image folder '{name}'; {hint}"):
        open_data(DataConfig(name), seed=0)


@pytest.mark.parametrize(
    "values,message",
    [
        ({"augment": "cifer"}, "unknown augment 'cifer'; did you mean cifar"),
        ({"on_broken": "skp"}, "unknown on_broken 'skp'; did you mean skip"),
        ({"size": 0}, "size: wanted at least 1, got 0"),
        ({"batch_size": 0}, "batch_size: wanted at least 1, got 0"),
        ({"workers": -1}, "workers: wanted at least 0, got -1"),
        ({"color_jitter": (0.1, 0.2)}, "color_jitter: wanted 3 numbers"),
        ({"color_jitter": (0.1, 0.1, 0.1, 0.6)}, "color_jitter: wanted 3 numbers"),
        ({"color_jitter": (0.1, 0.1, -0.1)}, "color_jitter: wanted 3 numbers"),
        ({"color_jitter": (0.1, 0.1, 0.1), "augment": "none"}, 'color_jitter: wanted augment "cifar" or "imagenet"'),
    ],
)
def test_wrong_configurations(values, message):
    with pytest.raises(ValueError, match=message):
        DataConfig(**values)
