"""`Trainer`: steps of the discriminator and the generator, with all the state that they change."""

from typing import Any

import torch
from torch import Tensor

from sase_attn.modules import is_finite
from sase_attn.spatially_adaptive.synthesis.augment import augmented
from sase_attn.spatially_adaptive.synthesis.average import Average
from sase_attn.spatially_adaptive.synthesis.config import SynthesisConfig
from sase_attn.spatially_adaptive.synthesis.discriminator import Discriminator, resized
from sase_attn.spatially_adaptive.synthesis.generator import Generator, as_values
from sase_attn.spatially_adaptive.synthesis.losses import generator_loss, hinge
from sase_attn.spatially_adaptive.synthesis.reconstruction import distance


class Trainer:
    """The two networks, their optimizers and the averaged generator.

    Initial weights follow from the seed. Random draws of a step come from torch's generator, which the caller seeds.

    Args:
        config: the settings of the training.
        device: the device to train on.

    Raises:
        ValueError, OSError, ImportError: see `reconstruction.distance`.
    """

    def __init__(self, config: SynthesisConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self._distance = distance(config.reconstruction, config.lpips_weights, device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.generator = Generator(**config.network()).to(device)
            self.discriminator = Discriminator(config.size, config.width).to(device)
        self.average = Average(self.generator, config.average)
        betas = config.betas[0], config.betas[1]
        self._optimizers = [
            torch.optim.Adam(network.parameters(), lr=config.lr, betas=betas)
            for network in (self.generator, self.discriminator)
        ]

    def step(self, images: Tensor, number: int) -> dict[str, float]:
        """Train both networks with a batch of uint8 images, and return the losses; the first `number` is 1."""
        real = as_values(images.to(self.device))
        if self.config.flip:
            mirrored = torch.rand(len(real), 1, 1, 1, device=real.device) < 0.5
            real = torch.where(mirrored, real.flip(3), real)
        latent = torch.randn(len(real), self.config.latent, device=self.device)
        made = self.generator.pair(latent)
        losses = self._discriminator_step(real, [part.detach() for part in made])
        losses["generator"] = self._generator_step(made)
        self.average.update(self.generator, number)
        return losses

    def _discriminator_step(self, real: Tensor, made: list[Tensor]) -> dict[str, float]:
        names, discriminator = self.config.augment, self.discriminator
        discriminator.requires_grad_(True)
        discriminator.zero_grad(set_to_none=True)
        changed = augmented(real, names)
        quarter = int(torch.randint(4, ()))
        seen = discriminator.look(changed, resized(changed, discriminator.small_size), quarter)
        judged = hinge(seen.logits, real=True)
        drawn = torch.stack([self._distance(image, wanted) for image, wanted in seen.drawn]).sum()
        (judged + drawn).backward()  # before the generated images are judged, which halves the memory
        fooled = hinge(discriminator(*(augmented(part, names) for part in made)), real=False)
        fooled.backward()
        self._optimizers[1].step()
        return {"real": judged.item(), "made": fooled.item(), "reconstruction": drawn.item()}

    def _generator_step(self, made: tuple[Tensor, Tensor]) -> float:
        self.discriminator.requires_grad_(False)
        self.generator.zero_grad(set_to_none=True)
        loss = generator_loss(self.discriminator(*(augmented(part, self.config.augment) for part in made)))
        loss.backward()
        self._optimizers[0].step()
        return loss.item()

    def is_finite(self) -> bool:
        """Whether every weight of both networks is finite."""
        return is_finite(self.generator) and is_finite(self.discriminator)

    def state_dict(self) -> dict[str, Any]:
        """All state that a step reads and changes."""
        return {
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "average": self.average.generator.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state of `state_dict`. Raises KeyError, RuntimeError or ValueError if it does not fit."""
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.average.generator.load_state_dict(state["average"])
        for optimizer, values in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(values)
