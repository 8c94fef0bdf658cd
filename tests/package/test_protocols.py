"""No module has an attribute by whose name alone a tool takes it for what it is not."""

import ast
import inspect
from pathlib import Path

import pytest
import timm
import torch
from inputs import OPS, draw
from networks import moved
from package_classes import module_classes
from timm.models import reparameterize_model
from tolerances import assert_close
from torch import nn

import sase_attn
from sase_attn import SASEBlock, create_attention, create_op, genotypes, list_attentions
from sase_attn.models.placement import PLACEMENTS

PROTOCOLS = {
    "fuse": "timm puts what it returns in the module's place",
    "reparameterize": "timm calls it",
    "switch_to_deploy": "timm and RepVGG's tools call it",
    "fuse_model": "torch's quantised models call it",
    "forward_fuse": "Ultralytics calls it instead of forward",
    "is_fused": "Ultralytics asks it before it folds batch norm",
    "zero_init_last": "timm's ResNet calls it",
    "tie_weights": "transformers and accelerate call it",
    "config": "transformers and accelerate read a model's settings from it",
    "module": "tools take it for the network that a wrapper holds",
    "graph": "tools take it for a traced module's",
    "qconfig": "torch's quantisation replaces modules that have one",
    "activation_post_process": "torch's quantisation takes it for an observer",
    "weight_fake_quant": "torch's quantisation takes it for a fake quantiser",
    "right_inverse": "torch's parametrisations initialise by it",
    "no_sync": "trainers enter it between two steps",
    "transposed": "counters of operations take it for a convolution's",
    "num_heads": "pruners take it for an attention of transformers",
}
"""Names that tools ask for by `hasattr`, and what they do then."""

MEANT = {("GC", "zero_init_last"), ("DoubleAttention", "zero_init_last"), ("GroupedSpectralNorm", "right_inverse")}
"""Where it is what the tool takes it for."""


def named_in_source(path: Path) -> set[str]:
    """Attributes that are assigned, and names under which modules, parameters and buffers are added."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            first = node.args[0] if node.args else None
            adds = node.func.attr in ("add_module", "register_module", "register_buffer", "register_parameter")
            if adds and isinstance(first, ast.Constant) and isinstance(first.value, str):
                names.add(first.value)
    return names


def test_no_class_has_one():
    found = module_classes()
    assert len(found) > 100
    assert {(cls.__name__, name) for cls in found for name in PROTOCOLS if name in vars(cls)} == MEANT


def test_no_module_gets_one():
    files = {inspect.getfile(cls) for cls in module_classes()}
    assert len(files) > 50
    assert not [(file, names) for file in sorted(files) if (names := named_in_source(Path(file)) & PROTOCOLS.keys())]


def test_no_instance_has_one():
    modules = [create_attention(name, 16) for name in list_attentions()]
    modules += [SASEBlock(16, genotype) for genotype in genotypes]
    modules += [create_op(op_set, name, 16) for op_set, name in OPS]
    own = {part for module in modules for part in module.modules() if type(part).__module__.startswith("sase_attn.")}
    assert len(own) > 200
    having = {(type(part).__name__, name) for part in own for name in PROTOCOLS if hasattr(part, name)}
    assert having <= MEANT


@pytest.mark.parametrize("attention", PLACEMENTS)
def test_reparameterize_of_timm_changes_nothing(attention):
    """It is what `validate.py --reparam` does: a child with `fuse` becomes `child.fuse()`."""
    model = moved(timm.create_model(f"{attention}_resnet20", layers=(1, 1, 1)), size=16)
    x = draw(1, 3, 16, 16)
    with torch.no_grad():
        assert_close(reparameterize_model(model)(x), model(x))


def test_reparameterize_of_timm_reaches_a_host():
    """A layer that has it, with attention behind it, is exchanged all the same."""

    class Plus(nn.Module):
        num_features = 4

        def fuse(self) -> nn.Module:
            return nn.Identity()

    model = nn.Sequential(Plus())
    sase_attn.attach(model, after="0", attn="se")
    assert isinstance(reparameterize_model(model)[0].host, nn.Identity)
