"""A long run of tiny steps of `train` or `search` that regularly prints the resources its process holds."""

import gc
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import search_driver
import torch
import training_driver
from torch import Tensor, nn

from sase_attn.search import search
from sase_attn.search.shared_weights import bilevel
from sase_attn.training import train
from sase_attn.training.step import Trainer

EVERY = 150
PAGE_MEGABYTES = os.sysconf("SC_PAGE_SIZE") / 2**20


def held(step: int) -> dict[str, float]:
    """Open files, threads, tensors and resident memory of this process."""
    gc.collect()
    resident = int(Path("/proc/self/statm").read_text().split()[1])
    tensors = sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())
    files = len(os.listdir("/proc/self/fd"))
    return {
        "step": step,
        "files": files,
        "threads": threading.active_count() + len(os.listdir("/proc/self/task")),
        "tensors": tensors,
        "megabytes": resident * PAGE_MEGABYTES,
    }


def watch(owner: type, name: str) -> None:
    """Print the resources held, at regular intervals of calls of a method."""
    method: Callable[..., object] = getattr(owner, name)
    count = 0

    def watched(*args: object, **options: object) -> object:
        nonlocal count
        result = method(*args, **options)
        count += 1
        if count % EVERY == 0:
            print(json.dumps(held(count)), flush=True)
        return result

    setattr(owner, name, watched)


def main(kind: str, output: Path, steps: int) -> None:
    torch.set_num_threads(1)
    if kind == "train":
        watch(Trainer, "step")
        recipe = training_driver.TINY.override(epochs=steps // 4, log_every=1)
        model: nn.Module = training_driver.GroupNormNet()
        train(recipe, output, model=model, data=training_driver.data(recipe), device="cpu", echo=lambda line: None)
    else:
        watch(bilevel.Bilevel, "step")
        data = search_driver.image_folder(output.parent / "data", train=50, test=2)
        config = search_driver.tiny(
            data,
            after=["layer1.*.bn2"],
            images=140,
            batch_size=7,
            epochs=steps // 10,
            without=["gsop"],
            size=8,
            augment="none",
        )
        search(config=config, output=output, device="cpu", echo=lambda line: None)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
