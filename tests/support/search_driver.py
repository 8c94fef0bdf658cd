"""A tiny search as a separate process, with options as JSON, to be killed, interrupted or started by torchrun."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from sase_attn import attach
from sase_attn.search import SearchConfig, search
from sase_attn.search.shared_weights import loop


def image_folder(folder: Path, train: int = 24, test: int = 8) -> Path:
    """Write images of 12×12 noise with a bright corner that shows the class."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", test)):
        for label in range(3):
            (folder / split / "abc"[label]).mkdir(parents=True)
            for i in range(count):
                image = rng.integers(0, 120, (12, 12, 3), dtype=np.uint8)
                image[4 * label : 4 * label + 4, :6] += 100
                Image.fromarray(image).save(folder / split / "abc"[label] / f"{i}.png")
    return folder


def tiny(data: str | Path, **changes: object) -> SearchConfig:
    values = dict(
        model_kwargs={"layers": [1, 1, 1], "drop_rate": 0.2},
        data=str(data),
        epochs=2,
        batch_size=8,
        lr=0.05,
        alpha_lr=0.02,
        log_every=1,
        select_images=16,
    )
    return SearchConfig(**(values | changes))


class NoBatchNorm(nn.Module):
    """A network in which samples do not influence each other, so that two ranks must give the results of one."""

    def __init__(self, config: SearchConfig) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2, 1)
        self.norm = nn.GroupNorm(2, 8)
        self.norm.num_features = 8
        self.fc = nn.Linear(8, 3)
        attach(self, after="norm", attn=without_norms(config))

    def forward(self, x):
        return self.fc(self.norm(self.conv(x)).relu().mean((2, 3)))


def without_norms(config: SearchConfig):
    """A function that makes blocks of the configuration's space without their batch norms."""
    block = config.search_space().block

    def make(channels, **place):
        made = block(channels, **place)
        for module in list(made.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.BatchNorm2d):
                    setattr(module, name, nn.Identity())
        return made

    return make


def main() -> None:
    torch.set_num_threads(1)
    options = json.loads(sys.argv[1])
    config = tiny(options["data"], **options.get("config", {}))
    kill_at, seconds, count = options.get("kill_at", -1), options.get("seconds", 0.0), 0
    step = loop.Searcher.step

    def watched(self, batch):
        nonlocal count
        count += 1
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(seconds)
        return step(self, batch)

    loop.Searcher.step = watched
    model = None
    if options.get("no_batch_norm"):
        torch.manual_seed(0)
        model = NoBatchNorm(config)
    try:
        search(model, config=config, output=options["output"], resume=options.get("resume", False), device="cpu")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
