"""The attentions of the literature against the loops of their oracles, in float64, at odd sizes, random parameters."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import literature_oracle as oracle
import literature_oracle_maps as maps
import pytest
import torch
from inputs import draw, randomise
from tolerances import assert_close
from torch import Tensor, nn

from sase_attn.attentions.registry import ATTENTIONS, create_attention

pytestmark = pytest.mark.usefixtures("one_thread")
TOLERANCE = 1e-9


@dataclass
class Case:
    """An attention, its options, and those of its oracle."""

    name: str
    oracle: Callable[..., Any]
    options: dict[str, Any] = field(default_factory=dict)
    given: dict[str, Any] = field(default_factory=dict)
    channels: int = 6
    sizes: tuple[tuple[int, int], ...] = ((5, 3), (4, 7))

    def __str__(self) -> str:
        return "-".join([self.name, *(f"{key}={value}" for key, value in self.options.items())])


def same(name: str, function: Callable[..., Any], channels: int = 6, **options: Any) -> Case:
    """The oracle takes the same options."""
    return Case(name, function, options, options, channels)


HALF = {"rd_ratio": 0.5}
TILES = [(2, 2), (3, 2), (2, None), (None, 2), (9, 4), (None, None)]
CASES = [
    Case("se", oracle.se, HALF),
    Case("eca", oracle.eca),
    Case("eca", oracle.eca, {"kernel_size": 5}, channels=7),
    Case("srm", oracle.srm),
    Case("mca_e", oracle.mca_e),
    Case("mca_e", oracle.mca_e, {"kernel_size": 5}),
    Case("mca_s", oracle.mca_s, channels=9),
    Case("gct_gaussian", oracle.gct_gaussian),
    Case("gct_gaussian", oracle.gct_gaussian, {"learnable": False}),
    Case("gct_gated", oracle.gct_gated),
    Case("gsop", oracle.gsop, {"width": 5}),
    Case("gsop", oracle.gsop, {"width": 3, "stride": 2}, {"stride": 2}),
    Case("gc", oracle.gc, HALF),
    Case("ge_theta_minus", oracle.ge_theta_minus),
    *(same("ge_theta_minus", oracle.ge_theta_minus, extent=extent) for extent in (2, 4)),
    Case("ge_theta", oracle.ge_theta, sizes=((5, 3), (7, 7), (9, 11))),
    Case("ge_theta", oracle.ge_theta, {"size": 4}, sizes=((5, 3), (4, 4))),
    *(same("ge_theta", oracle.ge_theta, extent=extent) for extent in (2, 4, 8)),
    Case("ge_theta_plus", oracle.ge_theta_plus, HALF),
    *(Case("ge_theta_plus", oracle.ge_theta_plus, HALF | {"extent": e}, {"extent": e}) for e in (2, 4)),
    Case("tiled_se", oracle.tiled_se, HALF, sizes=((15, 3), (5, 4))),  # strips of 7 rows
    *(Case("tiled_se", oracle.tiled_se, HALF | {"tile": tile}, {"tile": tile}) for tile in TILES),
    Case("cbam", maps.cbam, HALF),
    Case("cbam", maps.cbam, HALF | {"kernel_size": 3}),
    Case("bam", maps.bam, HALF),
    Case("bam", maps.bam, HALF | {"dilation": 2}, {"dilation": 2}),
    Case("scse", maps.scse),
    Case("ean", maps.ean, {"groups": 2}),
    Case("ean", maps.ean, {"groups": 4}),  # 3 divide 6 channels
    Case("autola", maps.autola, channels=12),
    Case("autola", maps.autola, HALF, channels=16, sizes=((3, 5),)),
    Case("psa", maps.psa, channels=8),
    Case("psa", maps.psa, channels=16, sizes=((3, 5),)),  # 1, 4, 4, 4 groups
    Case("double_attention", maps.double_attention, HALF),
    Case("spatial_sase", maps.spatial_sase, {"groups": 2}),
    Case("spatial_sase", maps.spatial_sase, channels=8),
    Case("spatial_sase_literal", maps.spatial_sase_literal, {"groups": 2, "dilation": 2}, {"dilation": 2}),
    Case("spatial_sase_literal", maps.spatial_sase_literal, {"normalize": "softmax"}, {"softmax_masks": True}),
    Case("glam", maps.glam, {"rd_channels": 2}),
    Case("glam", maps.glam, {"kernel_size": 5}, channels=9),
]


class Read(dict[str, Any]):
    """Notes which parameters an oracle has read."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__(
            (name, value.numpy().copy())
            for name, value in module.state_dict().items()
            if not name.endswith("num_batches_tracked")
        )
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)


def varies(gain: Tensor) -> bool:
    """Whether a comparison says something."""
    return bool(gain.std() > 1e-3)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_attention(case, training):
    module = create_attention(case.name, case.channels, **case.options, dtype=torch.float64).train(training)
    randomise(module, seed=case.channels)
    for height, width in case.sizes:
        x = draw(3, case.channels, height, width, seed=height, dtype=torch.float64)
        params = Read(module)
        expected = torch.from_numpy(case.oracle(x.numpy(), params, training=training, **case.given))
        assert params.read == set(params)
        assert varies(expected / x)
        assert_close(module(x).detach(), expected, tolerance=TOLERANCE)


SHAPES = {
    "se": {"fc1.weight": (4, 64, 1, 1), "fc2.bias": (64,)},
    "eca": {"conv.weight": (1, 1, 3)},
    "cbam": {"fc1.weight": (4, 64, 1, 1), "conv.weight": (1, 2, 7, 7)},
    "bam": {"fc1.weight": (4, 64, 1, 1), "reduce.weight": (4, 64, 1, 1), "conv2.weight": (4, 4, 3, 3)},
    "srm": {"weight": (64, 2)},
    "gsop": {"reduce.weight": (128, 64, 1, 1), "norm2.weight": (128,), "expand.weight": (64, 512, 1, 1)},
    "gct_gaussian": {"theta": (1,)},
    "mca_e": {"conv.weight": (1, 2, 3), "conv.bias": (1,)},
    "mca_s": {"conv.weight": (1, 2, 7), "conv.bias": (1,)},
    "ean": {"weight": (4,), "delta": (4,)},
    "autola": {
        "cbam.fc1.weight": (4, 16, 1, 1),
        "se_sum.fc1.weight": (2, 16, 1, 1),
        "se_out.fc1.weight": (8, 64, 1, 1),
        "sepgate.pw2.weight": (1, 2, 1, 1),
        "tail.conv1.weight": (64, 80, 1, 1),
    },
    "gc": {"mlp_add.fc1.weight": (4, 64, 1, 1)},
    "scse": {"fc1.weight": (32, 64, 1, 1), "conv.weight": (1, 64, 1, 1)},
    "glam": {"weights": (3,), "local_conv.weight": (1, 1, 3), "reduce.weight": (16, 64, 1, 1)},
    "psa": {
        "branches.0.weight": (16, 64, 3, 3),
        "branches.1.weight": (16, 16, 5, 5),
        "branches.2.weight": (16, 8, 7, 7),
        "branches.3.weight": (16, 4, 9, 9),
        "fc1.weight": (1, 16, 1, 1),
    },
    "spatial_sase": {
        "query.0.weight": (16, 16, 3, 3),
        "query.3.weight": (64, 4, 3, 3),
        "key.0.weight": (16, 16, 1, 1),
        "value.weight": (64, 16, 3, 3),
    },
    "spatial_sase_literal": {"styles.fc2.weight": (256, 4, 1, 1), "masks.3.weight": (16, 4, 3, 3)},
    "ge_theta_plus": {"gather.0.weight": (64, 7, 7), "fc1.weight": (4, 64, 1, 1)},
    "double_attention": {"conv_b.weight": (16, 64, 1, 1)},
    "tiled_se": {"fc1.weight": (4, 64, 1, 1)},
}


@pytest.mark.parametrize("name", SHAPES)
def test_widths_that_the_papers_give(name):
    """The oracle takes widths, kernels and groups from the shapes."""
    state = create_attention(name, 64, device="meta").state_dict()
    assert {key: tuple(state[key].shape) for key in SHAPES[name]} == SHAPES[name]


@pytest.mark.parametrize("channels, kernel", [(256, 5), (512, 5), (1024, 5), (2048, 7)])
def test_kernel_of_eca_by_width(channels, kernel):
    assert create_attention("eca", channels, device="meta").state_dict()["conv.weight"].shape == (1, 1, kernel)


@pytest.mark.parametrize(
    "name, gain", [("srm", 0.5), ("ean", 0.5), ("gct_gated", 1), ("gc", 1), ("double_attention", 1)]
)
def test_what_the_papers_start_as(name, gain):
    x = draw(2, 8, 3, 5, dtype=torch.float64)
    assert_close(create_attention(name, 8, dtype=torch.float64)(x), gain * x)


def test_every_attention_has_an_oracle():
    elsewhere = {"sase", "att_darts", "constant"}  # with tests of its own, a choice between others, no formula
    assert {case.name for case in CASES} == set(ATTENTIONS) - elsewhere
