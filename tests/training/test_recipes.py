"""Recipes and the flags of `sase-attn train` and `sase-attn evaluate`, which are their fields."""

import argparse
import json
from dataclasses import fields
from pathlib import Path

import pytest
import torch
import training_driver as driver
from torch import nn
from torch.nn.functional import cross_entropy

from sase_attn import SASEBlock
from sase_attn.commands import evaluate, train
from sase_attn.errors import UnknownNameError
from sase_attn.training import RECIPES, Recipe, create_network
from sase_attn.training.data.evaluation_images import FoundImages
from sase_attn.training.distributed import Ranks
from sase_attn.training.step import Trainer

CPU = Ranks(0, 1, torch.device("cpu"))


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_survive_json(name):
    recipe = RECIPES[name]
    assert Recipe.from_json(recipe.to_json()) == recipe == Recipe.get(name)
    other = recipe.override(color_jitter=[0.1, 0.2], model_kwargs={"layers": (1, 1)}, lr=1)
    assert other.color_jitter == (0.1, 0.2) and other.lr == 1.0 and Recipe.from_json(other.to_json()) == other
    assert set(recipe.differences(other)) >= {"model_kwargs", "lr"}


def test_imagenet_recipes_are_the_paper_and_the_script():
    paper, script = RECIPES["imagenet"], RECIPES["imagenet-release"]
    assert (paper.epochs, paper.batch_size, paper.lr, paper.weight_decay, paper.min_lr) == (100, 128, 0.05, 1e-4, 0)
    assert set(paper.differences(script)) == {
        "lr", "label_smoothing", "color_jitter", "clip_grad", "model_kwargs",
    }  # fmt: skip
    optimizer = Trainer(paper.override(model="resnet20_cifar"), nn.Linear(2, 2), CPU, 10).optimizer
    assert isinstance(optimizer, torch.optim.SGD) and not optimizer.defaults["nesterov"]
    assert {group["weight_decay"] for group in optimizer.param_groups} == {1e-4}


def test_the_script_s_recipe_starts_where_the_release_starts():
    """Last norms at 1, gates drawn: what has no gradient at the first step lies behind a closed channel squeeze."""
    recipe = RECIPES["imagenet-release"]
    model = create_network(recipe.override(seed=5), num_classes=10, in_chans=3)
    blocks = {name: module for name, module in model.named_modules() if isinstance(module, SASEBlock)}
    assert len(blocks) == 16
    for name, block in blocks.items():
        assert (model.get_submodule(name.replace(".se", ".bn3")).weight == 1).all()
        fc2 = block.channel_excite.fc2.weight
        assert fc2.std().item() == pytest.approx((2 / block.channels) ** 0.5, rel=0.15)
    closed = set()
    for name, block in blocks.items():
        block.channel_squeeze.register_forward_hook(lambda _, __, z, name=name: None if z.any() else closed.add(name))
    torch.manual_seed(0)
    cross_entropy(model.train()(torch.randn(2, 3, 64, 64)), torch.tensor([1, 2])).backward()
    still = {name for name, parameter in model.named_parameters() if not parameter.grad.any()}
    behind = ("channel_squeeze.mixer.weight", "channel_excite.fc1.weight", "channel_excite.fc2.weight")
    assert still == {f"{name}.{key}" for name in closed for key in (*behind, "channel_gate.alpha")}
    assert 0 < len(still) <= 28 and len(list(model.parameters())) == 321


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 3}, "unknown recipe field 'epoch'; did you mean epochs"),
        ({"optimizer": "sdg"}, "unknown optimizer 'sdg'; did you mean sgd"),
        ({"schedule": "cosin"}, "unknown schedule 'cosin'; did you mean cosine"),
        ({"epochs": "3"}, "recipe field epochs: wanted int, got '3'"),
        ({"epochs": True}, "recipe field epochs: wanted int, got True"),
        ({"lr": -1.0}, "recipe field lr: wanted a number above 0, got -1.0"),
        ({"lr": float("nan")}, "recipe field lr: wanted a number above 0, got nan"),
        ({"momentum": 1.0}, "recipe field momentum: wanted a number from 0 to below 1"),
        ({"freeze": "conv1"}, "recipe field freeze: wanted tuple"),
        ({"model_kwargs": {"x": nn.ReLU}}, "recipe field model_kwargs: wanted values that JSON can hold"),
        ({"lr": 1e308}, "recipe field lr: wanted at most 1e[+]30, got 1e[+]308"),
        ({"size": 100_000}, "recipe field size: wanted at most 16,384, got 100000"),
        ({"seed": 2**32}, "recipe field seed: wanted at most 4,294,967,295, got 4294967296"),
        ({"workers": 10**9}, "recipe field workers: wanted at most 1,024"),
        ({"epochs": 10**30}, "recipe field epochs: wanted at most 1,000,000,000"),
        ({"lr": 10**400}, "recipe field lr: wanted float, got 1000"),
        ({"model_kwargs": {1: 2}}, "recipe field model_kwargs: wanted str, got 1"),
        ({"model_kwargs": {"x": nested(60)}}, "recipe field model_kwargs: .*JSON of at most 50 levels"),
        ({"model_kwargs": {"x": nested(100_000)}}, "recipe field model_kwargs: wanted values that JSON can hold"),
        ({"warmup_epochs": 12}, "recipe field warmup_epochs: wanted a schedule and fewer than 12 epochs"),
    ],
)
def test_wrong_recipes_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Recipe().override(**values)


def test_unknown_recipe():
    with pytest.raises(UnknownNameError, match=r"unknown recipe 'cifr'; did you mean cifar\?"):
        Recipe.get("cifr")
    with pytest.raises(ValueError, match="wanted a recipe as a JSON object, got list"):
        Recipe.from_json("[1]")


def parse(*arguments):
    parser = argparse.ArgumentParser(prog="sase-attn")
    commands = parser.add_subparsers()
    train.add_parser(commands)
    evaluate.add_parser(commands)
    return parser.parse_args(arguments)


def test_every_field_is_a_flag(capsys):
    args = parse(
        *[
            "train",
            "--recipe",
            "cifar",
            "--show",
            "--epochs",
            "3",
            "--lr",
            "0.2",
            "--no-decay-all",
            "--freeze",
            "a.*",
            "b",
            "--color-jitter",
            "0.1",
            "0.2",
        ],
        *[
            "--model-kwargs",
            "layers=[1,1,1]",
            "genotype=sase",
            "--ema-decay",
            "none",
            "--clip-grad",
            "2",
            "--init-from",
            "pretrained",
        ],
    )
    args.run(args)
    recipe = Recipe.from_json(capsys.readouterr().out)
    assert recipe == RECIPES["cifar"].override(
        epochs=3,
        lr=0.2,
        decay_all=False,
        freeze=["a.*", "b"],
        color_jitter=[0.1, 0.2],
        model_kwargs={"layers": [1, 1, 1], "genotype": "sase"},
        clip_grad=2.0,
        init_from="pretrained",
    )
    with pytest.raises(SystemExit):
        parse("train", "--help")
    text = capsys.readouterr().out
    flags = {item.name: f"--{item.name.replace('_', '-')}" for item in fields(Recipe)} | {"imports": "--import"}
    assert all(flag in text for flag in flags.values())
    args = parse("train", "--recipe", "embeded", "--show")
    with pytest.raises(UnknownNameError, match="did you mean embedded"):
        args.run(args)


def test_train_and_evaluate_by_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sase_attn.training.run.open_recipe_data", lambda recipe, group: driver.data(recipe))
    _, batches, info = driver.data(driver.TINY)
    images = FoundImages(info.classes, info.channels, lambda view: (batches, info))
    monkeypatch.setattr("sase_attn.commands.evaluate.find_evaluation_images", lambda config, **ranks: images)
    monkeypatch.chdir(tmp_path)
    Path("tiny.json").write_text(driver.TINY.override(model_kwargs={"layers": [1, 1, 1]}).to_json())
    args = parse("train", "--recipe", "tiny.json", "--device", "cpu", "--epochs", "1", "--warmup-epochs", "0")
    args.run(args)
    out = capsys.readouterr().out
    folder = Path("runs/tiny-resnet20_cifar-seed0")
    assert f"files: {folder}" in out and "epoch 1/1" in out and "model=resnet20_cifar" in out
    scope = {}
    exec(out.splitlines()[-1], scope)  # noqa: S102 (the printed line)
    assert sum(p.numel() for p in scope["model"].parameters()) > 0
    result = json.loads((folder / "result.json").read_text())
    for source in (folder, folder / "model", folder / "best.safetensors", folder / "checkpoint.pt"):
        args = parse("evaluate", str(source), "--json", "--device", "cpu")
        args.run(args)
        row = json.loads(capsys.readouterr().out)
        assert (row["top1"], row["count"], row["data"]) == (result["top1"], 24, "synthetic"), source
    args = parse("train", "--output", str(folder), "--resume", "--device", "cpu")  # the recipe is the run's own
    args.run(args)
    assert f"top-1 {result['top1']:.2f} %" in capsys.readouterr().out
    args = parse("evaluate", "nowhere/model", "--device", "cpu")
    with pytest.raises(FileNotFoundError, match="no such file or folder: nowhere/model"):
        args.run(args)
