"""A tiny training as a separate process, with options as JSON, to be killed, interrupted or started by torchrun."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sase_attn.training import Recipe, train
from sase_attn.training.data import DataInfo

TINY = Recipe(
    model="resnet20_cifar",
    model_kwargs={"layers": [1, 1, 1], "drop_rate": 0.2},
    epochs=2,
    batch_size=8,
    lr=0.05,
    warmup_epochs=1,
    clip_grad=5.0,
    ema_decay=0.9,
    log_every=1,
)
INFO = DataInfo(
    name="synthetic",
    classes=tuple("abcdef"),
    channels=3,
    size=(32, 32),
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    train_count=32,
    test_count=24,
    crop_pct=1.0,
)


@dataclass
class Synthetic:
    """A data set of blobs whose place shows their class; the order is a function of (seed, epoch)."""

    count: int
    batch_size: int
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    shuffle: bool = True
    poison: int = -1  # the batch of epoch 1 that holds a NaN
    seconds: float = 0.0  # between batches
    kill: tuple[int, int] | None = None  # (epoch, batch) before which this process kills itself

    @property
    def batches(self) -> int:
        return self.count // self.batch_size

    def images(self) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(1)
        targets = torch.arange(self.count) % len(INFO.classes)
        images = torch.randn(self.count, 3, 32, 32, generator=generator)
        for i, target in enumerate(targets):
            images[i, target % 3, 5 * target : 5 * target + 5] += 2
        return images, targets

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        images, targets = self.images()
        generator = torch.Generator().manual_seed(1000 * self.seed + epoch)
        order = torch.randperm(self.count, generator=generator) if self.shuffle else torch.arange(self.count)
        for i in range(start, self.batches):
            if self.kill == (epoch, i):
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(self.seconds)
            chosen = order[i * self.batch_size : (i + 1) * self.batch_size][self.rank :: self.world_size]
            poison = float("nan") if (epoch, i) == (1, self.poison) else 0.0
            yield images[chosen] + poison, targets[chosen]


def data(recipe: Recipe, **options: object) -> tuple[Synthetic, Synthetic, DataInfo]:
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    ranks = {"rank": rank, "world_size": world_size}
    train_batches = Synthetic(INFO.train_count, recipe.batch_size, recipe.seed, **ranks, **options)
    return train_batches, Synthetic(INFO.test_count, 8, **ranks, shuffle=False), INFO


class GroupNormNet(nn.Module):
    """A network without batch norm, so that two ranks must give the results of one."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.GroupNorm(4, 16)
        )
        self.fc = nn.Linear(16, len(INFO.classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).relu().mean((2, 3)))


if __name__ == "__main__":
    torch.set_num_threads(1)
    options = json.loads(sys.argv[1])
    recipe = TINY.override(**options.get("recipe", {}))
    model = None
    if options.get("group_norm"):
        torch.manual_seed(0)
        model = GroupNormNet()
    kill = options.get("kill")
    loaders = data(recipe, seconds=options.get("seconds", 0.0), kill=None if kill is None else tuple(kill))
    try:
        train(recipe, options["output"], resume=options.get("resume", False), data=loaders, model=model, device="cpu")
    except KeyboardInterrupt:
        sys.exit(130)
