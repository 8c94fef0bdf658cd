"""`ScaleTrainer`: the two networks of one scale, their optimizers, and one iteration of their training."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam

from sase_attn.spatially_adaptive.synthesis.one_shot.config import OneShotConfig
from sase_attn.spatially_adaptive.synthesis.one_shot.losses import gradient_penalty
from sase_attn.spatially_adaptive.synthesis.one_shot.model import OneShotModel
from sase_attn.spatially_adaptive.synthesis.one_shot.networks import ScaleDiscriminator, start_from
from sase_attn.spatially_adaptive.synthesis.one_shot.pyramid import resized


def learning_rate(config: OneShotConfig, iteration: int) -> float:
    """The learning rate of an iteration of a scale, counted from 0: a tenth from four fifths of them on."""
    return config.lr * (0.1 if iteration >= 0.8 * config.iterations else 1.0)


class ScaleTrainer:
    """Trains one scale of a model; the coarser ones do not change.

    Unless `resumed`, it copies the weights of the coarser scale to the scale, and sets the scale's noise amplitude.

    Args:
        config: the settings.
        model: the model that the scale belongs to.
        scale: index of the scale.
        coarser: the discriminator of the scale before.
        resumed: whether weights and amplitude are in the model already.
    """

    def __init__(
        self,
        config: OneShotConfig,
        model: OneShotModel,
        scale: int,
        coarser: ScaleDiscriminator | None = None,
        *,
        resumed: bool = False,
    ) -> None:
        self.config, self.model, self.scale = config, model, scale
        device = model.anchor.device
        self.real = model.real(scale)
        self.generator = model.generators[scale]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed * 1_000_003 + scale + 1)
            self.discriminator = ScaleDiscriminator(scale, model.width).to(device)
        model.eval()
        self.before = self._before()
        if not resumed:
            if scale > 0:
                start_from(self.generator, model.generators[scale - 1])
            if coarser is not None:
                start_from(self.discriminator, coarser)
            wrong = functional.mse_loss(self.before, self.real).sqrt() if scale > 0 else None
            model.amplitudes[scale] = 1.0 if wrong is None else config.noise * wrong
        self.optimizers = [
            Adam(network.parameters(), lr=config.lr, betas=(config.betas[0], config.betas[1]))
            for network in (self.generator, self.discriminator)
        ]
        self.generator.train()
        self.discriminator.train()

    @torch.no_grad()
    def _before(self) -> Tensor:
        """The input that this scale reconstructs the image from: fixed noise at the coarsest, then a coarser image."""
        if self.scale == 0:
            return self.model.anchor
        return resized(self.model.reconstruct(self.scale), self.model.sizes[self.scale])

    def step(self, iteration: int) -> dict[str, float]:
        """Train for one iteration: steps of the discriminator with new noise each, then of the generator with the last.

        The generated image is computed anew for each step of the generator, because each step changes its weights.
        Returns the losses of the last step of each network.
        """
        for_generator, for_discriminator = self.optimizers
        for optimizer in self.optimizers:
            optimizer.param_groups[0]["lr"] = learning_rate(self.config, iteration)
        for _ in range(self.config.inner_steps):
            noisy = self._noisy()
            for_discriminator.zero_grad()
            with torch.no_grad():
                fake = self.generator(noisy)
            real_score, fake_score = self.discriminator(self.real).mean(), self.discriminator(fake).mean()
            penalty = gradient_penalty(self.discriminator, self.real, fake)
            judged = fake_score - real_score + self.config.penalty * penalty
            judged.backward()
            for_discriminator.step()
        self.discriminator.requires_grad_(False)
        for _ in range(self.config.inner_steps):
            for_generator.zero_grad()
            made = -self.discriminator(self.generator(noisy)).mean()
            rebuilt = functional.mse_loss(self.generator(self.before), self.real)
            (made + self.config.reconstruction * rebuilt).backward()
            for_generator.step()
        self.discriminator.requires_grad_(True)
        names = ("real_score", "fake_score", "penalty", "reconstruction_rmse")
        values = (real_score, fake_score, penalty, rebuilt.sqrt())
        return {name: value.item() for name, value in zip(names, values, strict=True)}

    @torch.no_grad()
    def _noisy(self) -> Tensor:
        """A new random input for the generator of this scale."""
        model, device = self.model, self.model.anchor.device
        coarse = model.generate(
            model.sizes[: self.scale],
            lambda shape: torch.randn(shape, device=device),
            model.anchor.new_zeros(1, 3, *model.sizes[0]),
        )
        coarse = resized(coarse, model.sizes[self.scale])
        return coarse + model.amplitudes[self.scale] * torch.randn_like(coarse)

    @torch.no_grad()
    def settle(self) -> None:
        """End the scale: set the statistics of its norms from the reconstruction, so that eval mode repeats it.

        A running average, as in SinGAN, comes half from generated images, and reconstructs the image worse.
        """
        norms = [module for module in self.generator.modules() if isinstance(module, nn.BatchNorm2d)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 1.0
        self.generator(self.before)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        self.generator.eval()

    def state_dict(self) -> dict[str, Any]:
        """The state of the discriminator and both optimizers; the generator belongs to the model's state."""
        return {
            "discriminator": self.discriminator.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned."""
        self.discriminator.load_state_dict(state["discriminator"])
        for optimizer, values in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(values)
