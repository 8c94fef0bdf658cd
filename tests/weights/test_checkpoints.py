"""Checkpoints as training scripts write them, and files that are none: one reader, one line that says what it is."""

import argparse
import pickle
import zipfile

import pytest
import timm
import torch
from timm.utils import CheckpointSaver, ModelEmaV3
from torch import nn
from torch.optim.swa_utils import AveragedModel

from sase_attn.training import Recipe
from sase_attn.training.initial_weights import start_from
from sase_attn.training.loading import load_network, recipe_of
from sase_attn.weights import read_checkpoint, write_safetensors
from sase_attn.weights.genotypes import read_record
from sase_attn.weights.state_dicts import check_state_dict

TINY = {"layers": [1, 1, 1]}
MODEL = timm.create_model("sase_resnet20", **TINY)
WEIGHTS = MODEL.state_dict()
OTHERS = {key: torch.zeros_like(value) for key, value in WEIGHTS.items()}
PLAIN = timm.create_model("resnet20_cifar", **TINY)


def behind(prefix, weights=WEIGHTS):
    return {prefix + key: value for key, value in weights.items()}


def without(part, weights=WEIGHTS):
    return {key: value for key, value in weights.items() if part not in key}


def saved(path, content):
    torch.save(content, path)
    return path


CHECKPOINTS = {
    "timm": {
        "epoch": 1,
        "arch": "sase_resnet20",
        "args": argparse.Namespace(lr=0.1, model_kwargs={}),
        "state_dict": WEIGHTS,
        "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(1)}}, "param_groups": []},
    },
    "timm, averaged": {"state_dict": OTHERS, "state_dict_ema": behind("module."), "args": argparse.Namespace()},
    "torchvision": {"model": OTHERS, "model_ema": AveragedModel(MODEL).state_dict(), "args": argparse.Namespace()},
    "AveragedModel": AveragedModel(MODEL).state_dict(),
    "compiled": {"state_dict": behind("_orig_mod.")},
    "compiled in parallel": {"state_dict": behind("module._orig_mod.")},
    "parallel, compiled": {"state_dict": behind("_orig_mod.module.")},
    "Lightning": {
        "state_dict": behind("model.") | {"criterion.weight": torch.ones(3)},
        "hyper_parameters": {"lr": 0.1},
    },
    "Lightning, compiled": {"state_dict": behind("model._orig_mod.")},
    "by another name": {"model_state_dict": WEIGHTS, "optimizer_state_dict": {"state": {}}},
    "of nets": {"net": WEIGHTS, "acc": 90.1, "epoch": 3},
    "by an unusual name": {"my_weights": WEIGHTS, "epoch": 3},
    "beside an average that is none": {"model": WEIGHTS, "ema": {"decay": 0.9}, "epoch": 3},
    "beside an average without names": {
        "model": WEIGHTS,
        "ema": {"decay": 0.9, "num_updates": 3, "shadow_params": [torch.zeros(2)]},
    },
    "inside others that hold none": {"model_ema": {"ema": {"decay": 0.9}}, "net": {"model": WEIGHTS}},
    "of parts, with a second classifier": behind("backbone.", without("fc."))
    | {"aux_head.fc.weight": torch.zeros(10, 64), "aux_head.fc.bias": torch.zeros(10)}
    | {f"head.{key}": WEIGHTS[key] for key in ("fc.weight", "fc.bias")},
    "without counters, beside another network with them": behind("model.", without("num_batches_tracked"))
    | {f"{name}.bn1.num_batches_tracked": torch.tensor(3) for name in ("a", "b")},
    "of parts": {f"head.{k}" if k.startswith("fc.") else f"backbone.{k}": v for k, v in WEIGHTS.items()},
    "without counters": {key: value for key, value in WEIGHTS.items() if not key.endswith("num_batches_tracked")},
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_a_checkpoint_gives_the_weights_of_its_network(kind, tmp_path):
    read = read_checkpoint(saved(tmp_path / "last.pth.tar", CHECKPOINTS[kind]), MODEL)
    check_state_dict(read, MODEL, source=kind)
    assert all(torch.equal(read[key], value) for key, value in WEIGHTS.items())


def test_what_timm_saves_is_read(tmp_path):
    model = timm.create_model("sase_resnet20", **TINY)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    averaged, options = (
        ModelEmaV3(model),
        {"args": argparse.Namespace(model="sase_resnet20"), "checkpoint_dir": tmp_path},
    )
    with torch.no_grad():
        averaged.module.fc.bias.fill_(7)
    CheckpointSaver(model, optimizer, model_ema=averaged, **options).save_checkpoint(0, metric=1.0)
    read = read_checkpoint(tmp_path / "last.pth.tar", model)
    assert read.keys() == model.state_dict().keys() and (read["fc.bias"] == 7).all()


def test_names_behind_a_prefix_are_found_also_for_attention_that_was_attached(tmp_path):
    attached = timm.create_model("attached", base="resnet20_cifar", attn="se", after="layer*.*.bn2")
    path = saved(tmp_path / "a.ckpt", {"state_dict": behind("model.", attached.state_dict())})
    assert read_checkpoint(path, attached).keys() == attached.state_dict().keys()
    base = timm.create_model("resnet20_cifar").state_dict()
    path = saved(tmp_path / "b.ckpt", {"state_dict": behind("model.", base)})
    assert read_checkpoint(path, attached).keys() == base.keys()
    start_from(attached, path)
    assert torch.equal(attached.layer1[0].bn2.host.weight, base["layer1.0.bn2.weight"])


def test_the_content_says_what_a_file_is_not_its_name(tmp_path):
    write_safetensors(WEIGHTS, tmp_path / "weights.bin", metadata={}, model=MODEL)
    assert read_checkpoint(tmp_path / "weights.bin").keys() == WEIGHTS.keys()
    assert read_record(tmp_path / "weights.bin").startswith("channel_squeeze:gap_gmp")
    saved(tmp_path / "last.pth.tar", {"args": argparse.Namespace(), "genotype": "a record", "state_dict": WEIGHTS})
    assert read_record(tmp_path / "last.pth.tar") == "a record"


def test_a_checkpoint_of_others_may_have_the_name_of_ours(tmp_path):
    path = saved(tmp_path / "checkpoint.pt", {"state_dict": behind("model."), "args": argparse.Namespace()})
    recipe = Recipe(model="sase_resnet20", model_kwargs=TINY)
    network = load_network(str(path), recipe, classes=[str(place) for place in range(10)], in_chans=3)
    assert torch.equal(network.model.fc.weight, WEIGHTS["fc.weight"]) and recipe_of(str(path)) is None


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("a.pth", b"\x89PNG\r\n\x1a\n rest", "it is a PNG image"),
        ("a.safetensors", b"\xff\xd8\xff\xe0 rest", "it is a JPEG image"),
        ("a.pth", b"", "it is empty"),
        ("a.pth", b"not weights\n", "it is text"),
        ("a.pth", b"\n<!DOCTYPE html><html>", "it is a page of the web"),
        ("a.pth", b"version https://git-lfs.github.com/spec/v1\noid", "fetch that by git lfs pull"),
        ("a.onnx", b"\x08\x08\x12\x07pytorch", "it is an ONNX network"),
        ("a.npy", b"\x93NUMPY\x01\x00", "it is an array of NumPy"),
        ("a.pkl", pickle.dumps({"a": 1}), "it could execute code"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, said)


def refused(path, said, model=None):
    with pytest.raises((ValueError, OSError)) as error:
        check_state_dict(read_checkpoint(path, model), model, source=str(path))
    message = str(error.value)
    assert said in message and str(path) in message and "\n" not in message and "weights_only" not in message, message


def test_programs_and_archives_are_named(tmp_path):
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "a.pt"))
    refused(tmp_path / "a.pt", "it is a TorchScript program: take its weights by torch.save(torch.jit.load")
    for inside, said in (
        ("a/archive_format", "an exported program"),
        ("x.npy", "of NumPy"),
        ("x.txt", "a ZIP archive"),
    ):
        with zipfile.ZipFile(tmp_path / "b.pt2", "w") as archive:
            archive.writestr(inside, "")
        refused(tmp_path / "b.pt2", said)
    refused(tmp_path, "is a folder: wanted a file of weights")


@pytest.mark.parametrize(
    "content, said",
    [
        ({"model": nn.Linear(2, 2)}, "more than tensors (torch.nn.modules.linear.Linear) and is not read"),
        (
            {"state_dict": {"a": torch.zeros(1), "lr": 0.1}},
            "holds no state dict (a mapping of names to tensors): lr",
        ),
        ([1, 2], "it holds a list"),
        ({1: torch.zeros(3)}, "1 in it, the name of a tensor, is no string"),
        ({"a": {"b": torch.zeros(3), 1: torch.zeros(3)}}, "1 in it, the name of a tensor, is no string"),
        (WEIGHTS | behind("module."), "holds both conv1.weight and module.conv1.weight, which are one name without"),
        (behind("student.") | behind("teacher.", without("num_batches_tracked")), "such networks (student, teacher)"),
        (behind("student.", without("fc.")) | behind("teacher."), "several such networks (student, teacher)"),
        (
            behind("backbone.", without("fc.")) | {f"{name}_head.fc.bias": torch.zeros(10) for name in "ab"},
            "holds several fc.bias (a_head.fc.bias, b_head.fc.bias): save the one to load",
        ),
        ({"epoch": 3, "lr": 0.1}, "it holds epoch, lr"),
        ({"student": WEIGHTS, "teacher": WEIGHTS}, "several state dicts (student, teacher): save the one to load"),
        (behind("a.") | behind("b."), "several such networks (a, b): save the one to load"),
        (PLAIN.state_dict(), "weights of the network without attention; start a training from them by init_from"),
        (behind("model.", PLAIN.state_dict()), "weights of the network without attention; start"),
        (timm.create_model("sase_resnet20", **TINY, num_classes=7).state_dict(), "make the network with num_classes=7"),
    ],
)
def test_what_a_checkpoint_holds_is_named_and_the_way_out(tmp_path, content, said):
    refused(saved(tmp_path / "a.pth", content), said, MODEL)


def test_weights_with_attention_are_not_for_a_network_without(tmp_path):
    refused(saved(tmp_path / "a.pth", WEIGHTS), "has more than this one, such as attention: name that", PLAIN)


def test_a_cyclic_file_ends(tmp_path):
    content = {}
    content["model"] = content
    refused(saved(tmp_path / "a.pth", content), "it holds model")
