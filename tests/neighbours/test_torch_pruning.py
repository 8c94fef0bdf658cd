"""Channels of networks taken away by torch-pruning."""

import copy

import networks
import pytest
import torch
from torch import nn

from sase_attn import SASEBlock, attach
from sase_attn.attentions import ATTENTIONS
from sase_attn.pruning import torch_pruning_arguments


def pruner(network, **options):
    import torch_pruning

    kind = getattr(torch_pruning.pruner, options.pop("kind", "MagnitudePruner"))
    importance = torch_pruning.importance.GroupMagnitudeImportance()
    ignored = [network.get_classifier()]
    image = torch.randn(1, 3, 32, 32)
    arguments = {"importance": importance, "pruning_ratio": 0.5, "ignored_layers": ignored} | options
    return kind(network, image, **arguments, **torch_pruning_arguments())


@pytest.mark.works_with(
    "torch-pruning", "half the channels of a SASE ResNet, by three pruners: outputs at once, training"
)
@pytest.mark.parametrize("kind", ["MagnitudePruner", "GroupNormPruner", "BNScalePruner"])
def test_block(kind):
    network = networks.network("sase_resnet20", layers=[1, 1, 1])
    before = copy.deepcopy(network)
    pruner(network, kind=kind).step()
    blocks = [module for module in network.modules() if isinstance(module, SASEBlock)]
    assert [block.channels for block in blocks] == [8, 16, 32]
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    # What is left is what is built for so many channels.
    for block in blocks:
        rebuilt = SASEBlock(block.channels, block.genotype, rd_channels=block.channel_excite.fc1.weight.shape[0])
        rebuilt.load_state_dict(block.state_dict())
        x = torch.randn(2, block.channels, 9, 8)
        torch.testing.assert_close(rebuilt.eval()(x), block(x))
    network.train()(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    assert sum(p.numel() for p in network.parameters()) < sum(p.numel() for p in before.parameters()) / 3


@pytest.mark.works_with(
    "torch-pruning", "a channel that is 0 behind every gate: the outputs stay when it is taken away"
)
def test_channels_that_do_nothing():
    from torch_pruning import DependencyGraph, prune_conv_out_channels

    conv, block, last = nn.Conv2d(3, 8, 1), SASEBlock(8, "sase_paper"), nn.Conv2d(8, 4, 1)
    network = nn.Sequential(conv, block, last).eval()
    x = torch.randn(2, 3, 6, 5)
    graph = DependencyGraph().build_dependency(network, x, **torch_pruning_arguments())
    group = graph.get_pruning_group(conv, prune_conv_out_channels, [2, 5])
    assert {id(dep.target.module) for dep, _ in group} >= {id(conv), id(block), id(last)}
    wide = copy.deepcopy(block)
    group.prune()
    kept = [0, 1, 3, 4, 6, 7]
    assert (conv.out_channels, block.channels, last.in_channels) == (6, 6, 6)
    for name, value in block.channel_gate.named_parameters():
        assert torch.equal(value, wide.channel_gate.get_parameter(name)[kept])
    torch.testing.assert_close(network(x), last(block(conv(x))))


@pytest.mark.works_with(
    "torch-pruning", "every attention of this library in a ResNet: pruned, or kept as wide as it is"
)
@pytest.mark.parametrize("name", [name for name in ATTENTIONS if name != "tiled_se"])
def test_attentions(name):
    network = networks.network("resnet20_cifar", layers=[1, 1, 1])
    attach(network, after="layer1.0.bn2", attn=name, attn_args={"width": 8} if name == "gsop" else None)
    pruner(network).step()
    attention = network.get_submodule("layer1.0.bn2.attn")
    assert attention.channels == network.get_submodule("layer1.0.bn2.host").num_features
    assert attention.channels == (16 if name in ("ean", "psa") else 8)  # whose groups are as narrow as a channel
    assert network(torch.randn(2, 3, 32, 32)).isfinite().all()
