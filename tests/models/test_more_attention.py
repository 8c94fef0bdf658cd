"""More attention in networks whose weights come with the package and have attention already."""

import pytest
import timm
import torch
from networks import moved

from sase_attn import share
from sase_attn.training import start_from
from sase_attn.weights.gains import take_gains
from sase_attn.weights.genotypes import read_record

pytestmark = pytest.mark.usefixtures("one_thread")

SE, SASE = (f"{name}.fashion_mnist_6k" for name in ("se_resnet20", "sase_resnet20"))


def images():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def load(name, **arguments):
    return timm.create_model(name, pretrained=True, **arguments).eval()


@pytest.mark.parametrize(
    "name, after", [(SE, ["layer3.*", "layer3.0.bn2"]), (SASE, "layer3.*.bn2"), (SE, "conv1"), (SASE, "layer3.*.se")]
)
def test_more_attention_goes_into_those_that_have_some(name, after):
    plain, x, more = load(name), images(), dict(base=name, after=after, attn="eca")
    torch.testing.assert_close(load("attached", **more)(x), plain(x))
    other = load("attached", **more, num_classes=3)  # timm is lenient then, and would leave layers as they are drawn
    torch.testing.assert_close(other.forward_features(x), plain.forward_features(x))
    grey = load("attached", **more, in_chans=1)
    torch.testing.assert_close(grey(x[:, :1]), load(name, in_chans=1)(x[:, :1]))


@pytest.mark.parametrize("arguments", [{}, {"preserve_output": False}])
def test_more_attention_is_saved_with_its_own_gain(arguments, tmp_path):
    more = dict(base=SASE, after="layer3.*.bn2", attn="eca")
    model, x = moved(load("attached", **more, **arguments), 0.05), images()
    share.save(model, tmp_path / "saved")
    assert torch.equal(load(f"local-dir:{tmp_path / 'saved'}")(x), model(x))
    fresh = timm.create_model("attached", **more)
    start_from(fresh, tmp_path / "saved", echo=lambda line: None)
    assert torch.equal(fresh.eval()(x), model(x)) and fresh._model_args.get("gain") == model._model_args.get("gain")
    take_gains(read_record(tmp_path / "saved"), fresh, source="a checkpoint")  # as a run that goes on does
    assert fresh._model_args.get("gain") == model._model_args.get("gain") == (None if arguments else 0.5)


def test_a_base_of_other_attention_than_its_weights_is_refused():
    more = dict(after="layer3.*.bn2", attn="eca")
    with pytest.raises(ValueError, match="base_gain='published': .*another starting gain.*, or leave base_gain out"):
        load("attached", base=SE, base_gain="published", **more)
    with pytest.raises(ValueError, match="another genotype"):
        load("attached", base=SASE, genotype="sase_paper", **more)
    assert torch.equal(load("attached", base=SE, base_gain="unit", **more)(images()), load(SE)(images()))
