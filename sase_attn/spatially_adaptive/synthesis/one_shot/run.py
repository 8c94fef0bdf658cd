"""`train_one_shot`: one training on one image to a folder, new or resumed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from sase_attn.spatially_adaptive.synthesis.estimate import duration
from sase_attn.spatially_adaptive.synthesis.one_shot.checkpoint import load_progress, resumable
from sase_attn.spatially_adaptive.synthesis.one_shot.config import OneShotConfig
from sase_attn.spatially_adaptive.synthesis.one_shot.estimate import estimated_seconds
from sase_attn.spatially_adaptive.synthesis.one_shot.loop import OneShotLoop
from sase_attn.spatially_adaptive.synthesis.one_shot.model import OneShotModel
from sase_attn.spatially_adaptive.synthesis.one_shot.pyramid import open_image, scale_sizes
from sase_attn.spatially_adaptive.synthesis.one_shot.result import OneShotResult, read_result
from sase_attn.training.checkpoint import Checkpoint, check_same_data
from sase_attn.training.data.identity import DataIdentity, digest_of_tensors
from sase_attn.training.distributed import ranks
from sase_attn.training.run_folder import run_folder


def train_one_shot(
    image: str | Path | Image.Image | None,
    output: str | Path,
    config: OneShotConfig | None = None,
    *,
    resume: bool = False,
    device: str | None = None,
    echo: Callable[[str], object] = print,
) -> OneShotResult:
    """Learn one image of any aspect ratio, scale after scale, and write everything to the folder `output`.

    It gets `one_shot.json` (the configuration), `log.jsonl`, `checkpoint.pt` (replaced after every scale, every
    `checkpoint_every` iterations, and on Ctrl-C), and at the end `one_shot.safetensors`, which `load_one_shot` reads,
    `sheet.png` with the image, its reconstruction and samples, and `result.json`.

    Args:
        image: a file, or a picture; None when resuming, as the folder holds it.
        output: a folder that does not exist yet, or is empty.
        config: the settings; SinGAN's by default, which take hours on a CPU.
        resume: continue from the checkpoint in `output`; for a finished training, its result is returned.
        device: "cpu", "cuda" or "cuda:1"; by default CUDA where there is a device.
        echo: called with each line of output for the user.

    Raises:
        FileExistsError: `output` is in use (`InUseError`: by another process). FileNotFoundError: no such image, or
            nothing to resume.
        ValueError: an image that cannot be read, of one colour, or too small for the configuration; a resumed training
            would differ from the saved one or get another image; or it was started by `torchrun`.
        FloatingPointError: a loss is no longer finite; the last checkpoint is from before.
        KeyboardInterrupt: Ctrl-C or SIGTERM; a checkpoint was saved first.
    """
    folder = Path(output)
    with ranks(device) as group:
        if group.world_size > 1:
            raise ValueError(f"one image trains in one process, got {group.world_size}: start it without torchrun")
        with run_folder(folder, group, "training", resume=resume):
            saved = load_progress(folder) if resume else None
            config = config or (OneShotConfig() if saved is None else saved.settings)
            if saved is not None:
                config = resumable(config, saved.settings)
            pixels = _pixels(image, config, saved)
            height, width = pixels.shape[1:]
            config = config.for_image(height, width)
            identity = DataIdentity(train_count=1, train_digest=digest_of_tensors(pixels, torch.empty(0)))
            if saved is not None:
                check_same_data(identity, saved)
                if (finished := read_result(folder)) is not None:
                    return finished
            sizes = scale_sizes(height, width, config.smallest, config.epochs)
            model = OneShotModel(pixels, sizes, config.width, config.seed)
            if saved is None:
                echo(f"{config.epochs} scales of {config.iterations:,} iterations: {model.extra_repr()}")
                model.to(group.device)
                echo(f"time: about {duration(estimated_seconds(config, model))}, as the second of two iterations took")
            loop = OneShotLoop(config, folder, group, model, identity, echo)
            loop.run(saved)
            return loop.finish()


def _pixels(
    image: str | Path | Image.Image | None, config: OneShotConfig, saved: Checkpoint[OneShotConfig, Any] | None
) -> Tensor:
    """The image at the finest scale, uint8 (3, H, W): the given one, or otherwise the saved one."""
    if image is not None:
        return open_image(image, config.size)
    found = saved.state.get("model", {}).get("image") if saved is not None else None
    if not isinstance(found, Tensor):
        raise ValueError(
            "wanted an image to learn from, got none" if saved is None else "the checkpoint holds no image"
        )
    return found
