"""The network a recipe trains, its steps, its images, and its evaluation."""

import logging
import math
from dataclasses import fields

import pytest
import timm
import torch
import training_driver as driver
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

from sase_attn.errors import UnknownNameError
from sase_attn.share import HubError
from sase_attn.training import Metrics, Recipe, create_network, evaluate, start_from, train
from sase_attn.training.data import DataConfig, DataInfo, open_data
from sase_attn.training.data.normalise import normalise_as_trained
from sase_attn.training.distributed import Ranks
from sase_attn.training.network import normalised_by_model
from sase_attn.training.optimizer import create_optimizer, create_scheduler
from sase_attn.training.step import Trainer

CPU = Ranks(0, 1, torch.device("cpu"))
PLAIN = Recipe(model="resnet20_cifar", model_kwargs={"layers": [1, 1, 1]})
SASE = PLAIN.override(model="sase_resnet20")


def test_learning_rate_is_a_function_of_the_step():
    recipe = PLAIN.override(epochs=4, warmup_epochs=1, lr=0.1, layer_decay=None)
    trainer = Trainer(recipe, nn.Linear(4, 2), CPU, 5)
    rates = []
    for _ in range(20):
        trainer.step(torch.randn(3, 4), torch.tensor([0, 1, 0]))
        rates.append(trainer.lr)
    assert (
        rates[0] == pytest.approx(0.001)
        and max(rates) == rates[5] == pytest.approx(0.08536, rel=1e-3)
        and rates[:6] == sorted(rates[:6])
    )
    assert rates[5:] == sorted(rates[5:], reverse=True) and rates[-1] < 0.002


@pytest.mark.parametrize(("epochs", "warmup", "steps", "min_lr"), [(10, 1, 40, 0.0), (4, 1, 5, 0.0), (5, 2, 7, 0.02)])
def test_the_largest_learning_rate_is_what_the_docs_say(epochs, warmup, steps, min_lr):
    recipe = PLAIN.override(epochs=epochs, warmup_epochs=warmup, lr=0.1, min_lr=min_lr)
    optimizer = create_optimizer(recipe, nn.Linear(4, 2))
    scheduler = create_scheduler(recipe, optimizer, steps)
    rates = [optimizer.param_groups[0]["lr"]]
    for step in range(1, epochs * steps):
        scheduler.step_update(step)
        rates.append(optimizer.param_groups[0]["lr"])
    end_of_warm_up = 0.1 * (1 - 0.99 / (warmup * steps))
    cosine = min_lr + (0.1 - min_lr) * (1 + math.cos(math.pi * warmup / epochs)) / 2
    assert max(rates) == pytest.approx(max(end_of_warm_up, cosine), rel=1e-9)
    assert rates[warmup * steps - 1 : warmup * steps + 1] == pytest.approx([end_of_warm_up, cosine], rel=1e-9)
    assert max(rates) < recipe.lr and "peak" not in {item.name: item for item in fields(Recipe)}["lr"].metadata["help"]


def test_weights_of_timm_that_cannot_be_fetched_are_one_line(tmp_path, monkeypatch, caplog):
    from huggingface_hub import constants

    def refuse(*arguments, **options):
        logging.getLogger("huggingface_hub").warning("Retrying in 1s")
        raise LocalEntryNotFoundError("please check your connection")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("timm.models._builder.load_pretrained", refuse)
    recipe = Recipe(model="resnet18", init_from="pretrained")
    with pytest.raises(
        HubError, match="^cannot load resnet18: wanted an answer from the Hub, got .*; check the network"
    ):
        create_network(recipe, num_classes=10, in_chans=3)
    assert not caplog.records


def test_frozen_parameters_and_norms_stay(tmp_path):
    recipe = SASE.override(freeze=["conv1.*", "bn1.*", "layer1.*"], batch_size=8, weight_decay=0.1)
    model = create_network(recipe, num_classes=6, in_chans=3)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    trainer = Trainer(recipe, model, CPU, 2)
    trainer.step(torch.randn(8, 3, 32, 32), torch.arange(8) % 6)
    trainer.step(torch.randn(8, 3, 32, 32), torch.arange(8) % 6)
    for key, value in model.state_dict().items():
        if key.startswith(("conv1.", "bn1.", "layer1.")):
            assert torch.equal(value, before[key]), key
    assert not torch.equal(model.layer2[0].conv1.weight, before["layer2.0.conv1.weight"])
    assert not torch.equal(model.layer2[0].bn1.running_mean, before["layer2.0.bn1.running_mean"])
    with pytest.raises(UnknownNameError, match=r"unknown parameter pattern 'conv9.\*'"):
        Trainer(recipe.override(freeze=["conv9.*"]), model, CPU, 2)
    with pytest.raises(ValueError, match="leaves no parameter to train"):
        Trainer(recipe.override(freeze=["*"]), create_network(SASE, num_classes=6, in_chans=3), CPU, 2)


def test_autocast_is_used_and_close():
    x, targets = torch.randn(8, 3, 32, 32), torch.arange(8) % 6
    losses = []
    for amp in ("none", "bfloat16"):
        model = create_network(PLAIN, num_classes=6, in_chans=3)
        losses.append(Trainer(PLAIN.override(amp=amp), model, CPU, 2).step(x, targets)[0])
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.05)


@pytest.mark.parametrize("schedule", ["cosine", "none"])
def test_layer_decay_reaches_the_optimizer(schedule):
    model = create_network(PLAIN, num_classes=6, in_chans=3)
    trainer = Trainer(PLAIN.override(layer_decay=0.5, schedule=schedule), model, CPU, 2)
    trainer.step(torch.randn(8, 3, 32, 32), torch.arange(8) % 6)
    rate = {id(p): group["lr"] for group in trainer.optimizer.param_groups for p in group["params"]}
    stem, head = rate[id(model.conv1.weight)], rate[id(model.fc.weight)]
    assert head == pytest.approx(0.05) and stem < 0.3 * head


@pytest.mark.parametrize("wrap", ["safetensors", "folder", "model"])
def test_plain_weights_start_an_attention_network(tmp_path, wrap):
    plain = create_network(PLAIN.override(seed=1), num_classes=6, in_chans=3)
    plain.train()(torch.randn(16, 3, 32, 32))  # running statistics
    path = tmp_path / ("model.safetensors" if wrap != "model" else "model.pt")
    if wrap == "model":
        torch.save({"model": plain.state_dict(), "updates": 3}, path)
    else:
        save_file(plain.state_dict(), path)
    source = str(tmp_path if wrap == "folder" else path)
    lines = []
    model = create_network(SASE.override(init_from=source), num_classes=6, in_chans=3, echo=lines.append)
    assert lines == [f"attention: not in {path}; it starts as a constant that preserves the output of these weights"]
    create_network(PLAIN.override(init_from=source), num_classes=6, in_chans=3, echo=lines.append)
    assert len(lines) == 1
    x = torch.randn(4, 3, 32, 32)
    assert_close(model.eval()(x), plain.eval()(x), rtol=1e-4, atol=1e-5)


def test_classifier_and_channels_of_another_size_are_told(tmp_path):
    plain = create_network(PLAIN.override(seed=1), num_classes=10, in_chans=3)
    save_file(plain.state_dict(), tmp_path / "plain.safetensors")
    lines = []
    recipe = PLAIN.override(init_from=str(tmp_path / "plain.safetensors"))
    model = create_network(recipe, num_classes=4, in_chans=1, echo=lines.append)
    assert torch.equal(model.layer1[0].conv1.weight, plain.layer1[0].conv1.weight) and model.fc.weight.shape == (4, 64)
    assert len(lines) == 2 and "adapted from 3 to 1 channels" in lines[0] and "another number of classes" in lines[1]
    with pytest.raises(ValueError, match=r"does not fit the model: .*missing layer1.1"):
        start_from(timm.create_model("resnet20_cifar", num_classes=10), tmp_path / "plain.safetensors")
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        create_network(PLAIN.override(init_from="nowhere.pt"), num_classes=4, in_chans=1)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"model": "sase_resnet2"}, UnknownNameError, "unknown model 'sase_resnet2'; did you mean sase_resnet"),
        ({"model_kwargs": {"num_classes": 3}}, ValueError, "num_classes come from the data"),
        ({"model_kwargs": {"dpeth": 3}}, ValueError, "cannot make resnet20_cifar: .*dpeth"),
        ({"model": "srm_resnet20", "init_from": "pretrained"}, ValueError, "cannot make srm_resnet20: it has no pre"),
    ],
)
def test_networks_that_cannot_be_made(values, error, message):
    with pytest.raises(error, match=message):
        create_network(PLAIN.override(**values), num_classes=4, in_chans=3)


def test_evaluate_counts_exactly():
    class Shifted(nn.Module):
        """Right for the even images, second for the odd ones."""

        weight = nn.Parameter(torch.zeros(()))

        def forward(self, x):
            return 5 * nn.functional.one_hot(x[:, 0, 0, 0].long(), 7).float() + self.weight

    x = torch.zeros(13, 1, 1, 1)
    x[:, 0, 0, 0] = targets = torch.arange(13) % 7
    x[::2, 0, 0, 0] = (targets[::2] + 1) % 7
    model = Shifted()
    model.register_parameter("w", model.weight)
    metrics = evaluate(model, [(x[:8], targets[:8]), (x[8:], targets[8:]), (x[:0], targets[:0])])
    assert (
        metrics == Metrics(pytest.approx(100 * 6 / 13), metrics.top5, metrics.loss, 13) and metrics.top5 > metrics.top1
    )
    logits = model(x)
    assert metrics.loss == pytest.approx(nn.functional.cross_entropy(logits, targets).item(), rel=1e-6)
    with pytest.raises(ValueError, match="wanted at least one image"):
        evaluate(model, [])


def test_images_are_normalised_as_the_weights_were_trained():
    info = DataInfo("x", ("a",), 3, (2, 2), (0.1, 0.2, 0.3), (0.5, 0.6, 0.7), 1, 1)
    raw = torch.rand(5, 3, 2, 2)

    def shape(values):
        return torch.tensor(values).view(-1, 1, 1)

    class Loader:
        batches = 1

        def epoch(self, epoch, start=0):
            yield (raw - shape(info.mean)) / shape(info.std), torch.zeros(5)

    model = nn.Identity()
    model.pretrained_cfg = {"mean": (0.4, 0.4, 0.4), "std": (0.2, 0.3, 0.2)}
    batches, _, new = normalise_as_trained(model, (Loader(), Loader()), info)
    ((images, _),) = batches.epoch(0)
    assert_close(images, (raw - 0.4) / shape((0.2, 0.3, 0.2)))
    assert new.mean == (0.4, 0.4, 0.4) and batches.batches == 1
    model.pretrained_cfg = {"mean": info.mean, "std": info.std}
    assert normalise_as_trained(model, (batches, batches), info) == (batches, batches, info)


def test_two_ranks_see_each_image_of_the_global_batches_once():
    config = DataConfig("embedded", augment="none", batch_size=500)
    loaders = [open_data(config, seed=0, rank=rank, world_size=2)[0] for rank in (0, 1)]
    (whole, _, info) = open_data(config, seed=0)
    seen = 0
    for batch, *halves in zip(whole.epoch(3), *(loader.epoch(3) for loader in loaders), strict=True):
        for rank, half in enumerate(halves):
            assert torch.equal(batch[0][rank::2], half[0]) and torch.equal(batch[1][rank::2], half[1])
        seen += sum(len(half[1]) for half in halves)
    assert seen == info.train_count == 6000


def test_any_module_trains_and_leaves_its_weights(tmp_path):
    lines = []
    recipe = driver.TINY.override(epochs=1, warmup_epochs=0, ema_decay=None)
    folder = tmp_path / "module"
    train(recipe, folder, model=driver.GroupNormNet(), data=driver.data(recipe), device="cpu", echo=lines.append)
    assert (folder / "model.safetensors").is_file() and not (folder / "model").exists()
    assert any("not made by timm.create_model" in line for line in lines)


@pytest.mark.parametrize(
    "recipe, by_model",
    [
        (dict(init_from="pretrained"), True),
        (dict(init_from="weights.safetensors"), False),  # of the set that it was trained on
        (dict(init_from="weights.safetensors", data="my/images"), True),
        (dict(data="my/images"), False),
        (dict(init_from="weights.safetensors", data="cifar10:/data"), False),
    ],
)
def test_weights_decide_how_images_without_statistics_are_normalised(recipe, by_model):
    assert normalised_by_model(Recipe(**recipe)) is by_model
