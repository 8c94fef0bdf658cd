"""The attentions of the literature against outputs and gradients of their authors' code (`reference/`)."""

import json

import pytest
import torch
from checkout import REFERENCE_FILES
from safetensors import safe_open
from safetensors.torch import load_file
from tolerances import REFERENCE, assert_close
from torch import nn

from sase_attn import kernels
from sase_attn.attentions import create_attention

pytestmark = pytest.mark.usefixtures("one_thread")

FILE = REFERENCE_FILES / "literature.safetensors"
TENSORS = load_file(FILE)
with safe_open(FILE, "pt") as file:
    CASES = json.loads(file.metadata()["cases"])

# Our attention of each case, its options, and the names of the reference's parameters in the order of ours.
OURS = {
    "srm": ("srm", {}, ["cfc", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"]),
    "se": ("se", {}, ["fc.0.weight", "fc.0.bias", "fc.2.weight", "fc.2.bias"]),
    "gct_gated": ("gct_gated", {}, ["alpha", "gamma", "beta"]),
    "mca_e": ("mca_e", {}, ["c.conv.weight", "c.conv.bias"]),
    "mca_s": ("mca_s", {}, ["c.conv.weight", "c.conv.bias"]),
    "eca_k5": ("eca", {"kernel_size": 5}, ["conv.weight"]),
    "cbam": (
        "cbam",
        {},
        [
            *(f"ChannelGate.mlp.{layer}.{name}" for layer in (1, 3) for name in ("weight", "bias")),
            "SpatialGate.spatial.conv.weight",
            *(f"SpatialGate.spatial.bn.{name}" for name in ("weight", "bias", "running_mean", "running_var")),
        ],
    ),
    "scse": (
        "scse",
        {},
        [f"{layer}.{name}" for layer in ("cSE.fc1", "cSE.fc2", "sSE.conv") for name in ("weight", "bias")],
    ),
    "tse_rows7": ("tiled_se", {"tile": (7, None)}, ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]),
    "tse_rows7_exact": ("tiled_se", {"tile": (7, None)}, ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]),
}  # fmt: skip
ELSEWHERE = {"slim_skip"}  # spatially-adaptive SE, which is not among the attentions of one map


def build(case: str) -> nn.Module:
    """The module of a case with the reference's parameters."""
    prefix = f"{case}/param/"
    name, options, order = OURS[case.partition("/")[0]]
    params = {key.removeprefix(prefix): value for key, value in TENSORS.items() if key.startswith(prefix)}
    assert sorted(order) == sorted(params)
    module = create_attention(name, CASES[case]["shapes"][0][1], **options)
    state = {key: value for key, value in module.state_dict().items() if not key.endswith("num_batches_tracked")}
    values = {key: params[theirs].reshape(old.shape) for (key, old), theirs in zip(state.items(), order, strict=True)}
    assert not module.load_state_dict(values, strict=False).unexpected_keys
    return module.train(CASES[case]["train"])


def test_every_case_is_compared():
    assert {case.partition("/")[0] for case in CASES} == OURS.keys() | ELSEWHERE
    assert len(CASES) == 13


@pytest.mark.parametrize("case", [case for case in CASES if case.partition("/")[0] not in ELSEWHERE])
def test_reference(case):
    with kernels.backend("torch"):  # rounded as the references are: one gradient is 4e-5 off its float64 value in both
        y, grad = step(case, torch.float32)
    assert_close(y, TENSORS[f"{case}/y"], tolerance=REFERENCE)
    assert_close(grad, TENSORS[f"{case}/grad_x0"], tolerance=REFERENCE)
    for actual, expected in zip(step(case, torch.float32), step(case, torch.float64), strict=True):
        assert_close(actual, expected, tolerance=REFERENCE)  # one is 4e-5 to 9.4e-5 off, by the processor


def step(case: str, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Output and input gradient."""
    x = TENSORS[f"{case}/x0"].to(dtype, copy=True).requires_grad_()
    y = build(case).to(dtype)(x)
    return y.detach(), torch.autograd.grad(y, x, TENSORS[f"{case}/cotangent"].to(dtype))[0]
