"""What a training will take, told before it starts: memory by arithmetic, time by two steps of throw-away networks."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sase_attn.modules import count_parameters
from sase_attn.spatially_adaptive.synthesis.augment import augmented
from sase_attn.spatially_adaptive.synthesis.config import SynthesisConfig
from sase_attn.spatially_adaptive.synthesis.discriminator import Discriminator
from sase_attn.spatially_adaptive.synthesis.generator import Generator
from sase_attn.spatially_adaptive.synthesis.images import TrainingImages
from sase_attn.spatially_adaptive.synthesis.trainer import Trainer

BYTES = 4  # of a float32
COPIES = (5, 4)  # of each weight: itself, its gradient, Adam's two averages; and the generator's average


@dataclass(frozen=True)
class Memory:
    """Bytes of weights with all that goes with them, and of what a step holds at its height."""

    weights: int
    step: int

    def sentence(self, taken: int) -> str:
        """For people: all of it, where so much has been taken before."""
        return (
            f"memory: about {_size(taken + self.weights + self.step)}: {_size(taken)} by now, "
            f"{_size(self.weights)} for networks and optimizers, {_size(self.step)} for a step"
        )


def memory(config: SynthesisConfig) -> Memory:
    """The memory of a training, counted on networks without numbers.

    A step is at its height when the generator's loss has passed both networks.
    """
    with torch.device("meta"):
        generator, discriminator = _networks(config)
        latent = torch.zeros(config.batch_size, config.latent)
        real = torch.zeros(config.batch_size, 3, config.size, config.size)
    kept = Kept()
    with kept:
        made = generator.pair(latent)
    with kept:
        discriminator(*(augmented(part, config.augment) for part in made))
    judged = kept.bytes
    kept = Kept()
    with kept:
        discriminator.look(real, torch.zeros_like(made[1]), 0)
    networks = zip((generator, discriminator), COPIES, strict=True)
    weights = sum(times * count_parameters(network) * BYTES for network, times in networks)
    return Memory(weights, max(judged, kept.bytes))


def seconds_a_step(config: SynthesisConfig, images: TrainingImages, device: torch.device) -> float:
    """The time of the second of two steps; networks, numbers and random draws of the training stay as they are."""
    trainer = Trainer(config, device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(config.seed)
        for step in range(2):
            start = time.perf_counter()
            trainer.step(images.batch(config.seed, step, config.batch_size), step + 1)
    return time.perf_counter() - start


def duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 90:
        return f"{max(1, round(seconds))} seconds"
    return f"{round(seconds / 60)} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


class Kept:
    """Within the context the bytes of tensors that wait for a backward pass are added up, each storage once."""

    def __init__(self) -> None:
        self.bytes = 0
        self._seen: dict[int, Tensor] = {}
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._count, lambda tensor: tensor)

    def _count(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._seen and not isinstance(tensor, nn.Parameter):
            self._seen[storage._cdata] = tensor  # keeps the storage, and so its number
            self.bytes += storage.nbytes()
        return tensor

    def __enter__(self) -> None:
        self._hooks.__enter__()

    def __exit__(self, *error: object) -> None:
        self._hooks.__exit__(*error)


def _networks(config: SynthesisConfig) -> tuple[Generator, Discriminator]:
    return (
        Generator(**config.network(), spectral_norm=False),
        Discriminator(config.size, config.width, spectral_norm=False),
    )
