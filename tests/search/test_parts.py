"""What a search is made of: configuration, halves of the data, penalties, curvature, scales, and who is to blame."""

import math
from dataclasses import fields

import pytest
import search_driver as driver
import torch
from inputs import draw
from torch import nn

from sase_attn import attach
from sase_attn.errors import UnknownNameError
from sase_attn.genotype import EDGES
from sase_attn.ops import OP_SETS, Op
from sase_attn.search import SEARCHES, Architecture, SearchBlock, SearchConfig, SearchSpace
from sase_attn.search.result import stable_since
from sase_attn.search.shared_weights.curvature import has_grown, largest_eigenvalue
from sase_attn.search.shared_weights.diagnose import diagnose
from sase_attn.search.shared_weights.halves import divide, open_halves
from sase_attn.search.shared_weights.network import _map_sizes, architecture_of, create_supernet, prepare
from sase_attn.search.shared_weights.op_scales import energy_fractions, op_scales
from sase_attn.search.shared_weights.penalty import beta_penalty, entropy_penalty
from sase_attn.training.distributed import Ranks

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = Ranks(0, 1, torch.device("cpu"))
RELEASE = SearchSpace.get("release")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return driver.image_folder(tmp_path_factory.mktemp("data") / "corners")


@pytest.mark.parametrize("name", SEARCHES)
def test_configurations_survive_json(name):
    config = SEARCHES[name]
    assert SearchConfig.from_json(config.to_json()) == config == SearchConfig.get(name)


def test_recipes_are_the_paper_and_the_script():
    paper, script = SEARCHES["paper"], SEARCHES["release"]
    assert (paper.epochs, paper.batch_size, paper.order, paper.lr, paper.min_lr) == (50, 128, 2, 0.025, 1e-4)
    assert (paper.momentum, paper.weight_decay, paper.alpha_lr, paper.alpha_std) == (0.9, 5e-4, 3e-4, 1e-3)
    assert (paper.alpha_betas, paper.alpha_weight_decay, paper.clip_grad) == ((0.5, 0.999), 1e-3, 5.0)
    assert (paper.hvp, paper.radius, paper.train_portion, paper.space) == ("fd", 1e-2, 0.5, "paper")
    differ = {"epochs", "order", "val_order", "seed", "space", "split", "unmoved"}
    assert set(paper.differences(script)) == differ
    assert (script.space, script.hvp, script.split, script.unmoved) == ("release", "fd", "first", ("layer3",))
    assert (paper.position_weights, paper.conv_init) == ("map", "torch")  # where the text is silent, as the script
    assert set(paper.differences(SearchConfig())) == {"data", "space", "position_weights", "conv_init", "hvp", "signal"}
    assert {name: config.signal for name, config in SEARCHES.items()} == {
        "quick": 28,
        "standard": 28,
        "mended": 28,
        "paper": 28,
        "release": 28,
    }
    assert SearchConfig().hvp == SEARCHES["quick"].hvp == "exact"
    assert {name: config.method for name, config in SEARCHES.items() if config.method != "darts"} == {
        "quick": "additive",
        "standard": "additive",
    }


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 3}, "unknown search field 'epoch'; did you mean epochs"),
        ({"order": 3}, "search field order: wanted 1 or 2, got 3"),
        ({"hvp": "fdd"}, "unknown hvp 'fdd'; did you mean fd"),
        ({"select": "best"}, "unknown selection 'best'"),
        ({"split": "half"}, "unknown split 'half'"),
        ({"conv_init": "pytorch"}, "unknown conv_init 'pytorch'; did you mean torch"),
        ({"gate_init": "centered"}, "unknown gate_init 'centered'; did you mean centred"),
        ({"last_norm_init": "zero"}, "unknown last_norm_init 'zero'"),
        ({"position_weights": "maps"}, "unknown position_weights 'maps'; did you mean map"),
        ({"space": "relase"}, "unknown space 'relase'; did you mean release"),
        ({"without": ["gapp"]}, "unknown operation of the space 'gapp'; did you mean gap"),
        ({"without": "gap"}, "search field without: wanted tuple"),
        ({"train_portion": 1.0}, "search field train_portion: wanted a number between 0 and 1, got 1.0"),
        ({"alpha_betas": [0.5]}, "search field alpha_betas: wanted two numbers"),
        ({"warmup_epochs": 50}, "search field warmup_epochs: wanted fewer than 50 epochs, got 50"),
        ({"stop_ratio": 0.75}, "search field curvature: wanted power iterations"),
        ({"compile": True, "hvp": "exact"}, "search field compile: wanted no compiled blocks"),
        ({"compile": True}, 'wanted no compiled blocks with hvp "exact", but with "fd", got True'),
        ({"after": []}, "search field after: wanted one pattern or more"),
    ],
)
def test_wrong_configurations_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        SearchConfig().override(**values)


def test_every_field_has_a_line_of_help():
    assert all(item.metadata["help"] for item in fields(SearchConfig))


def test_operations_can_be_left_out_of_one_set():
    space = SearchConfig(without=["channel_squeeze:l2norm", "gsop"]).search_space()
    assert "l2norm" not in space.ops["channel_squeeze"] and "l2norm" in space.ops["spatial_squeeze_input"]
    assert not any("gsop" in names for names in space.ops.values())
    with pytest.raises(UnknownNameError, match="did you mean"):
        RELEASE.without("channel_squeez:l2norm")


def images_of(loader):
    return {tuple(image.flatten()[:20].tolist()) for images, _ in loader.epoch(0) for image in images}


def test_halves_are_disjoint_whole_and_drawn_by_the_seed(data):
    config = driver.tiny(data, augment="none")
    halves = open_halves(config, CPU)
    first, second = images_of(halves.weights), images_of(halves.alpha)
    assert len(first) == len(second) == 36 and not first & second
    assert images_of(open_halves(config, CPU).weights) == first
    assert images_of(open_halves(config.override(seed=1), CPU).weights) != first
    some = open_halves(config.override(images=20, train_portion=0.75), CPU)
    assert (len(images_of(some.weights)), len(images_of(some.alpha))) == (15, 5)
    assert halves.test is not None and sum(len(targets) for _, targets in halves.test.epoch(0)) == 24
    assert next(iter(halves.weights.epoch(0)))[0].shape == next(iter(halves.alpha.epoch(0)))[0].shape


def test_ranks_get_equal_parts(data):
    config = driver.tiny(data, images=15)
    for rank in range(2):
        part = open_halves(config, Ranks(rank, 2, torch.device("cpu")))
        assert [len(targets) for _, targets in part.weights.epoch(0)] == [4]
        assert sum(len(targets) for _, targets in part.alpha.epoch(0)) == 3


def test_too_few_and_too_many_images(data):
    with pytest.raises(ValueError, match="images: wanted at most the 72 training images"):
        open_halves(driver.tiny(data, images=73), CPU)
    with pytest.raises(ValueError, match="wanted at least two images to train the weights on, got 1 of 3"):
        open_halves(driver.tiny(data, images=3, train_portion=0.4), CPU)


class Unreached(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.unreached = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x):
        return self.conv(x)


class Fixed:
    samples = 10
    targets = torch.tensor([0, 1, 1, 0, 1, 1, 1, 0, 0, 1])

    def subset(self, indices, seed):
        return indices.tolist(), seed


def test_division_leaves_no_image_out():
    (first, seed), (second, other) = divide(Fixed(), SearchConfig(), CPU)
    assert sorted(first + second) == list(range(10)) and len(first) == 5 and seed != other


def test_the_first_images_in_the_order_of_the_data():
    config = SearchConfig(split="first", train_portion=0.4)
    (first, _), (second, _) = divide(Fixed(), config, CPU)
    assert (first, second) == ([0, 1, 2, 3], [4, 5, 6, 7, 8, 9])
    (first, _), (second, _) = divide(Fixed(), config.override(images=8, train_portion=0.5), CPU)
    assert (first, second) == ([0, 1, 2, 3], [4, 5, 6, 7])


@pytest.mark.parametrize("images", [None, 8])  # so few that both parts have one class, the same
def test_images_in_the_order_of_their_classes_are_not_divided_by_it(data, images):
    wanted = r'split: wanted images in an order that mixes the classes for "first", got .*corners, .*; take "drawn"'
    with pytest.raises(ValueError, match=wanted):
        open_halves(driver.tiny(data, split="first", images=images), CPU)
    grouped = Fixed()
    grouped.targets = torch.tensor([1] * 5 + [0] * 5)
    with pytest.raises(ValueError, match=r"whose images go by class"):
        divide(grouped, SearchConfig(split="first"), CPU)


def test_position_weights_have_the_size_of_each_map():
    config = SearchConfig(model_kwargs={"layers": [1, 1, 1]}, position_weights="map")
    model = create_supernet(config, num_classes=3, in_chans=3, size=(20, 28))
    blocks = [model.get_submodule(f"layer{stage}.0.bn2.attn") for stage in (1, 2, 3)]
    sizes = [tuple(block.spatial_squeeze_input[2].weight.shape) for block in blocks]
    assert sizes == [tuple(block.spatial_excite[6].alpha.shape[1:]) for block in blocks]
    assert sizes == [(20, 28), (10, 14), (5, 7)]
    assert len({id(block.shared_architecture) for block in blocks}) == 1
    derived = blocks[2].derive(RELEASE.random(0))
    assert derived(draw(2, 64, 5, 7)).shape == (2, 64, 5, 7)


def test_supernet_starts_where_alpha_can_learn():
    config = SearchConfig(model_kwargs={"layers": [1, 1, 1]})
    model = create_supernet(config, num_classes=3, in_chans=3)
    architecture = architecture_of(model, RELEASE)
    prepare(model, architecture, config)
    loss = nn.functional.cross_entropy(model(draw(8, 3, 16, 16)), torch.arange(8) % 3)
    (gradient,) = torch.autograd.grad(loss, [architecture.alpha])
    assert (gradient.abs().sum(-1) > 1e-6).all()  # timm's zero-initialised norms would make it nothing
    first = architecture.alpha.detach().clone()
    prepare(model, architecture, config.override(alpha_std=2e-3))
    torch.testing.assert_close(architecture.alpha.detach(), 2 * first)


def test_networks_that_cannot_be_searched():
    with pytest.raises(ValueError, match="has SASE blocks already: wanted a plain network, such as resnet20_cifar"):
        create_supernet(SearchConfig(model="sase_resnet20"), num_classes=3, in_chans=3)
    with pytest.raises(UnknownNameError, match="layer"):
        create_supernet(SearchConfig(after=["layer*.*.bn9"]), num_classes=3, in_chans=3)
    with pytest.raises(ValueError, match="cannot tell the size of the map of unreached: no forward pass reaches it"):
        _map_sizes(Unreached(), ["unreached"], (8, 8))
    with pytest.raises(ValueError, match="share one alpha.*found none"):
        architecture_of(nn.Linear(2, 2), RELEASE)
    with pytest.raises(ValueError, match="found 2 alphas"):
        architecture_of(nn.Sequential(SearchBlock(4, RELEASE), SearchBlock(4, RELEASE)), RELEASE)
    with pytest.raises(ValueError, match="made for another space"):
        architecture_of(SearchBlock(4, RELEASE), RELEASE.without("gsop"))


def architecture(**ops):
    made = Architecture({edge: ops.get(edge, ("gap", "l4", "gsop")) for edge in EDGES})
    torch.manual_seed(0)
    with torch.no_grad():
        made.alpha.copy_(torch.randn(6, made.alpha.shape[1]) * made.mask)
    return made


def test_entropy_margin_and_argmax_by_hand():
    made = architecture(channel_gate=("fc",))
    p = made.alpha.detach()[0].softmax(0)
    assert made.entropy()[0].item() == pytest.approx(-(p * p.log()).sum().item() / math.log(3), rel=1e-6)
    assert made.margin()[0].item() == pytest.approx((p.sort().values[-1] - p.sort().values[-2]).item(), rel=1e-5)
    assert made.entropy()[2] == 0 and made.margin()[2] == 1 and made.argmax()[2] == 0
    with torch.no_grad():
        made.alpha[0] = torch.tensor([0.0, 0.0, 200.0])
    made.entropy().sum().backward()
    assert made.alpha.grad.isfinite().all() and made.argmax()[0] == 2


def test_penalties_by_hand():
    made = architecture(channel_gate=("fc",))
    rows = [row[: len(names)] for row, names in zip(made.alpha.detach(), made.columns.values(), strict=True)]
    assert beta_penalty(made).item() == pytest.approx(sum(row.exp().sum().log().item() for row in rows) / 6, rel=1e-6)
    (gradient,) = torch.autograd.grad(beta_penalty(made), [made.alpha])
    torch.testing.assert_close(gradient, made.weights().detach() / 6)
    (gradient,) = torch.autograd.grad(entropy_penalty(made), [made.alpha])
    with torch.no_grad():
        before = made.entropy().mean()
        made.alpha -= 0.1 * gradient
        assert made.entropy().mean() < before and not gradient[2].any()


def test_operations_can_be_masked_for_a_while():
    made = architecture()
    mask = torch.ones(6, 3, dtype=torch.bool)
    mask[1, 0] = False
    full = made.weights().detach()
    with made.only(mask):
        masked = made.weights()
        assert masked[1, 0] == 0 and masked[1].sum().item() == pytest.approx(1)
        torch.testing.assert_close(masked[1, 1:], full[1, 1:] / full[1, 1:].sum())
    assert torch.equal(made.weights(), full)
    mask[1] = False
    with pytest.raises(ValueError, match="at least one operation left"), made.only(mask):
        pass


def test_largest_eigenvalue_is_that_of_the_hessian():
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64)).Q
    values = torch.tensor([0.1, -0.5, 1.0, 2.0, 0.3, 7.0], dtype=torch.float64)
    hessian = basis @ values.diag() @ basis.T
    alpha = nn.Parameter(torch.randn(2, 3, dtype=torch.float64))
    start, mask = alpha.detach().clone(), torch.ones(2, 3, dtype=torch.bool)

    def gradient():
        return (hessian @ alpha.detach().flatten()).view(2, 3) + alpha.detach() * 0

    found = largest_eigenvalue(gradient, alpha, mask, iterations=30)
    assert found == pytest.approx(7.0, rel=1e-6) and torch.equal(alpha.detach(), start)


@pytest.mark.parametrize(
    ("values", "stops"),
    [([1.0] * 9, False), ([1.0] * 10, False), ([1.0] * 5 + [1.3] * 5, False), ([1.0] * 5 + [1.4] * 5, True)],
)
def test_early_stop_watches_the_means_of_two_windows(values, stops):
    assert has_grown(values, 0.75) == stops
    assert not has_grown([-value for value in values], 0.75)


@pytest.mark.parametrize(
    ("genotypes", "epoch"), [(["a"], 1), (["a", "b"], 2), (["b", "a", "b", "b"], 3), (["a"] * 3, 1)]
)
def test_stable_since(genotypes, epoch):
    assert stable_since(list(genotypes)) == epoch


def small_network(space=RELEASE):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))
    attach(model, after=["1", "4"], attn=space.block)
    return model


def test_scales_are_those_of_the_outputs():
    model = small_network()
    x = draw(4, 3, 12, 12)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    found = op_scales(model, x)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    first = model[1].host(model[0](x))
    second = model[4].host(model[3](model[2](model[1].attn(first))))
    for name, column in (("l4", 3), ("l2norm", 2)):
        squares = [
            block.channel_squeeze[column](inputs).detach().square().mean().item()
            for block, inputs in ((model[1].attn, first), (model[4].attn, second))
        ]
        assert found["channel_squeeze"][column] == pytest.approx((sum(squares) / 2) ** 0.5, rel=1e-4), name
    shares = energy_fractions(found, architecture_of(model, RELEASE).weights().detach())
    assert all(sum(row) == pytest.approx(1) for row in shares.values())
    # The degenerate operation, a constant of √(HW), fills the mixture at uniform alpha.
    assert shares["channel_squeeze"][2] > 0.75


class Wrong(Op):
    """Finite, with a gradient that is not: the square root of what is zero."""

    def __init__(self, channels, **options):
        super().__init__(channels, **options)
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return (x.float().mean(1, keepdim=True) * 0 * self.weight).sqrt()


@pytest.mark.parametrize("case", ["parameter", "forward", "backward", "largest"])
def test_diagnose(case, monkeypatch):
    monkeypatch.setitem(OP_SETS["spatial_squeeze"], "wrong", Wrong)
    ops = dict(RELEASE.ops) | {"spatial_squeeze_gated": ("gap", "wrong" if case == "backward" else "l4")}
    model = small_network(SearchSpace(ops))
    block = model[4].attn
    if case == "parameter":
        block.channel_excite[0].fc1.weight.data[0] = float("nan")
    if case == "forward":
        block.spatial_squeeze_gated[0].register_forward_hook(lambda module, inputs, output: output / 0)
    if case == "largest":
        block.channel_gate[0].fc2.weight.data.fill_(1e6)
    found = diagnose(model, lambda: model(draw(4, 3, 12, 12)).square().mean())
    wanted = {
        "parameter": "a parameter of fc of channel_excite in 4.attn",
        "forward": "gap of spatial_squeeze_gated in 4.attn",
        "backward": "the gradient of wrong of spatial_squeeze_gated in 4.attn",
        "largest": "fc of channel_gate in 4.attn, whose output of",
    }[case]
    assert found is not None and found.startswith(wanted)
    assert not block.reference and not block.channel_excite[0]._forward_hooks


def test_diagnose_of_a_network_without_blocks():
    model = nn.Linear(2, 2)
    assert diagnose(model, lambda: model(torch.ones(1, 2)).sum()) is None
