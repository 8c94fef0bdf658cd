"""`attached` with replaced or tiled attention in every family: it comes back from a folder, and gives feature maps."""

import pytest
import timm
import torch
from networks import moved, network
from timm.models import save_for_hf

from sase_attn import SASEBlock, share
from sase_attn.insert import Attached
from sase_attn.insert.kinds import find_attention, of_kind
from sase_attn.tiling.block import TiledSE
from sase_attn.tiling.convert import tile

pytestmark = pytest.mark.usefixtures("one_thread")

MOBILENET = "mobilenetv3_small_050"

# One of every family whose feature maps timm makes in another way; their options make them small.
BASES = {
    "seresnet18": {"layers": [1, 1, 1, 1]},
    "legacy_seresnet18": {"layers": [1, 1, 1, 1]},
    "efficientnet_b0": {},
    MOBILENET: {},
    "regnety_002": {},
    "rexnet_100": {},
    "ghostnet_050": {},
    "cspnext_tiny": {},
    "test_coatnet": {"img_size": 64},
    "test_maxvit": {"img_size": 64},
    "ese_vovnet19b_slim_dw": {},
    "tresnet_m": {"layers": [1, 1, 1, 1], "width_factor": 0.5},
    "test_nfnet": {},
    "test_byobnet": {},
}


def count(model, *classes):
    return sum(isinstance(module, classes) for module in model.modules())


@pytest.mark.parametrize("base", BASES)
def test_round_trip_of_replaced_attention(base, tmp_path):
    torch.manual_seed(0)
    args = dict(replace="se", attn="sase", attn_args={"rd_ratio": 0.25})
    model = moved(timm.create_model("attached", base=base, num_classes=5, **args, **BASES[base]), by=0.3)
    assert count(model, SASEBlock) == len(find_attention(timm.create_model(base, **BASES[base]), of_kind("se")))
    save_for_hf(model, str(tmp_path), safe_serialization=True)
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    x = torch.randn(2, 3, 64, 64)
    assert torch.isfinite(model(x)).all() and torch.equal(again(x), model(x))


@pytest.mark.parametrize("base", BASES)
def test_feature_maps_are_those_of_the_base(base):
    """A tile over the whole map is squeeze-and-excitation itself, so that every value must agree."""
    args = dict(replace="se", attn="tiled_se", attn_args={"tile": [None, None]}, **BASES[base])
    maps = timm.create_model("attached", base=base, features_only=True, **args).eval()
    plain = timm.create_model(base, features_only=True, **BASES[base]).eval()
    wanted, own = plain.state_dict(), maps.state_dict()
    # timm has a class of its own for the maps of EfficientNets; ours wraps the network.
    plain.load_state_dict(own if wanted.keys() == own.keys() else {key: own[f"model.{key}"] for key in wanted})
    assert maps.feature_info.channels() == plain.feature_info.channels()
    assert maps.feature_info.reduction() == plain.feature_info.reduction()
    x = torch.randn(1, 3, 64, 64)
    for ours, theirs in zip(maps(x), plain(x), strict=True):
        assert torch.equal(ours, theirs)
    assert count(maps, TiledSE) > 0


def test_chosen_feature_maps():
    maps = timm.create_model("attached", base=MOBILENET, replace="se", features_only=True, out_indices=(1, 3))
    assert maps.feature_info.out_indices == (1, 3) and len(maps(torch.randn(1, 3, 64, 64))) == 2


@pytest.mark.parametrize(
    "base, tiling", [("seresnet18", {"rows": 3}), (MOBILENET, {"rows": 4, "columns": 4, "count": 3})]
)
def test_round_trip_of_tiles(base, tiling, tmp_path):
    overrides = {"overrides": {"layer1.0.se": 2, "layer4.*.se": None}} if base == "seresnet18" else {}
    args = {"num_classes": 5, **BASES[base]}
    model = moved(timm.create_model("attached", base=base, tile=tiling | overrides, **args))
    plain = network(base, **args)
    plain.load_state_dict(model.state_dict())
    in_place = plain
    x = torch.randn(2, 3, 128, 96)
    assert (plain(x) - model(x)).abs().max() > 1e-5
    tile(in_place, **tiling, **overrides)
    assert torch.equal(in_place(x), model(x))
    share.save(model, tmp_path / "saved")
    again = timm.create_model(f"local-dir:{tmp_path / 'saved'}", pretrained=True).eval()
    assert torch.equal(again(x), model(x))


def test_tiles_and_attention_behind_layers_together():
    model = timm.create_model("attached", base=MOBILENET, tile={"rows": 4}, after="blocks.*.*.bn3", attn="eca")
    assert count(model, TiledSE) == 9 and count(model, Attached) > 4


@pytest.mark.parametrize("name", ["attached", "se_resnet20"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gain": 0}, "gain: wanted 'published', 'unit' or a number other than 0, got 0"),
        ({"gain": []}, r"gain: wanted 'published', 'unit' or a number other than 0, got \[\]"),
        ({"attn_args": "{rd_ratio:2}"}, "attn_args must be arguments by name, got '{rd_ratio:2}'"),
    ],
)
def test_values_that_are_nothing_are_refused(name, arguments, message):
    where = {"base": "resnet20_cifar", "after": "layer1.0.bn2", "attn": "se"} if name == "attached" else {}
    with pytest.raises(ValueError, match=message):
        timm.create_model(name, layers=[1, 1, 1], **where, **arguments)


def test_a_base_keeps_its_own_gain():
    unit, published = (
        timm.create_model("attached", base="se_resnet20", base_gain=gain, after="layer1.0.bn2", attn="eca")
        for gain in ("unit", None)
    )
    assert (unit.layer2[0].se.scale, published.layer2[0].se.scale) == (2, 1)
    with pytest.raises(ValueError, match="base_gain='unit': resnet18 takes no gain"):
        timm.create_model("attached", base="resnet18", base_gain="unit", after="layer1.0.bn2")
