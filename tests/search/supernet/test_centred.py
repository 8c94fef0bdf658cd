"""Centred gates: all operations start with one gain, blocks with gain 1, and alpha cannot tell them by it."""

import copy
from itertools import islice
from statistics import mean

import pytest
import torch
from inputs import draw, randomise
from tolerances import assert_close

from sase_attn.attentions import starting_gain
from sase_attn.genotype import EDGES
from sase_attn.ops import OP_SETS, Op
from sase_attn.search import SEARCHES, SearchBlock, SearchSpace
from sase_attn.search.shared_weights.bilevel import Bilevel
from sase_attn.search.shared_weights.halves import open_halves
from sase_attn.search.shared_weights.network import architecture_of, create_supernet, prepare
from sase_attn.search.shared_weights.op_scales import op_scales
from sase_attn.search.shared_weights.optimizers import create_optimizers
from sase_attn.search.supernet.block import blocks_of
from sase_attn.search.supernet.centred import COMMON, OUTPUT, centre_gates, starting_gains
from sase_attn.training.distributed import Ranks

pytestmark = pytest.mark.usefixtures("one_thread")
SPACES = {name: SearchSpace.get(name) for name in ("release", "paper")}


def centred(space, channels=16, seed=0, **options):
    torch.manual_seed(seed)
    block = SearchBlock(channels, SPACES[space], dtype=torch.float64)
    centre_gates(block, **options)
    return block


def gain(block, x):
    return ((block(x) * x).sum() / (x * x).sum()).item()


@pytest.mark.parametrize("space", SPACES)
def test_every_genotype_and_every_mixture_starts_with_gain_one(space):
    block, x = centred(space), draw(16, 16, 14, 14, dtype=torch.float64)
    published = SearchBlock(16, SPACES[space], dtype=torch.float64)
    gains = []
    for seed in range(6):
        with torch.no_grad():
            block.shared_architecture.alpha.copy_(torch.randn(6, 7, generator=torch.Generator().manual_seed(seed)))
        assert gain(block, x) == pytest.approx(1, abs=0.1)
        with block.shared_architecture.choose(SPACES[space].columns(SPACES[space].random(seed))):
            assert gain(block, x) == pytest.approx(1, abs=0.3 * block.scale)  # squeezes are not the mixture's
        gains.append(gain(published, x))
    assert abs(mean(gains) - 1) > 0.4


@pytest.mark.parametrize("space", SPACES)
def test_constant_gates_are_the_identity_on_every_map(space):
    """For every genotype and mixture, as blocks at unit gain are when they are retrained."""
    block = centred(space, constant=True)
    x = 0.1 + 3 * draw(2, 16, 5, 6, dtype=torch.float64).abs()
    with torch.no_grad():
        block.shared_architecture.alpha.normal_()
    assert_close(block(x), x, tolerance=1e-12)
    for seed in range(4):
        with block.shared_architecture.choose(SPACES[space].columns(SPACES[space].random(seed))):
            assert_close(block(x), x, tolerance=1e-12)


def test_gains_are_shifted_to_one_and_measured_as_the_projection():
    block = centred("release")
    x = torch.randn(16, 16, 14, 14, generator=torch.Generator().manual_seed(0)).double()
    block.shared_architecture.alpha.data.zero_()
    gains, gates = starting_gains(block), {}
    for op in (op for edge in OUTPUT for op in block.edges[edge]):
        op.register_forward_hook(lambda op, inputs, y: gates.update({op: y}))
    block.reference_forward(x)
    for edge, found in gains.items():
        for value, op, shift in zip(found, block.edges[edge], block.edges[edge].shifts, strict=True):
            gate = gates[op]
            assert value == pytest.approx(((gate * x * x).sum() / (x * x).sum()).item(), rel=1e-10)
            assert value + shift == pytest.approx(COMMON, rel=1e-10)
    names = block.shared_architecture.columns["channel_excite"]
    assert dict(zip(names, starting_gains(block)["channel_excite"], strict=True))["fc"] == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("space", SPACES)
def test_both_implementations_agree(space):
    reference = centred(space)
    scale, shifts = reference.scale, [reference.edges[edge].shifts.clone() for edge in OUTPUT]
    randomise(reference)
    assert reference.scale == scale and all(shift.abs().max() > 0.05 for shift in shifts)
    for edge, shift in zip(OUTPUT, shifts, strict=True):
        reference.edges[edge].shifts = shift
    with torch.no_grad():
        reference.shared_architecture.alpha.normal_()
    fast = copy.deepcopy(reference)
    reference.reference = True
    x, cotangent = draw(3, 16, 7, 6, dtype=torch.float64), draw(3, 16, 7, 6, seed=1, dtype=torch.float64)
    found = []
    for block in (reference, fast):
        parameters = [p for p in block.parameters() if p.requires_grad]
        y = block(x)
        found.append([y.detach(), *torch.autograd.grad((y * cotangent).sum(), parameters)])
    for value, wanted in zip(found[1], found[0], strict=True):
        assert_close(value, wanted, tolerance=1e-12)


def test_what_is_derived_computes_the_sub_network():
    block, x = centred("release"), draw(2, 16, 6, 5, dtype=torch.float64)
    for seed in range(4):
        genotype = SPACES["release"].random(seed)
        derived = block.derive(genotype)
        with block.shared_architecture.choose(SPACES["release"].columns(genotype)):
            assert_close(block(x), derived(x), tolerance=1e-12)
            block.reference = True
            assert_close(block(x), derived(x), tolerance=1e-12)
            block.reference = False
    assert starting_gain(centred("release").derive(genotype)) * block.scale == pytest.approx(1, abs=0.25)


def test_constants_are_saved_where_there_are_any():
    block, plain = centred("release"), SearchBlock(16, SPACES["release"], dtype=torch.float64)
    added = set(block.state_dict()) - set(plain.state_dict())
    assert added == {f"{edge}.shifts" for edge in OUTPUT}
    other = centred("release", seed=1)
    assert not torch.equal(other.edges["channel_excite"].shifts, block.edges["channel_excite"].shifts)
    other.load_state_dict(block.state_dict())
    x = draw(2, 16, 6, 5, dtype=torch.float64)
    assert torch.equal(other(x), block(x))


def test_your_operation_is_centred_and_one_without_a_gain_is_named(monkeypatch):
    class Loud(Op):
        def forward(self, z):
            return 3 + 0 * z

    class Broken(Op):
        def forward(self, z):
            return z / 0

    monkeypatch.setitem(OP_SETS["channel_excite"], "loud", Loud)
    monkeypatch.setitem(OP_SETS["channel_excite"], "broken", Broken)
    block = SearchBlock(8, SearchSpace(SPACES["release"].ops | {"channel_excite": ("loud", "fc")}))
    centre_gates(block)
    assert block.edges["channel_excite"].shifts[0].item() == pytest.approx(-2.5)
    block = SearchBlock(8, SearchSpace(SPACES["release"].ops | {"channel_excite": ("broken", "fc")}))
    with pytest.raises(ValueError, match="a starting gain of each operation of channel_excite .* got broken "):
        centre_gates(block)


def first_gradients(seed, **changes):
    """Of alpha before the first step, on embedded images, and the gains that the operations start with undone."""
    config = SEARCHES["quick"].override(seed=seed, order=1, images=400, batch_size=32, warmup_epochs=0, **changes)
    halves = open_halves(config, Ranks(0, 1, torch.device("cpu")))
    model = create_supernet(config, num_classes=10, in_chans=3, size=(16, 16)).train()
    architecture = architecture_of(model, config.search_space())
    prepare(model, architecture, config)
    gains = [starting_gains(block) for _, block in blocks_of(model)]
    step = Bilevel(model, architecture.alpha, *create_optimizers(config, model, architecture.alpha), order=1)
    gradient = sum(step.alpha_gradient(batch, batch)[0] for batch in islice(halves.alpha.epoch(0), 3)) / 3
    rows = {edge: gradient[list(EDGES).index(edge), :7] for edge in OUTPUT}
    return {edge: (torch.tensor([found[edge] for found in gains]).mean(0), rows[edge]) for edge in OUTPUT}


def test_alpha_does_not_rank_operations_by_their_starting_gain():
    """With norms at one, as published, its first gradient all but is that gain; centred, it is not."""
    correlations, slopes = {}, {}
    for gates in ("drawn", "centred"):
        found = [first_gradients(seed, gate_init=gates, last_norm_init="one")["channel_excite"] for seed in range(3)]
        correlations[gates] = [torch.corrcoef(torch.stack(pair))[0, 1].item() for pair in found]
        slopes[gates] = [(torch.cov(torch.stack(pair))[0, 1] / pair[0].var()).item() for pair in found]
    assert min(correlations["drawn"]) > 0.8
    assert min(correlations["centred"]) < 0 < max(correlations["centred"])
    assert all(abs(own) < 0.5 * other for own, other in zip(slopes["centred"], slopes["drawn"], strict=True))
    assert abs(mean(slopes["centred"])) < 0.1 * mean(slopes["drawn"])


def test_norms_start_as_in_the_network_and_alpha_then_waits():
    config = SEARCHES["mended"].override(model_kwargs={"layers": [1, 1, 1]})
    assert config.warmup_epochs > 0 and SEARCHES["quick"].warmup_epochs > 0
    model = create_supernet(config, num_classes=3, in_chans=3)
    assert not model.get_submodule("layer1.0.bn2.host").weight.any()
    published = create_supernet(config.override(last_norm_init="one"), num_classes=3, in_chans=3)
    assert published.get_submodule("layer1.0.bn2.host").weight.all()
    ((gains, gradient), _) = first_gradients(0, last_norm_init="network").values()
    assert not gradient.any()  # maps are zero: it has nothing to learn from before weights have moved


def test_what_fills_a_mixture_is_measured_with_the_shift():
    block = centred("release")
    torch.manual_seed(0)
    scales = op_scales(torch.nn.Sequential(block), draw(16, 16, 14, 14, dtype=torch.float64))
    assert scales["channel_excite"][0] == pytest.approx(COMMON, abs=0.1)  # fc, which is near 0 itself
