"""`attached` with replaced or tiled attention: pretrained weights of its base, arguments, what the Hub refuses."""

import pytest
import timm
import torch
from networks import network
from timm.models import save_for_hf

from sase_attn import share
from sase_attn.insert import attach, replace
from sase_attn.tiling.convert import tile

pytestmark = pytest.mark.usefixtures("one_thread")

MOBILENET = "mobilenetv3_small_050"


@pytest.fixture
def pretrained(monkeypatch, tmp_path):
    """Weights of a network as if timm had them on the Hub; gives the network."""

    def publish(base, **args):
        model = network(base, num_classes=5, **args)
        torch.save(model.state_dict(), tmp_path / "base.pt")
        cfg = timm.get_pretrained_cfg(base)
        found = type(cfg)(**{**cfg.to_dict(), "num_classes": 5, "file": str(tmp_path / "base.pt"), "hf_hub_id": None})
        monkeypatch.setattr("sase_attn.models.attached.get_pretrained_cfg", lambda name: found)
        return model

    return publish


def test_pretrained_tiles_keep_every_weight(pretrained):
    plain = pretrained(MOBILENET)
    tiled = timm.create_model("attached", pretrained=True, base=MOBILENET, tile={"rows": 2}, num_classes=5)
    assert list(tiled.state_dict()) == list(plain.state_dict())
    assert all(torch.equal(value, plain.state_dict()[key]) for key, value in tiled.state_dict().items())


@pytest.mark.parametrize(
    "attn, keep", [("tiled_se", None), ("tiled_se", True), ("tiled_se", False), ("sase", None), ("cbam", False)]
)
def test_pretrained_replaced(pretrained, attn, keep):
    """What is kept and the rest of the network are the base's; what starts anew is drawn as `replace` draws it."""
    plain = pretrained(MOBILENET)
    args = dict(attn=attn, keep_weights=keep, replace="se", num_classes=5)
    torch.manual_seed(3)
    model = timm.create_model("attached", pretrained=True, base=MOBILENET, **args)
    torch.manual_seed(3)
    cold = timm.create_model("attached", base=MOBILENET, **args)
    kept = attn == "tiled_se" and keep is not False
    for key, value in model.state_dict().items():
        source = plain if kept or ".se." not in key else cold
        assert torch.equal(value, source.state_dict()[key]), key


def test_pretrained_replaced_anew_under_the_same_keys(pretrained, tmp_path):
    """The base's weights fit, but were not asked for; the network's own, which look the same, are taken."""
    args = dict(base="seresnet18", replace="se", attn="se", attn_args={"rd_divisor": 8}, keep_weights=False)
    args |= dict(layers=[1, 1, 1, 1], num_classes=5)
    plain = pretrained("seresnet18", layers=[1, 1, 1, 1])
    model = timm.create_model("attached", pretrained=True, **args)
    assert model.state_dict().keys() == plain.state_dict().keys()
    for key, value in model.state_dict().items():
        assert torch.equal(value, plain.state_dict()[key]) == (".se." not in key), key
    save_for_hf(model, str(tmp_path / "saved"), safe_serialization=True)
    again = timm.create_model(f"local-dir:{tmp_path / 'saved'}", pretrained=True).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("attn", ["sase", "cbam", "eca", "gc"])
def test_pretrained_attached_preserves_the_output(pretrained, attn):
    plain = pretrained("regnetx_002")
    args = dict(base="regnetx_002", after="s*.*.conv3.bn", attn=attn, num_classes=5)
    model = timm.create_model("attached", pretrained=True, **args).eval()
    x = torch.randn(2, 3, 64, 64)
    assert (model(x) - plain(x)).abs().max() <= 1e-4 * plain(x).abs().max()


def test_pretrained_with_attention_that_is_never_constant(pretrained, tmp_path):
    pretrained("regnetx_002")
    args = dict(base="regnetx_002", after="s*.*.conv3.bn", attn="ge_theta_minus", num_classes=5)
    with pytest.raises(ValueError, match="GEThetaMinus cannot start as a constant: .*pass preserve_output=False"):
        timm.create_model("attached", pretrained=True, **args)
    model = timm.create_model("attached", pretrained=True, preserve_output=False, **args).eval()
    assert torch.equal(model.s1.b1.conv3.bn.host.weight, torch.load(tmp_path / "base.pt")["s1.b1.conv3.bn.weight"])
    save_for_hf(model, str(tmp_path / "saved"), safe_serialization=True)
    again = timm.create_model(f"local-dir:{tmp_path / 'saved'}", pretrained=True).eval()  # though it has no weights
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(again(x), model(x))


def test_incomplete_weights_of_replaced_attention_are_an_error():
    args = dict(base=MOBILENET, replace="se", attn="sase", num_classes=5)
    weights = timm.create_model("attached", **args).state_dict()
    del weights["blocks.0.0.se.mix.weight"]
    overlay = dict(state_dict=weights, num_classes=5)  # timm is lenient where numbers of classes differ
    with pytest.raises(RuntimeError, match=r"blocks\.0\.0\.se\.mix\.weight"):
        timm.create_model("attached", pretrained=True, pretrained_cfg_overlay=overlay, **args)


# ---- arguments


@pytest.mark.parametrize(
    "error, match, args",
    [
        (ValueError, "unknown argument of tile 'row'; did you mean rows", dict(tile={"row": 7})),
        (TypeError, 'tile takes arguments of sase_attn.tile, such as {"rows": 7}, got 7', dict(tile=7)),
        (ValueError, "unknown kind of attention 'sse'; did you mean .*se", dict(replace="sse")),
        (TypeError, "the kind to replace as a string", dict(replace=torch.nn.ReLU)),
        (ValueError, "either after=.* or replace=.*not both", dict(replace="se", after="blocks.*")),
        (ValueError, "only='a' has an effect only with replace", dict(only="a", after="blocks.*")),
        (ValueError, "keep_weights=True has an effect only with replace", dict(keep_weights=True, tile={"rows": 7})),
        (ValueError, "attn='se' has an effect only with after or replace", dict(attn="se", tile={"rows": 7})),
        (ValueError, "preserve_output=False has an effect only with after", dict(preserve_output=False, replace="se")),
        (TypeError, "no_such_option", dict(no_such_option=1, replace="se")),
        (TypeError, "no_such_option", dict(replace="se", attn_args={"no_such_option": 1})),
        (TypeError, "'sase' cannot take over the weights", dict(replace="se", keep_weights=True)),
    ],
)
def test_refuses(error, match, args):
    with pytest.raises(error, match=match):
        timm.create_model("attached", base=MOBILENET, **args)


# ---- networks changed in place are not published as what they were


def changed_to(change):
    model = network("test_efficientnet", num_classes=5)
    change(model)
    return model


@pytest.mark.parametrize(
    "change, problem",
    [
        (lambda model: attach(model, after="blocks.*.*.bn3"), "Missing key"),
        (lambda model: replace(model, "se", with_="sase"), "Missing key"),
        # Tiles of 99 rows change nothing at the size of the model card, but at others.
        (lambda model: tile(model, rows=99), r"another module instead of TiledSE\(.*99 rows.*\) in 'blocks.3.0.se'"),
    ],
)
def test_publishing_what_was_changed_in_place_names_attached(change, problem, tmp_path):
    with pytest.raises(share.HubError, match=f"{problem}.*create_model\\('attached'"):
        share.save(changed_to(change), tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
