"""Folders of tiny photos, a configuration that learns from them in seconds, and a training as a separate process."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from sase_attn.spatially_adaptive.synthesis import Generator, SynthesisConfig, trainer
from sase_attn.spatially_adaptive.synthesis.run import train_synthesis

EXTRACTOR = Path(__file__).with_name("own_extractor.py")
TINY: dict[str, Any] = {
    "size": 64, "width": 1, "latent": 8, "batch_size": 2, "steps": 4, "sample_every": 2, "score_images": 10,
    "extractor": "own", "log_every": 1, "imports": (str(EXTRACTOR),),
}  # fmt: skip


def image_folder(folder: Path, count: int = 8, size: int = 64) -> Path:
    """Write images of discs on a background, with random places and colours seeded by the image's number."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[:size, :size]
    for number in range(count):
        rng = np.random.default_rng(number)
        pixels = np.full((size, size, 3), rng.integers(0, 256, 3), np.uint8)
        row, column = rng.integers(size // 4, 3 * size // 4, 2)
        pixels[(rows - row) ** 2 + (columns - column) ** 2 < (size // 5) ** 2] = rng.integers(0, 256, 3)
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")
    return folder


def tiny(images: Path, **values: Any) -> SynthesisConfig:
    return SynthesisConfig(**{**TINY, "images": str(images), **values})


def generator(size: int = 64, seed: int = 0) -> Generator:
    """A tiny generator whose images differ in eval mode too, because its batch norms have seen batches."""
    torch.manual_seed(seed)
    made = Generator(size, 1, 8)
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    made.pair(torch.randn(4, 8))
    assert made.render(made.latents(2)).float().std() > 2
    return made


def main() -> None:
    """`synthesis_driver.py OPTIONS`: options as JSON; the process kills itself before step `kill_at`."""
    torch.set_num_threads(1)
    options = json.loads(sys.argv[1])
    step = trainer.Trainer.step
    trial_steps = 2

    def watched(self: trainer.Trainer, images: torch.Tensor, number: int) -> dict[str, float]:
        nonlocal trial_steps
        trial_steps -= 1
        if trial_steps < 0 and number == options["kill_at"]:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, images, number)

    trainer.Trainer.step = watched  # type: ignore[method-assign]
    config = tiny(Path(options["images"]), **options.get("config", {}))
    train_synthesis(config, options["output"], device="cpu")


if __name__ == "__main__":
    main()
