"""A tiny training of a detector as a separate process, to be killed, interrupted or started by torchrun.

`detection_driver.py OPTIONS` runs `train_detector` with options as JSON. `detection_driver.py step` takes one step on a
rank with two images or one, without objects, and with a weight that no loss depends on.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from detection_data import draw_coco
from tiny_detector import tiny_config
from torch import Tensor, nn

from sase_attn.detection.config import DetectionConfig
from sase_attn.detection.data import DetectionLoader
from sase_attn.detection.training import train_detector
from sase_attn.detection.training.trainer import DetectionTrainer
from sase_attn.training.distributed import ranks

SHARES = (slice(0, 2), slice(2, 3))


def tiny(folder: Path, **values: Any) -> DetectionConfig:
    """Two epochs of three steps; the data are drawn if the folder lacks them."""
    if not (folder / "val.json").exists():
        draw_coco(folder)
    several = {"min_size": (48, 64), "max_size": 96}  # the size is drawn for each image
    return tiny_config(**{"data": str(folder), "epochs": 2, "warmup_steps": 4, "log_every": 1, **several, **values})


class Body(nn.Module):
    """A network with a weight for the mean of an image, one for its square, and one that is unused."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.unused = nn.Parameter(torch.tensor([1.0, 2.0])), nn.Parameter(torch.ones(3))

    def forward(self, image: Tensor) -> list[Tensor]:
        return [self.weight[0] * image.mean(), self.weight[1] * image.mean() ** 2]


class TwoLosses(nn.Module):
    """Replaces a detector by two losses for which the result of two ranks can be worked out by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.body = Body()

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        parts = [torch.stack(each) for each in zip(*(self.backbone.body(image) for image in images), strict=True)]
        return {"first": parts[0].mean(), "second": parts[1].mean()}


def three_images() -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    images = [torch.full((3, 4, 4 + place), value) for place, value in enumerate((0.1, 0.5, 0.9))]
    return images, [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)} for _ in images]


def step(config: DetectionConfig) -> dict[str, Any]:
    with ranks("cpu") as group:
        trainer = DetectionTrainer(config, TwoLosses(), group, 10)
        share = SHARES[group.rank] if group.world_size > 1 else slice(None)
        images, targets = three_images()
        losses = trainer.step(images[share], targets[share], stop=group.rank == 1)
        return {**losses._asdict(), "weight": trainer.model.backbone.body.weight.tolist()}


def step_config() -> DetectionConfig:
    return tiny_config(batch_size=4, lr=0.5, lr_batch_size=None, momentum=0.0, weight_decay=0.0, warmup_steps=0)


def main() -> None:
    torch.set_num_threads(1)
    if sys.argv[1] == "step":
        print(json.dumps(step(step_config())))
        return
    options = json.loads(sys.argv[1])
    config = tiny(Path(options["data"]), **options.get("config", {}))
    epochs = DetectionLoader.epoch

    def watched(self: DetectionLoader, epoch: int, start: int = 0) -> Iterator[Any]:
        for place, batch in enumerate(epochs(self, epoch, start), start):
            if options.get("kill") == [epoch, place]:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(options.get("seconds", 0.0))
            yield batch

    DetectionLoader.epoch = watched  # type: ignore[method-assign]
    try:
        train_detector(config, options["output"], resume=options.get("resume", False), device="cpu")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
