"""Channels taken away from attention: what stays computes what a module built for so many channels does."""

import copy

import pytest
import torch
from inputs import draw, randomise
from tolerances import assert_close
from torch import nn

from sase_attn import SASEBlock, genotypes, list_ops
from sase_attn.attention import Attention
from sase_attn.attentions import ATTENTIONS, create_attention
from sase_attn.ops import Op, create_op
from sase_attn.pruning import groups_of, keep_channels, pruners, torch_pruning_arguments

pytestmark = pytest.mark.usefixtures("one_thread")

WIDE, NARROW = 32, 16
# Options by which the narrow module has the widths inside of the wide one.
BOTH = {"ean": {"groups": 4}, "psa": {"groups": (1, 2, 2, 2)}, "gsop": {"width": 8}}
NARROW_ONLY = {
    name: {"rd_ratio": 1 / 8} for name in ("se", "cbam", "bam", "gc", "ge_theta_plus", "sase", "tiled_se")
} | {
    "scse": {"rd_ratio": 1},
    "double_attention": {"rd_ratio": 1 / 2},
    "glam": {"rd_channels": 8, "kernel_size": 3},
    "eca": {"kernel_size": 3},
}
# Neighbouring channels matter to these.
ORDERED = {"eca", "mca_e", "mca_s", "glam"}
ORDERED_OPS = {"conv1d_k3", "conv1d_k5", "conv1d_k7", "conv1d_k3_x2", "conv1d_k3_x3", "gsop", "gsop_sample"}
OPS = [(op_set, name) for op_set in list_ops() for name in list_ops(op_set)]


def in_groups(module: nn.Module, of_one: list[int]) -> list[int]:
    size = module.channels // groups_of(module)
    kept = [index for index in of_one if index < size]
    return [start + index for start in range(0, module.channels, size) for index in kept]


def pruned(module: nn.Module, kept: list[int]) -> nn.Module:
    module = copy.deepcopy(module)
    keep_channels(module, kept)
    return module


def made(name: str, channels: int) -> nn.Module:
    options = BOTH.get(name, {}) | (NARROW_ONLY.get(name, {}) if channels == NARROW else {})
    if name == "eca":
        options["kernel_size"] = 3
    return randomise(create_attention(name, channels, **options)).eval()


@pytest.mark.parametrize("name", [name for name in ATTENTIONS if name not in ("att_darts", "autola")])
def test_is_what_is_built_for_so_many_channels(name):
    wide, narrow = made(name, WIDE), made(name, NARROW)
    kept = in_groups(wide, list(range(1, WIDE, 2)))
    few = pruned(wide, kept)
    assert few.channels == NARROW == len(kept)
    narrow.load_state_dict(few.state_dict())
    x = draw(2, NARROW, 9, 8)
    assert_close(few(x), narrow(x))
    for (key, layer), theirs in zip(few.named_modules(), narrow.modules(), strict=True):
        for width in ("in_channels", "out_channels", "groups", "num_features"):
            assert getattr(layer, width, None) == getattr(theirs, width, None), (key, width)


@pytest.mark.parametrize("name", [name for name in ATTENTIONS if name not in ORDERED])
def test_every_axis_of_the_channels_follows(name):
    module = made(name, WIDE)
    size = WIDE // groups_of(module)
    order = in_groups(module, torch.randperm(size, generator=torch.Generator().manual_seed(0)).tolist())
    x = draw(2, WIDE, 9, 8)
    assert_close(pruned(module, order)(x[:, order]), module(x)[:, order])
    assert size > 1


@pytest.mark.parametrize(("op_set", "name"), OPS)
def test_operations(op_set, name):
    op = randomise(create_op(op_set, name, WIDE, size=5)).eval()
    shape = {"channel_excite": (2, WIDE, 1, 1), "spatial_excite": (2, 1, 9, 8)}.get(op_set, (2, WIDE, 9, 8))
    x = draw(*shape)
    size = WIDE // groups_of(op)
    order = in_groups(op, list(reversed(range(size))))
    if name not in ORDERED_OPS or op_set.startswith("spatial"):
        expected = op(x)
        taken = x if x.shape[1] == 1 else x[:, order]
        assert_close(pruned(op, order)(taken), expected if expected.shape[1] == 1 else expected[:, order])
    kept = in_groups(op, list(range(0, size, 2)))
    few = pruned(op, kept)
    assert few.channels == len(kept) < WIDE
    assert few(x if x.shape[1] == 1 else x[:, kept]).shape[1] in (1, len(kept))


@pytest.mark.parametrize("genotype", genotypes)
def test_block_keeps_its_keys_and_gradients(genotype):
    block = randomise(SASEBlock(WIDE, genotype))
    keys = block.state_dict().keys()
    block.channel_excite.fc1.weight.requires_grad_(False)
    block(draw(2, WIDE, 5, 4)).sum().backward()
    gradient = block.channel_gate.alpha.grad.clone()
    keep_channels(block, [3, 1])
    assert block.state_dict().keys() == keys
    assert not block.channel_excite.fc1.weight.requires_grad
    assert torch.equal(block.channel_gate.alpha.grad, gradient[[3, 1]])
    assert block(draw(2, 2, 5, 4)).shape == (2, 2, 5, 4)


def test_wrong_channels():
    block = SASEBlock(8)
    for kept in ([], [8], [-1], [1, 1]):
        with pytest.raises(ValueError, match="kept must be different channels from 0 to 7"):
            keep_channels(block, kept)
    with pytest.raises(ValueError, match="EAN has 4 groups of 2 channels"):
        keep_channels(create_attention("ean", 8, groups=4), [0, 1, 2])
    with pytest.raises(TypeError, match="Conv2d does not say where its channels are"):
        keep_channels(nn.Conv2d(8, 8, 1), [0])


class Silent(Attention):
    """An attention that does not say where its channels are."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.channels, self.weight = channels, nn.Parameter(torch.ones(channels, 1, 1))

    def attend(self, x):
        return x * self.weight


class SilentOp(Op):
    """An operation that does not."""

    def build(self, size, rd_ratio, **place):
        self.weight = nn.Parameter(torch.ones(self.channels, 1, 1))


def test_what_does_not_say_where_its_channels_are_keeps_them():
    block = SASEBlock(8)
    block.channel_gate = SilentOp(8)
    for module in (Silent(), block):
        with pytest.raises(TypeError, match="Silent.* does not say where its channels are: give it a method"):
            keep_channels(module, [0])
        assert pruners()[type(module)].get_out_channels(module) == 1
    block.channel_gate = nn.Conv2d(8, 8, 1)
    with pytest.raises(TypeError, match="SASEBlock does not say"):
        keep_channels(block, [0])


def test_attention_is_one_step_for_torch_pruning():
    conv, block = nn.Conv2d(3, 8, 1), SASEBlock(8)
    model = nn.Sequential(conv, block).eval()
    x = draw(2, 3, 5, 4)
    arguments = torch_pruning_arguments()
    seen = []
    block.register_forward_hook(lambda module, inputs, output: seen.append(output.grad_fn))
    y = arguments["forward_fn"](model, x)
    assert_close(y, model(x))
    steps, todo = set(), [seen[0]]
    while todo:
        step = todo.pop()
        if step is not None and step.name() not in steps:
            steps.add(step.name())
            todo += [following for following, _ in step.next_functions]
    assert steps == {"AddBackward0", "SubBackward0", "ConvolutionBackward0", "torch::autograd::AccumulateGrad"}
    assert len(block._forward_hooks) == 1
    mine = arguments["customized_pruners"][SASEBlock]
    mine.prune_out_channels(block, [0, 7])
    assert block.channels == mine.get_in_channels(block) == 6
    assert mine.prune_in_channels == mine.prune_out_channels
    squeeze = create_op("spatial_squeeze", "l2norm_channel", 8)
    of_map = arguments["customized_pruners"][type(squeeze)]
    of_map.prune_out_channels(squeeze, [0])
    assert (squeeze.channels, of_map.get_out_channels(squeeze)) == (8, 1)
    of_map.prune_in_channels(squeeze, [0])
    assert squeeze.channels == 7
