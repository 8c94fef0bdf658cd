"""The constant that preserves the output stays with a network: saved, trained, loaded, fused; older weights load."""

import copy
import json

import pytest
import search_driver
import timm
import torch
from networks import moved, network
from safetensors.torch import load_file
from timm.models import save_for_hf
from torch import nn

from sase_attn import attach, fuse, share, tile
from sase_attn.attentions import Attention
from sase_attn.block import SASEBlock
from sase_attn.training import Recipe, start_from, train
from sase_attn.training.distributed import Ranks
from sase_attn.training.loading import load_network
from sase_attn.training.loop import Loop
from sase_attn.training.step import Trainer
from sase_attn.weights import warm_start, write_safetensors
from sase_attn.weights.genotypes import record_of

pytestmark = pytest.mark.usefixtures("one_thread")
ARGS = {"layers": [1, 1, 1]}
SE_ARGS = {"base": "resnet20_cifar", "after": "layer*.*.bn2", "attn": "se", **ARGS}
MODELS = [("sase_resnet20", ARGS, 1.25), ("attached", SE_ARGS, 0.5)]
CLASSES = tuple("abcd")


def images():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def plain():
    return network("resnet20_cifar", num_classes=4, **ARGS)


@pytest.fixture
def plain_file(plain, tmp_path):
    torch.save(plain.state_dict(), tmp_path / "plain.pt")
    return tmp_path / "plain.pt"


def warm(name, arguments, plain):
    overlay = dict(state_dict=plain.state_dict(), num_classes=4)
    return timm.create_model(name, pretrained=True, num_classes=4, pretrained_cfg_overlay=overlay, **arguments)


def absorbed(name, arguments, plain, gain):
    """As warm starts were before: the gain divided out of the norms."""
    model = timm.create_model(name, num_classes=4, **arguments)
    weights = warm_start(plain.state_dict(), copy.deepcopy(model), preserve_output=False)
    norms = [key for key in weights if ".bn2." in key and key.endswith(("weight", "bias"))]
    norms = [key for key in norms if ".attn." not in key]
    model.load_state_dict(weights | {key: weights[key] / gain for key in norms})
    for module in model.modules():
        if isinstance(module, SASEBlock | Attention):
            module.zero_gates()
    return moved(model, 0.1)


def scales(model):
    return {m.scale for m in model.modules() if isinstance(m, SASEBlock | Attention)}


@pytest.mark.parametrize("name, arguments, gain", MODELS)
def test_a_warm_start_is_rebuilt_with_its_constant(name, arguments, gain, plain, tmp_path):
    model = warm(name, arguments, plain)
    assert scales(model) == {1 / gain} and model._model_args["gain"] == gain
    moved(model, 0.1)
    share.save(model, tmp_path / "ours")
    save_for_hf(model, str(tmp_path / "timms"), safe_serialization=True)
    write_safetensors(model.state_dict(), tmp_path / "file.safetensors", metadata={}, model=model)
    for folder in ("ours", "timms"):
        again = timm.create_model(f"local-dir:{tmp_path / folder}", pretrained=True).eval()
        assert torch.equal(again(images()), model(images()))
    recipe = Recipe(model=name, model_kwargs=arguments)
    loaded = load_network(str(tmp_path / "file.safetensors"), recipe, classes=CLASSES, in_chans=3).model.eval()
    assert torch.equal(loaded(images()), model(images()))
    fresh = timm.create_model(name, num_classes=4, **arguments)
    start_from(fresh, tmp_path / "file.safetensors", echo=lambda line: None)
    assert torch.equal(fresh.eval()(images()), model(images())) and fresh._model_args["gain"] == gain


@pytest.mark.parametrize("name, arguments, gain", MODELS)
def test_weights_with_the_gain_in_their_norms_still_load(name, arguments, gain, plain, plain_file, tmp_path):
    old = absorbed(name, arguments, plain, gain)
    share.save(old, tmp_path / "saved")
    write_safetensors(old.state_dict(), tmp_path / "file.safetensors", metadata={}, model=old)
    again = timm.create_model(f"local-dir:{tmp_path / 'saved'}", pretrained=True).eval()
    recipe = Recipe(model=name, model_kwargs=arguments, ema_decay=0.9)
    loaded = load_network(str(tmp_path / "file.safetensors"), recipe, classes=CLASSES, in_chans=3).model.eval()
    started = timm.create_model(name, num_classes=4, **arguments)
    start_from(started, tmp_path / "file.safetensors", echo=lambda line: None)
    ranks = Ranks(0, 1, torch.device("cpu"))
    interrupted = Trainer(recipe, old, ranks, 2).state_dict()
    for record in ({}, {"genotype": interrupted.pop("genotype")}):
        resumed = Trainer(recipe.override(init_from=str(plain_file)), warm(name, arguments, plain), ranks, 2)
        resumed.load_state_dict({**interrupted, **record})
        assert record_of(resumed.model) == record_of(old) and record_of(resumed.eval_model) == record_of(old)
    for model in (again, loaded, started.eval(), resumed.model.eval()):
        assert torch.equal(model(images()), old.eval()(images()))


class Halved(nn.Module):
    """A user's, which knows nothing of scales."""

    def __init__(self, channels, device=None, dtype=None):
        super().__init__()
        self.factor = nn.Parameter(torch.full((1,), 0.3, device=device, dtype=dtype))

    def forward(self, x):
        return x * self.factor

    def zero_gates(self):
        nn.init.constant_(self.factor, 0.5)
        return 0.5


def test_a_module_of_your_own_keeps_the_constant(plain):
    def attended():
        model = timm.create_model("resnet20_cifar", num_classes=4, **ARGS)
        attach(model, after="layer*.*.bn2", attn=Halved)
        return model.eval()

    model, again = attended(), attended()
    model.load_state_dict(warm_start(plain.state_dict(), model))
    assert (model(images()) - plain(images())).abs().max() < 1e-5 and record_of(model) == {"genotype": "scale:2"}
    with pytest.raises(ValueError, match="another starting gain"):
        Trainer(Recipe(), again, Ranks(0, 1, torch.device("cpu")), 2).load_state_dict(record_of(model))
    report = attach(copy.deepcopy(plain), after="layer*.*.bn2", attn=Halved, preserve_output=True)
    assert {place.gain for place in report} == {0.5}


@pytest.mark.parametrize("attention", ["se", "sase", "tiled_se"])
def test_fused_exported_and_tiled(attention, plain):
    model = warm("attached", SE_ARGS | {"attn": attention}, plain).eval()
    expected = plain(images())
    if attention == "se":
        tile(model, rows=4)
    for changed in (model, fuse(copy.deepcopy(model)), torch.export.export(model, (images(),)).module()):
        assert (changed(images()) - expected).abs().max() <= 1e-4 * expected.abs().max()
    if attention == "sase":
        training, expected = fuse(model.train(), training=True), copy.deepcopy(plain).train()(images())
        assert (training(images()) - expected).abs().max() <= 1e-3 * expected.abs().max()


def test_a_run_that_began_with_weights_resumes_without_them(plain, tmp_path, monkeypatch):
    """Though they have decided how its images are normalised, and the gain of its attention."""
    data = search_driver.image_folder(tmp_path / "data", train=8, test=4)
    told, source = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]}, tmp_path / "a.safetensors"
    write_safetensors(plain.state_dict(), source, metadata={"data_config": json.dumps(told)})
    recipe = Recipe(data=str(data), model="sase_resnet20", model_kwargs=ARGS, epochs=1, batch_size=4, augment="none")
    recipe = recipe.override(init_from=str(source))
    train(recipe, tmp_path / "whole", device="cpu", echo=lambda line: None)

    def stopped(self):
        self.save()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Loop, "end_epoch", stopped)
        train(recipe, tmp_path / "stopped", device="cpu", echo=lambda line: None)
    source.unlink()
    train(recipe, tmp_path / "stopped", resume=True, device="cpu", echo=lambda line: None)
    ours, theirs = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("stopped", "whole"))
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())
    cfg = json.loads((tmp_path / "stopped" / "model" / "config.json").read_text())["pretrained_cfg"]
    assert (cfg["mean"], cfg["std"]) == (told["mean"], told["std"])


def test_a_run_that_began_with_plain_weights_is_found_again(plain_file, tmp_path):
    data = search_driver.image_folder(tmp_path / "data", train=8, test=4)
    recipe = Recipe(data=str(data), model="sase_resnet20", model_kwargs=ARGS, epochs=1, batch_size=8, augment="none")
    train(recipe.override(init_from=str(plain_file)), tmp_path / "run", device="cpu", echo=lambda line: None)
    for source in ("run", "run/best.safetensors", "run/checkpoint.pt"):
        loaded = load_network(str(tmp_path / source), recipe, classes=tuple("abc"), in_chans=3)
        assert scales(loaded.model) == {0.8}
