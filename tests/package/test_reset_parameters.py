"""Every module that owns tensors gives them their starting values anew, by itself: what FSDP asks of meta networks."""

import copy
import inspect
import pickle

import pytest
import torch
from even_draws import even_draws
from inputs import draw
from module_cases import CHANNELS, MODULES, NETWORKS, attached
from package_classes import module_classes
from torch.nn.utils import skip_init

from sase_attn import SASEBlock, create_attention
from sase_attn.attentions import get_attention, list_attentions
from sase_attn.ops.layers import Filter
from sase_attn.search import SearchBlock, SearchSpace
from sase_attn.search.supernet.centred import centre_gates

# The start of a layer of torch's, which hosts and counters of operations know by its class, is known to what holds it.
BY_HOLDER = {"double_attention": {"expand"}, "gc": {"conv_attn", "mlp_add.fc2"}}
BY_HOLDER["att_darts mixed"] = {"attentions.5.expand"}
OTHER_ORDER = {"block as released", "att_darts mixed"}


def owned(module):
    return {**module._parameters, **module._buffers}


def tensors(module):
    return dict([*module.named_parameters(), *module.named_buffers()])


def on_meta(make):
    """A module of the meta device with memory, and nothing of use in it."""
    with torch.device("meta"):
        module = make()
    return spoiled(module)


def spoiled(module):
    module.to_empty(device="cpu")
    for tensor in tensors(module).values():
        tensor.data.fill_(torch.nan if tensor.is_floating_point() else 77)
    return module


def reset_owners(module):
    """As FSDP and Lightning do."""
    for part in module.modules():
        if any(tensor is not None for tensor in owned(part).values()):
            part.reset_parameters()


def differing(module, wanted):
    found, wanted = tensors(module), tensors(wanted)
    assert found.keys() == wanted.keys()
    assert all(tensor.isfinite().all() for tensor in found.values())
    return {name for name, tensor in wanted.items() if not torch.equal(found[name], tensor)}


def is_kept(label, name):
    return name.rpartition(".")[0] not in BY_HOLDER.get(label, ())


@pytest.mark.parametrize("label", MODULES)
def test_every_owner_starts_as_in_the_constructor(label):
    with even_draws():
        wanted, module = MODULES[label](), on_meta(MODULES[label])
        reset_owners(module)
    assert not {name for name in differing(module, wanted) if is_kept(label, name)}


@pytest.mark.parametrize("label", [label for label in MODULES if label not in BY_HOLDER.keys() | OTHER_ORDER])
def test_a_seed_gives_the_same_values(label):
    torch.manual_seed(0)
    wanted = MODULES[label]()
    module = on_meta(MODULES[label])
    torch.manual_seed(0)
    reset_owners(module)
    assert not differing(module, wanted)


def test_no_class_is_missing():
    """A class that makes tensors has the method, and is among the modules and networks of these tests."""
    makers = {
        cls
        for cls in module_classes()
        if any(word in inspect.getsource(cls) for word in ("nn.Parameter(", "register_buffer(", "register_parameter("))
    }
    assert len(makers) > 20
    assert not {cls.__name__ for cls in makers if not hasattr(cls, "reset_parameters")}
    makes = [*MODULES.values(), NETWORKS["skip with spectral norm"], NETWORKS["one-shot"]]
    met = {type(part) for make in makes for part in make().modules()}
    assert not {cls.__name__ for cls in makers if not any(issubclass(one, cls) for one in met)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_centred_gates_keep_their_shifts(dtype):
    with even_draws():
        block = SearchBlock(CHANNELS, SearchSpace.get("release"), dtype=dtype)
        centre_gates(block, constant=True)
        module = spoiled(copy.deepcopy(block))
        reset_owners(module)
    assert module.scale == block.scale and block.edges["channel_excite"].shifts.count_nonzero()
    assert not differing(module, block)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_know_their_start(copied):
    with even_draws():
        block = SASEBlock(CHANNELS)
        module = spoiled(copied(block))
        reset_owners(module)
    assert not differing(module, block)
    assert list(module.state_dict()) == list(block.state_dict())


@pytest.mark.parametrize("name", list_attentions())
def test_modules_are_made_without_values(name):
    """By `device="meta"`, which places everything, and by torch's `skip_init`."""
    module = create_attention(name, CHANNELS, device="meta")
    assert all(tensor.is_meta for tensor in tensors(module).values())
    skipped = skip_init(get_attention(name), CHANNELS)
    assert all(not tensor.is_meta for tensor in tensors(skipped).values())
    assert skipped.state_dict().keys() == module.state_dict().keys()


def test_what_a_layer_was_made_later_stays():
    block = SASEBlock(CHANNELS, gate_init="release")
    gain = block.zero_gates()
    reset_owners(spoiled(block))
    x = draw(2, CHANNELS, 4, 4)
    assert torch.allclose(block(x), gain * x)
    assert (block.mix.weight >= 0).all() and len(block.mix.weight.unique()) == 2


def test_what_was_done_last_to_a_layer_is_repeated_last():
    layer = Filter(2, 2, 3)
    for how in ("make_zero", "draw_as_release", "make_zero"):
        layer.start(how)
    layer.reset_parameters()
    assert not layer.weight.any()


def test_attached_attention_but_sase_keeps_an_output_by_init_weights_alone():
    """As docs/training.md says."""
    for name, kept in {"sase": True, "se": False}.items():
        model = attached(name, preserve=True)
        reset_owners(model)
        attention = model.layer1[0].bn2
        x = draw(2, 16, 4, 4)
        assert torch.allclose(attention.eval()(x), attention.host(x), atol=1e-6) == kept
