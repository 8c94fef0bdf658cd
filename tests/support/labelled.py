"""A small network with named classes, saved in the form of a run, and folders of images for it."""

from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image

from sase_attn import share
from sase_attn.training.data import DataInfo
from sase_attn.training.data_config import data_config

CLASSES = ("ant", "bee", "cat")


def saved_network(folder: Path, size: int = 12, crop_pct: float = 1.0) -> Path:
    """Save an untrained network whose outputs differ from image to image."""
    torch.manual_seed(0)
    model = timm.create_model("resnet20_cifar", layers=[1, 1, 1], num_classes=3)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.fill_(1)
    images = torch.rand(32, 3, 1, 1) * 1.6 - 1 + 0.2 * torch.rand(32, 3, size, size)
    with torch.no_grad():
        for _ in range(30):
            model.train()(images)
        model.fc.weight.mul_(40)
        model.fc.bias -= model.eval()(images).mean(0)
    scale = (0.5, 0.5, 0.5)
    info = DataInfo("animals", CLASSES, 3, (size, size), scale, scale, 0, 0, crop_pct)
    model.pretrained_cfg = {**model.pretrained_cfg, **data_config(info)}
    share.save(model.eval(), folder)
    return folder


def draw_images(folder: Path, count: int = 4, size: tuple[int, int] = (12, 12), seed: int = 0) -> Path:
    """Write PNG files of noise in different colours to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        colour = rng.integers(0, 200, 3)
        pixels = (rng.integers(0, 56, (*size[::-1], 3)) + colour).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def draw_classes(folder: Path, classes=CLASSES, **options) -> Path:
    for place, name in enumerate(classes):
        draw_images(folder / name, seed=CLASSES.index(name) if name in CLASSES else place + 10, **options)
    return folder
