"""Estimates before a training starts: memory by counting tensors, time by two steps with temporary networks."""

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

BYTES = 4  # bytes of a float32
COPIES = (5, 4)  # numbers per weight: itself, its gradient, Adam's two averages; for the generator also its average


@dataclass(frozen=True)
class Memory:
    """Bytes of the weights with gradients and optimizer states, and of a step's activations at their peak."""

    weights: int
    step: int

    def sentence(self, taken: int) -> str:
        """The estimate as text, given the bytes that the process has taken already."""
        return (
            f"memory: about {_size(taken + self.weights + self.step)}: {_size(taken)} by now, "
            f"{_size(self.weights)} for networks and optimizers, {_size(self.step)} for a step"
        )


def memory(config: SynthesisConfig) -> Memory:
    """The memory of a training, counted with networks on the meta device.

    The activations peak when the generator's loss has passed both networks, or in the discriminator's step.
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
    """The time of the second of two steps of temporary networks; torch's random generators stay as they are."""
    trainer = Trainer(config, device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(config.seed)
        for step in range(2):
            start = time.perf_counter()
            trainer.step(images.batch(config.seed, step, config.batch_size), step + 1)
    return time.perf_counter() - start


def duration(seconds: float) -> str:
    """A time in seconds, as text in suitable units."""
    if seconds < 90:
        return f"{max(1, round(seconds))} seconds"
    return f"{round(seconds / 60)} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


class Kept:
    """Within the context, adds up the bytes of tensors saved for a backward pass, each storage once."""

    def __init__(self) -> None:
        self.bytes = 0
        self._seen: dict[int, Tensor] = {}
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._count, lambda tensor: tensor)

    def _count(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._seen and not isinstance(tensor, nn.Parameter):
            self._seen[storage._cdata] = tensor  # keeps the storage alive, so that its address stays its own
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
