"""Registered models under `torch.compile`: one graph for all batch sizes and resolutions, no graph break.

"eager" runs what dynamo captured; "aot_eager" also traces the backward pass.
"""

import copy

import pytest
import timm
import torch
from compiling import maps, one_graph
from equivalence import SIMPLE, assert_same_steps

import sase_attn  # noqa: F401  registers the models with timm

pytestmark = pytest.mark.usefixtures("one_thread")
TEN = dict(num_classes=10)
SMALL = dict(num_classes=10, layers=(1, 1, 1))
# One of every way in which models are made; the others differ in depth.
FAMILIES = [
    ("sase_resnet50d", TEN),
    ("sase_resnet20", dict(num_classes=10, genotype="sase_paper", gate_init="release")),
    ("cbam_resnet50", TEN),
    ("gct_gated_resnet20", SMALL),
    ("attached", dict(base="resnet18", num_classes=10)),
    ("attached", dict(base="seresnet33ts", replace="se", attn="sase", num_classes=10)),
    ("attached", dict(base="seresnet33ts", tile=dict(rows=7), num_classes=10)),
]


def check(name, args, backend, *shapes, training=True):
    torch.manual_seed(0)
    eager = timm.create_model(name, **args).double().train(training)
    with one_graph():
        compiled = torch.compile(copy.deepcopy(eager), fullgraph=True, backend=backend)
        # In deep networks that are not trained, activations grow and rounding with them.
        assert_same_steps(compiled, eager, maps(*shapes), tolerance=1e-7)


@pytest.mark.parametrize(
    "args, backend, training",
    [(SMALL | {"genotype": SIMPLE}, "aot_eager", True), (SMALL, "eager", False)],
    ids=["train", "eval"],
)
def test_a_small_model(args, backend, training):
    shapes = (2, 3, 16, 24), (3, 3, 24, 20), (5, 3, 32, 32)
    check("sase_resnet20", args, backend, *shapes, training=training)


@pytest.mark.slow
def test_a_whole_model():
    check("sase_resnet20", TEN, "eager", (2, 3, 16, 24), (3, 3, 24, 20))


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name, args", FAMILIES, ids=[f"{name} {args}" for name, args in FAMILIES])
def test_every_family(name, args, training):
    check(name, args, "aot_eager", (2, 3, 64, 96), (3, 3, 96, 64), training=training)
