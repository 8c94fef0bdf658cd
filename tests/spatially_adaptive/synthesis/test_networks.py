"""The two networks: sizes, exact differences of parameters, batches of one, and generators without spectral norm."""

import pytest
import synthesis_driver as networks
import torch

from sase_attn.modules import count_parameters
from sase_attn.spatially_adaptive import SkipLayerExcitation, SpatiallyAdaptiveSkip
from sase_attn.spatially_adaptive.synthesis.discriminator import Discriminator
from sase_attn.spatially_adaptive.synthesis.generator import SIZES, SKIPS, Generator

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("size", "skip"), list(zip(SIZES, ("spatial", "sle", "spatial", "sle", "spatial"), strict=True))
)
def test_shapes(size, skip):
    with torch.device("meta"):
        generator = Generator(size, 8, latent=5, skip=skip, spectral_norm=False)
        discriminator = Discriminator(size, 8, spectral_norm=False)
        images, small = generator.pair(torch.zeros(2, 5))
        assert images.shape == (2, 3, size, size)
        assert small.shape == (2, 3, min(128, size // 2), min(128, size // 2))
        assert discriminator(images, small).shape == (2, 50)
        logits, drawn = discriminator.look(images, small, 3)
        assert logits.shape == (2, 50)
        assert {image.shape for pair in drawn for image in pair} == {(2, 3, min(128, size), min(128, size))}


def test_skips_are_those_of_the_paper():
    """The parameters of width 64, from 8x8, 16x16 and 32x32 maps."""
    with torch.device("meta"):
        sle, spatial = (Generator(1024, 64, skip=skip, spectral_norm=False) for skip in SKIPS)
        small = Generator(64, 64, skip="spatial", spectral_norm=False)
    counts = {name: (count_parameters(sle.skips[name]), count_parameters(spatial.skips[name])) for name in sle.skips}
    noise = 1  # of the masks, at 1024 pixels
    assert counts == {
        "64": (2_113_536, 2_113_536),
        "128": (528_384, 15_524 + noise),
        "256": (132_096, 4_052 + noise),
        "512": (33_024, 1_100 + noise),
    }
    assert isinstance(spatial.skips["64"], SkipLayerExcitation)
    assert isinstance(small.skips["64"], SpatiallyAdaptiveSkip)


@pytest.mark.parametrize("skip", SKIPS)
def test_batch_of_one_trains_every_parameter(skip):
    """Also the images differ although styles have no batch norm."""
    generator, discriminator = Generator(128, 1, 8, skip, style_norm=False), Discriminator(128, 1)
    made = generator.pair(torch.randn(1, 8))
    seen = discriminator.look(*(image.detach() for image in made), 2)
    (seen.logits.sum() + sum((image - wanted).square().sum() for image, wanted in seen.drawn)).backward()
    discriminator(*made).sum().backward()
    for network in (generator, discriminator):
        assert [name for name, value in network.named_parameters() if value.grad is None] == []


def test_plain_weights_give_the_same_images():
    generator = networks.generator(128)
    plain = generator.plain()
    assert generator.training and not plain.training
    assert not [name for name in plain.state_dict() if "parametrizations" in name]
    assert torch.equal(plain.sample(3, seed=1), generator.sample(3, seed=1))


def test_samples_are_a_function_of_the_seed():
    generator = networks.generator(64)
    state = torch.random.get_rng_state()
    first = generator.sample(3, seed=4)
    assert first.dtype == torch.uint8 and first.shape == (3, 3, 64, 64)
    assert torch.equal(first, generator.sample(3, seed=4)) and not torch.equal(first, generator.sample(3, seed=5))
    assert torch.equal(generator.latents(2, 4), generator.latents(3, 4)[:2])
    assert torch.equal(state, torch.random.get_rng_state()) and generator.training
    batches = list(generator.batches(5, 4, batch_size=3))
    assert [len(batch) for batch in batches] == [3, 2] and torch.equal(batches[0], generator.sample(3, 4, 3))
    with pytest.raises(ValueError, match="got 0"):
        generator.sample(0)


def test_first_weights_are_drawn_before_the_spectral_norm():
    generator = Generator(64, 8, 8)
    original = generator.doublings["8"][1].parametrizations.weight.original
    assert 0.018 < float(original.detach().std()) < 0.022
    weight = generator.doublings["8"][1].weight.detach()
    assert float(torch.linalg.matrix_norm(weight.flatten(1), 2)) == pytest.approx(1, abs=0.1)
