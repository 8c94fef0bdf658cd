"""`create_supernet`: a network with super-network blocks after the layers that a search's configuration names."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

from sase_attn.block import SASEBlock
from sase_attn.insert import attach
from sase_attn.insert.meta_forward import map_shapes
from sase_attn.modules import matching
from sase_attn.ops.layers import Mixer
from sase_attn.search.config import ALPHA_DRAW, SearchConfig
from sase_attn.search.space import SearchSpace
from sase_attn.search.supernet.architecture import Architecture
from sase_attn.search.supernet.block import blocks_of
from sase_attn.search.supernet.centred import centre_gates
from sase_attn.training.data.order import seeded_generator
from sase_attn.training.network import create_network
from sase_attn.training.recipes import Recipe


def create_supernet(
    config: SearchConfig,
    *,
    num_classes: int,
    in_chans: int,
    size: tuple[int, int] | None = None,
    echo: Callable[[str], object] = print,
) -> nn.Module:
    """The network of a configuration with super-network blocks after the layers that it names.

    Layers before a block whose weight starts at zero, as timm's ResNets have them, start at one instead, unless
    `last_norm_init` says otherwise: on a map of zeros all operations have the same output, so alpha has no gradient.

    Args:
        config: names the model, the layers, the space and the initial weights.
        num_classes, in_chans: the number of classes and of image channels of the data.
        size: (H, W) of the images, from which `position_weights="map"` computes the sizes of the maps; by default the
            model's own.
        echo: called with a line for each thing that was changed to make weights fit.

    Raises:
        UnknownNameError: no such model, or no layer of that name.
        ValueError: the network has blocks already, or see `create_network` and `attach`; or a trial pass fails.
    """
    recipe = Recipe(model=config.model, model_kwargs=config.model_kwargs, seed=config.seed)
    model = create_network(recipe, num_classes=num_classes, in_chans=in_chans, echo=echo)
    if any(isinstance(module, SASEBlock) for module in model.modules()):
        raise ValueError(
            f"{config.model} has SASE blocks already: wanted a plain network, such as "
            f"{'resnet20_cifar' if config.model == 'sase_resnet20' else config.model.removeprefix('sase_')}"
        )
    hosts = matching(dict(model.named_modules()), config.after)
    sizes = _map_sizes(model, hosts, size) if config.position_weights == "map" else dict.fromkeys(hosts)
    block = config.search_space().block
    for host in hosts:
        attach(model, after=host, attn=block, attn_args={"size": sizes[host]})
        weight = getattr(model.get_submodule(f"{host}.host"), "weight", None)
        if config.last_norm_init == "one" and weight is not None and not weight.any():
            nn.init.ones_(weight)
    if config.conv_init == "torch":
        _draw_as_torch(model)
    return model


def _map_sizes(
    model: nn.Module, hosts: Sequence[str], size: tuple[int, int] | None
) -> dict[str, tuple[int, int] | None]:
    """(H, W) of the output maps of layers."""
    shapes = map_shapes(model, hosts, size)
    for host in hosts:
        if host not in shapes:
            raise ValueError(f"cannot tell the size of the map of {host}: no forward pass reaches it")
    return {host: (shapes[host][1][2], shapes[host][1][3]) for host in hosts}


def _draw_as_torch(model: nn.Module) -> None:
    """Draw convolutions, and the mixers, which are 2→1 convolutions, as torch draws a convolution."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.reset_parameters()
        elif isinstance(module, Mixer):
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5))


def architecture_of(model: nn.Module, space: SearchSpace) -> Architecture:
    """The one architecture that all blocks of a network share.

    Raises:
        ValueError: the network has no blocks, blocks of several architectures, or of another space.
    """
    found = {id(block.shared_architecture): block.shared_architecture for _, block in blocks_of(model)}
    if len(found) != 1:
        raise ValueError(
            "wanted super-network blocks that share one alpha, as attach(model, after=…, attn=space.block) makes them; "
            f"found {'none' if not found else f'{len(found)} alphas'}"
        )
    (architecture,) = found.values()
    if architecture.columns != dict(space.ops):
        raise ValueError("the network's blocks were made for another space than the one given")
    if not any(parameter is architecture.alpha for parameter in model.parameters()):
        raise ValueError("the block that owns alpha is not part of the network")
    return architecture


def prepare(model: nn.Module, architecture: Architecture, config: SearchConfig) -> None:
    """Draw alpha by the seed, start the gates, choose the implementation of the blocks, and the memory format."""
    architecture.draw(seeded_generator(config.seed, ALPHA_DRAW), config.alpha_std)
    start_gates(model, config)
    for _, block in blocks_of(model):
        block.reference = config.reference
        if config.compile:
            block.compile()
    if config.channels_last:
        model.to(memory_format=torch.channels_last)


def start_gates(model: nn.Module, config: SearchConfig) -> None:
    """Centre the gates of all blocks if the configuration says so. Call it before weights are loaded or trained."""
    if config.gate_init != "drawn":
        for _, block in blocks_of(model):
            centre_gates(block, constant=config.gate_init == "constant")
