"""Warm start and the authors' checkpoints, against an independent transcription of the released network."""

import json

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from checkout import REFERENCE_FILES
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from sase_attn import genotypes
from sase_attn.weights import (
    from_authors,
    import_checkpoint,
    read_checkpoint,
    read_metadata,
    warm_start,
    write_safetensors,
)

KEYS = json.loads((REFERENCE_FILES / "authors_resnet50_keys.json").read_text())


@pytest.fixture(scope="module")
def authors():
    """The authors' keys and shapes with random values at which activations stay of order one."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for key, (shape, dtype) in KEYS.items():
        value = torch.randn(shape, generator=generator)
        if dtype == "int64":
            value = torch.tensor(7)
        elif key.endswith("running_var"):
            value = 0.5 + value.abs()
        elif key.endswith("running_mean"):
            value = 0.1 * value
        elif key.endswith((".mixer.0.weight", ".alpha")) or (key.endswith("weight") and len(shape) == 1):
            value = 1 + 0.2 * value
        elif len(shape) > 1:
            value = value / torch.tensor(shape[1:]).prod().sqrt()
        # Residual branches and the unbounded gates kept small, or activations double in every one of 16 blocks.
        if key.endswith(("bn3.weight", "_ops.1.2.weight")):
            value = 0.2 * value
        weights[key] = value
    return weights


class Reference:
    """The released network: torchvision's ResNet-50, the formula of PAPERS §1 behind every bn3."""

    def __init__(self, weights):
        self.weights = weights
        self.model = torchvision.models.resnet50().eval()
        self.model.load_state_dict({k: v for k, v in weights.items() if ".attention." not in k})
        for stage in range(1, 5):
            for index, block in enumerate(getattr(self.model, f"layer{stage}")):
                block.bn3.register_forward_hook(self.hook(f"layer{stage}.{index}.attention."))

    def hook(self, prefix):
        w = {key.removeprefix(prefix): value for key, value in self.weights.items() if key.startswith(prefix)}

        def attention(module, inputs, x):
            b, c = x.shape[:2]
            two = torch.stack([x.mean((2, 3)), x.amax((2, 3))], 1)[:, :, None]
            z = F.relu(F.conv2d(two.transpose(2, 3), w["_ops.0.mixer.mixer.0.weight"])).reshape(b, c, 1, 1)
            channel = F.conv2d(F.relu(F.conv2d(z, w["_ops.1.0.weight"])), w["_ops.1.2.weight"])
            inner = torch.sigmoid(w["_ops.2.alpha"] * z + w["_ops.2.beta"])
            attended = (x * inner).pow(4).sum(1, keepdim=True).pow(0.25)
            maps = F.conv2d(torch.cat([attended, x.mean(1, keepdim=True)], 1), w["mixer.0.weight"])
            norm = [w[f"mixer.1.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
            m = F.relu(F.batch_norm(maps, *norm))
            hidden = F.relu(F.conv2d(m, w["_ops.5.0.weight"], padding=1))
            spatial = torch.sigmoid(F.conv2d(hidden, w["_ops.5.2.weight"], padding=1))
            return x * (channel + spatial) / 2 + x

        return attention

    def __call__(self, x):
        return self.model(x)


@pytest.mark.parametrize("wrap", [lambda w: w, lambda w: {"state_dict": {f"module.{k}": v for k, v in w.items()}}])
def test_authors_checkpoint_gives_the_reference_logits(authors, tmp_path, wrap):
    torch.save(wrap(authors), tmp_path / "pnorm_imgnet_r50.pth")
    output = tmp_path / "weights.safetensors"
    assert import_checkpoint(tmp_path / "pnorm_imgnet_r50.pth", "sase_resnet50", output) == (len(KEYS), {})
    with safe_open(output, "pt") as file:
        assert file.metadata()["architecture"] == "sase_resnet50"
        assert file.metadata()["genotype"] == str(genotypes["sase"])
    model = timm.create_model("sase_resnet50", checkpoint_path=output).eval()
    reference = Reference(authors)
    with torch.no_grad():
        for size in ((224, 224), (160, 192)):
            x = torch.randn(2, 3, *size)
            expected = reference(x)
            assert 1e-3 < expected.abs().max() < 1e6
            assert (model(x) - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_every_key_of_the_block_is_used(authors):
    weights = from_authors(authors)
    assert set(weights) == set(timm.create_model("sase_resnet50", device="meta").state_dict())
    assert weights["layer2.1.se.channel_gate.beta"] is authors["layer2.1.attention._ops.2.beta"]


def broken(weights, **changes):
    weights = dict(weights) | {key.replace("__", "."): value for key, value in changes.items()}
    return {key: value for key, value in weights.items() if value is not None}


@pytest.mark.parametrize(
    "changes, match",
    [
        (dict(layer1__0__bn1__bias=None), "missing layer1.0.bn1.bias"),
        (dict(extra__key=torch.zeros(1)), "unexpected extra.key"),
        (
            {"layer3.0.attention._ops.2.beta": torch.zeros(3, 1, 1)},
            r"layer3.0.se.channel_gate.beta has shape \(3, 1, 1\), expected \(1024, 1, 1\)",
        ),
        ({"layer1.0.attention._ops.3.x": torch.zeros(1)}, "of no operation of the release; say by genotype"),
        ({"layer3.1.attention._ops.1.2.x": torch.zeros(1)}, "_ops.1.2.x is no key of the authors' block"),
        ({"fc.weight": None}, "unexpected fc.bias"),
    ],
)
def test_checkpoints_that_do_not_fit_are_named(authors, tmp_path, changes, match):
    torch.save(broken(authors, **changes), tmp_path / "a.pth")
    with pytest.raises(ValueError, match=match) as error:
        import_checkpoint(tmp_path / "a.pth", "sase_resnet50", tmp_path / "b.safetensors")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "b.safetensors").exists()


def test_unreadable_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "nothing.pth")
    for name in ("text.pth", "text.safetensors"):
        (tmp_path / name).write_text("not a checkpoint")
        with pytest.raises(ValueError, match=f"{name} ") as error:
            read_checkpoint(tmp_path / name)
        assert "\n" not in str(error.value)
    torch.save({"state_dict": {"a": torch.zeros(2), "lr": 0.1}}, tmp_path / "mixed.pth")
    with pytest.raises(ValueError, match="holds no state dict"):
        read_checkpoint(tmp_path / "mixed.pth")
    torch.save({"model": timm.create_model("resnet20_cifar")}, tmp_path / "whole_model.pth")
    with pytest.raises(ValueError, match="could execute code"):
        read_checkpoint(tmp_path / "whole_model.pth")
    torch.save({"a": torch.zeros(20000)}, tmp_path / "cut.pth")
    whole = (tmp_path / "cut.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        read_checkpoint(tmp_path / "cut.pth")


def test_import_refuses_to_overwrite_and_unknown_models(authors, tmp_path):
    torch.save(authors, tmp_path / "a.pth")
    (tmp_path / "b.safetensors").write_text("mine")
    with pytest.raises(FileExistsError, match=r"b.safetensors exists"):
        import_checkpoint(tmp_path / "a.pth", "sase_resnet50", tmp_path / "b.safetensors")
    assert (tmp_path / "b.safetensors").read_text() == "mine"
    with pytest.raises(ValueError, match="unknown model 'sase_resnet5O'; did you mean sase_resnet50"):
        import_checkpoint(tmp_path / "a.pth", "sase_resnet5O", tmp_path / "c.safetensors")
    assert import_checkpoint(tmp_path / "a.pth", "sase_resnet50", tmp_path / "b.safetensors", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pth", "b.safetensors"]


def trained(name, **args):
    torch.manual_seed(0)
    model = timm.create_model(name, **args)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if "running_var" in key:
                tensor.mul_(0.5 + torch.rand_like(tensor))
            elif tensor.is_floating_point():
                tensor.add_(torch.randn_like(tensor) * 0.02)
    return model.eval()


@pytest.mark.parametrize(
    "base, name, args, size",
    [
        ("resnet50", "sase_resnet50", {}, (96, 128)),
        ("resnet18", "sase_resnet18", dict(genotype="sase_paper"), (64, 64)),
        ("resnet50d", "sase_resnet50d", {}, (64, 64)),
        ("resnet20_cifar", "sase_resnet20", {}, (32, 32)),
        ("resnet26", "attached", dict(base="resnet26"), (64, 64)),
        ("mobilenetv3_small_050", "attached", dict(base="mobilenetv3_small_050", after="blocks.*.*.bn3"), (64, 64)),
    ],
)
def test_warm_start_gives_the_original_logits(base, name, args, size):
    plain = trained(base)
    weights = plain.state_dict()
    copies = {key: value.clone() for key, value in weights.items()}
    source = dict(pretrained=True, pretrained_cfg_overlay=dict(state_dict=weights))
    model = timm.create_model(name, **args, **source)
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = plain(x)
        assert (model.eval()(x) - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert all(torch.equal(weights[key], copies[key]) for key in copies)
    fewer = timm.create_model(name, **args, **source, num_classes=3, in_chans=1)
    assert fewer(torch.randn(2, 1, *size)).shape == (2, 3)


def test_warm_start_in_train_mode_and_gradients_from_the_second_step():
    plain = trained("resnet18", num_classes=5)
    overlay = dict(state_dict=plain.state_dict(), num_classes=5)
    model = timm.create_model("sase_resnet18", pretrained=True, num_classes=5, pretrained_cfg_overlay=overlay).train()
    x, y = torch.randn(8, 3, 64, 64), torch.arange(8) % 5
    expected = plain.train()(x)
    assert (model(x) - expected).abs().max() <= 1e-4 * expected.abs().max()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        optimizer.step()
    assert dead == []


def test_weights_with_attention_of_their_own_are_left_alone():
    model = trained("sase_resnet20")
    again = timm.create_model(
        "sase_resnet20", pretrained=True, pretrained_cfg_overlay=dict(state_dict=model.state_dict())
    ).eval()
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(again(x), model(x))


def test_incomplete_attention_is_an_error_not_a_warm_start():
    weights = trained("sase_resnet20").state_dict()
    del weights["layer2.0.se.mix.weight"]
    with pytest.raises(RuntimeError, match=r"layer2\.0\.se\.mix\.weight"):
        timm.create_model("sase_resnet20", pretrained=True, pretrained_cfg_overlay=dict(state_dict=weights))


def test_warm_start_of_a_network_without_attention_changes_nothing():
    model = timm.create_model("resnet20_cifar")
    weights = model.state_dict()
    assert warm_start(weights, model).keys() == weights.keys()


def test_averaged_weights_come_first_and_prefixes_go(tmp_path):
    both = {"state_dict": {"a": torch.zeros(1)}, "state_dict_ema": {"module.a": torch.ones(1)}}
    torch.save(both, tmp_path / "last.pth.tar")
    assert read_checkpoint(tmp_path / "last.pth.tar") == {"a": torch.ones(1)}


def test_import_names_a_wrong_output(authors, tmp_path):
    torch.save(authors, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"must be named \*.safetensors, got b.pt"):
        import_checkpoint(tmp_path / "a.pth", "sase_resnet50", tmp_path / "b.pt")
    with pytest.raises(FileNotFoundError, match="no such folder: .*missing"):
        import_checkpoint(tmp_path / "a.pth", "sase_resnet50", tmp_path / "missing" / "b.safetensors")


def test_written_files_have_the_usual_permissions(tmp_path):
    write_safetensors({"a": torch.zeros(2)}, tmp_path / "a.safetensors", metadata={})
    (tmp_path / "b").write_text("")
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_layer_in_two_places_is_written_twice(tmp_path):
    layer = nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last)
    weights = nn.Sequential(layer, nn.ReLU(), layer).state_dict()
    write_safetensors(weights, tmp_path / "a.safetensors", metadata={})
    found = load_file(tmp_path / "a.safetensors")
    assert found.keys() == weights.keys() and all(torch.equal(found[key], weights[key]) for key in weights)


def test_equal_weights_give_equal_bytes(tmp_path):
    """safetensors writes metadata in another order each time. What it reads is what was written, of any length."""
    weights = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor([1, 2]), "scalar": torch.tensor(0.5)}
    for length in range(8):
        metadata = {name: name * length for name in ("é 名", '"quoted"\n', "z", "recipe", "data")}
        contents = set()
        for turn in range(4):
            write_safetensors(weights, f"{tmp_path}/{turn}.safetensors", metadata=metadata)
            contents.add((tmp_path / f"{turn}.safetensors").read_bytes())
        assert len(contents) == 1
        with safe_open(tmp_path / "0.safetensors", framework="pt") as file:
            assert file.metadata() == {"format": "pt", **metadata}
        assert read_metadata(f"{tmp_path}/0.safetensors") == {"format": "pt", **metadata}
        read = load_file(tmp_path / "0.safetensors")
        assert read.keys() == weights.keys() and all(torch.equal(read[key], value) for key, value in weights.items())
        assert int.from_bytes(contents.pop()[:8], "little") % 8 == 0
