"""An estimate of the time of a training on one image before it starts, by two iterations of a copy."""

import copy
import time

import torch

from sase_attn.spatially_adaptive.synthesis.one_shot.config import OneShotConfig
from sase_attn.spatially_adaptive.synthesis.one_shot.model import OneShotModel
from sase_attn.spatially_adaptive.synthesis.one_shot.trainer import ScaleTrainer


def estimated_seconds(config: OneShotConfig, model: OneShotModel) -> float:
    """The time of all iterations of all scales, from the second of two at the finest scale.

    The other scales are assumed to take time in proportion to their pixels. The model and torch's random generators
    stay as they are.
    """
    device, last = model.anchor.device, len(model.sizes) - 1
    pixels = [height * width for height, width in model.sizes]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        trainer = ScaleTrainer(config, copy.deepcopy(model), last)
        for _ in range(2):
            start = time.perf_counter()
            trainer.step(0)
    return (time.perf_counter() - start) * config.iterations * sum(pixels) / pixels[last]
