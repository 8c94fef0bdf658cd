"""Spaces and super-networks: the mixture against the sum by hand, its sub-networks against SASE blocks, one alpha."""

import copy
import itertools

import pytest
import timm
import torch
from inputs import draw, randomise
from safetensors.torch import load, save
from tolerances import assert_close
from torch import nn

from sase_attn import Genotype, SASEBlock, attach, genotypes, kernels
from sase_attn.errors import UnknownNameError
from sase_attn.genotype import EDGES
from sase_attn.ops import OP_SETS, Op
from sase_attn.search import SearchBlock, SearchSpace
from sase_attn.search.supernet.architecture import Architecture

pytestmark = pytest.mark.usefixtures("one_thread")
RELEASE = SearchSpace.get("release")
SMALL = SearchSpace(
    {
        "channel_squeeze": ("gap", "gap_gmp", "l4"),
        "channel_excite": ("fc", "affine"),
        "channel_gate": ("affine", "conv1d_k3_x2"),
        "spatial_squeeze_input": ("gap",),
        "spatial_squeeze_gated": ("l4", "gap_std"),
        "spatial_excite": ("conv2d_k3_x2", "sep_k5"),
    },
    residual=False,
)


def block(space, channels=8, **options):
    """A super-network block in float64 with random weights and distinct alphas."""
    made = randomise(SearchBlock(channels, space, dtype=torch.float64, **options))
    torch.manual_seed(1)
    with torch.no_grad():
        made.shared_architecture.alpha.copy_(torch.randn_like(made.shared_architecture.alpha))
    return made


@pytest.mark.parametrize("space", [RELEASE, SearchSpace.get("paper"), SMALL], ids=["release", "paper", "small"])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_every_edge_is_the_weighted_sum_of_its_operations(space, training):
    searched = block(space).train(training)
    weights = torch.stack(
        [
            torch.cat([row[: len(names)].softmax(0), row.new_zeros(len(row) - len(names))])
            for row, names in zip(searched.shared_architecture.alpha, space.ops.values(), strict=True)
        ]
    )
    x = draw(3, 8, 5, 6, dtype=torch.float64)

    def edge(name, value):
        row = weights[list(EDGES).index(name)]
        return sum(weight * op(value) for weight, op in zip(row, copy.deepcopy(getattr(searched, name)), strict=False))

    z = edge("channel_squeeze", x)
    fused = searched.mix.weight[0, 0] * edge("spatial_squeeze_gated", x * edge("channel_gate", z))
    fused = fused + searched.mix.weight[0, 1] * edge("spatial_squeeze_input", x)
    spatial = edge("spatial_excite", copy.deepcopy(searched.norm)(fused).relu())
    expected = x * (edge("channel_excite", z) + spatial) / 2 + space.residual * x
    assert_close(searched(x), expected, tolerance=1e-12)


def test_sub_networks_are_sase_blocks_with_the_same_weights():
    chosen = [*SMALL, *(RELEASE.random(seed) for seed in range(6)), genotypes["sase"]]
    searched = {False: block(SMALL), True: block(RELEASE)}
    x = draw(2, 8, 6, 5, dtype=torch.float64)
    for genotype in chosen:
        network = searched[genotype.residual]
        space = RELEASE if genotype.residual else SMALL
        derived = network.derive(genotype)
        assert isinstance(derived, SASEBlock) and derived.genotype == genotype
        with network.shared_architecture.choose(space.columns(genotype)), kernels.backend("torch"):
            assert torch.equal(copy.deepcopy(network)(x), derived(x)), genotype
    assert network.shared_architecture.chosen is None


def test_extreme_alphas_are_the_sub_network():
    """The mixture itself goes to the sub-network where one alpha of each edge is large."""
    searched, genotype = block(RELEASE), RELEASE.random(3)
    with torch.no_grad():
        searched.shared_architecture.alpha.zero_()
        for row, column in enumerate(RELEASE.columns(genotype)):
            searched.shared_architecture.alpha[row, column] = 60
    x = draw(2, 8, 6, 5, dtype=torch.float64)
    assert_close(searched(x), searched.derive(genotype)(x), tolerance=1e-12)


def test_every_alpha_and_weight_learns_and_padding_does_not():
    searched = block(SMALL, channels=16)
    searched(draw(2, 16, 6, 5, dtype=torch.float64)).square().sum().backward()
    architecture = searched.shared_architecture
    choices = torch.tensor([len(names) for names in SMALL.ops.values()])
    assert architecture.alpha.shape == (6, 3)
    assert torch.equal(architecture.alpha.grad != 0, architecture.mask & (choices[:, None] > 1))
    assert {name for name, p in searched.named_parameters() if p.grad is None} == {"norm.weight", "norm.bias"}


@pytest.mark.parametrize("host", ["attach", "attn_layer"])
def test_a_network_has_one_alpha(host):
    if host == "attach":
        model = timm.create_model("resnet20_cifar", zero_init_last=False)
        attach(model, after="layer*.*.bn2", attn=RELEASE.block)
    else:
        layers = dict(block=timm.models.resnet.BasicBlock, layers=(1, 1, 1, 1), channels=(8, 8, 16, 16))
        model = timm.models.ResNet(
            **layers, num_classes=10, zero_init_last=False, block_args=dict(attn_layer=RELEASE.block)
        )
    blocks = [module for module in model.modules() if isinstance(module, SearchBlock)]
    assert len(blocks) == (9 if host == "attach" else 4)
    assert len({id(module.shared_architecture) for module in blocks}) == 1
    assert sum(name.endswith("architecture.alpha") for name in model.state_dict()) == 1
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    (alpha,) = (p for name, p in model.named_parameters() if name.endswith("architecture.alpha"))
    assert (alpha.grad != 0).sum() > 36

    twin = copy.deepcopy(model)
    alphas = {id(module.shared_architecture.alpha) for module in twin.modules() if isinstance(module, SearchBlock)}
    assert len(alphas) == 1 and id(alpha) not in alphas
    assert RELEASE.block(8).shared_architecture is not blocks[0].shared_architecture  # another network's


def test_alphas_are_kept_with_the_names_of_their_columns():
    searched = block(SMALL)
    state = load(save({key: value.contiguous() for key, value in searched.state_dict().items()}))
    again = SearchBlock(8, SMALL, dtype=torch.float64)
    again.load_state_dict(state)
    assert torch.equal(again.shared_architecture.weights(), searched.shared_architecture.weights())
    reordered = SearchSpace({**SMALL.ops, "channel_excite": ("affine", "fc")}, residual=False)
    with pytest.raises(ValueError, match=r"these alphas are for channel_excite \('fc', 'affine'\)"):
        Architecture(reordered.ops).load_state_dict(searched.shared_architecture.state_dict())


def test_your_operation_is_searched(monkeypatch):
    class Median(Op):
        def forward(self, x):
            return x.float().median(dim=1, keepdim=True).values

    monkeypatch.setitem(OP_SETS["spatial_squeeze"], "median", Median)
    space = SearchSpace({**SMALL.ops, "spatial_squeeze_input": ("gap", "median")})
    searched = SearchBlock(8, space)
    searched(draw(2, 8, 4, 4)).sum().backward()
    assert searched.shared_architecture.alpha.grad[list(EDGES).index("spatial_squeeze_input"), :2].all()
    assert any(genotype.spatial_squeeze_input == "median" for genotype in space)


def test_spaces():
    assert RELEASE.size == SearchSpace.get("paper").size == 7**6
    assert RELEASE.residual and not SearchSpace.get("paper").residual
    assert SMALL.size == len(list(SMALL)) == len(set(SMALL)) == 48
    assert [SMALL.genotype(SMALL.columns(genotype)) for genotype in SMALL] == list(SMALL)
    assert [SMALL.columns(genotype) for genotype in itertools.islice(SMALL, 3)] == [
        (0, 0, 0, 0, 0, 0),
        (0, 0, 0, 0, 0, 1),
        (0, 0, 0, 0, 1, 0),
    ]
    assert RELEASE.random(5) == Genotype.random(5)
    assert all(genotype in set(SMALL) for genotype in map(SMALL.random, range(20)))
    assert SearchSpace.from_json(SMALL.to_json()) == SMALL
    reduced = RELEASE.without("l2norm", "gsop")
    assert reduced.size == 5 * 7 * 7 * 5 * 5 * 7 and "gap" in reduced.ops["channel_squeeze"]


@pytest.mark.parametrize(
    "change, error, message",
    [
        (dict(channel_gat=("fc",)), UnknownNameError, "unknown edge 'channel_gat'; did you mean channel_gate"),
        (dict(channel_gate=("fcc",)), UnknownNameError, "unknown channel_excite operation 'fcc'"),
        (dict(channel_gate=()), ValueError, "one operation or more for channel_gate"),
        (dict(channel_gate="fc"), ValueError, "one operation or more for channel_gate, got 'fc'"),
        (dict(channel_gate=("fc", "fc")), ValueError, "channel_gate names an operation twice: fc, fc"),
    ],
)
def test_wrong_spaces_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        SearchSpace({**SMALL.ops, **change})


def test_wrong_choices_are_refused():
    with pytest.raises(ValueError, match="channel_squeeze 'gsop' is not in the space, which has gap, gap_gmp, l4"):
        SMALL.columns(Genotype.parse(str(genotypes["sase"]).replace("gap_gmp", "gsop").replace("true", "false")))
    with pytest.raises(ValueError, match="the space has residual False, the genotype True"):
        SMALL.columns(genotypes["sase"])
    with (
        pytest.raises(ValueError, match=r"wanted one column below \[3, 2, 2, 1, 2, 2\]"),
        block(SMALL).shared_architecture.choose((0, 0, 0, 1, 0, 0)),
    ):
        pass
    with pytest.raises(UnknownNameError, match="unknown space 'relase'; did you mean release"):
        SearchSpace.get("relase")
    with pytest.raises(ValueError, match=r"\(B, 8, H, W\)"):
        SearchBlock(8, SMALL)(torch.zeros(1, 4, 2, 2))
    with pytest.raises(ValueError, match="JSON object"):
        SearchSpace.from_json("[]")
    assert isinstance(SearchBlock(8, SMALL), nn.Module)
