"""Comparisons: one start for all networks, paired trainings, and what is written and printed."""

import json
from statistics import mean

import pytest
import search_driver
import timm
import torch
from torch.testing import assert_close

from sase_attn.commands.main import main
from sase_attn.comparison import Comparison, Network, attended, compare
from sase_attn.comparison.kendall import kendall
from sase_attn.comparison.networks import own_attention
from sase_attn.errors import UnknownNameError
from sase_attn.training import Recipe, create_network
from sase_attn.training.initial_weights import start_alike

pytestmark = pytest.mark.usefixtures("one_thread")
TINY = {"layers": [1, 1, 1]}
PLAIN = {"model": "resnet20_cifar", **TINY}


def quiet(line):
    pass


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return search_driver.image_folder(tmp_path_factory.mktemp("data") / "corners", train=6, test=4)


@pytest.fixture(scope="module")
def recipe(data):
    return Recipe(data=str(data), epochs=1, batch_size=6, lr=0.05, log_every=1)


@pytest.fixture(scope="module")
def compared(recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared") / "run"
    networks = attended("resnet20_cifar", ["gct_gated", "se"], after="layer*.*.bn2", base_args=TINY, constants=False)
    lines = []
    compare(networks, recipe, folder, seeds=range(5), device="cpu", echo=lines.append)
    return folder, networks, lines


@pytest.mark.parametrize(
    ("model", "kwargs"),
    [
        ("attached", {"base": "resnet20_cifar", "after": ["layer*.*.bn2"], "attn": "se"}),
        ("sase_resnet20", {}),
        ("bam_resnet20", {}),
        ("gct_gated_resnet20", {}),
        ("psa_resnet20", {}),
    ],
)
def test_what_networks_have_in_common_starts_with_the_same_bits(model, kwargs):
    fields = {"model": model, "model_kwargs": {**TINY, **kwargs}, "seed": 3}
    plain = create_network(
        Recipe(model="resnet20_cifar", model_kwargs=TINY, seed=3), num_classes=5, in_chans=3
    ).state_dict()
    other = create_network(Recipe(**fields, start_as=PLAIN), num_classes=5, in_chans=3).state_dict()
    found = {name.replace(".host.", "."): tensor for name, tensor in other.items()}
    missing = {name for name in plain if name not in found}
    assert {name.split(".")[2] for name in missing} == ({"conv2"} if model == "psa_resnet20" else set())
    assert all(torch.equal(tensor, found[name]) for name, tensor in plain.items() if name not in missing)
    without = create_network(Recipe(**fields), num_classes=5, in_chans=3).state_dict()
    alone = all(torch.equal(tensor, without[name]) for name, tensor in other.items())
    assert alone != (model == "sase_resnet20")  # whose blocks draw their weights in the midst of the backbone's


@pytest.mark.parametrize("classes", [[str(label) for label in range(10)], None])
def test_pretrained_networks_have_the_pretrained_weights_in_common(classes):
    networks = attended("resnet20_cifar", ["se"], after="layer*.*.bn2", from_weights=True)
    recipe, start = Recipe(init_from="pretrained", seed=3), {"model": "resnet20_cifar"}
    plain = create_network(recipe.override(**networks["plain"]), num_classes=10, in_chans=3, classes=classes)
    other = create_network(
        recipe.override(**networks["se"], start_as=start), num_classes=10, in_chans=3, classes=classes
    )
    theirs = {name.replace(".host.", "."): tensor for name, tensor in other.state_dict().items()}
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in plain.state_dict().items())
    loaded = timm.create_model("resnet20_cifar", pretrained=True)
    assert torch.equal(plain.conv1.weight, loaded.conv1.weight)
    assert torch.equal(plain.fc.weight, loaded.fc.weight) == (classes is None)  # other names: a new classifier
    x = torch.randn(2, 3, 32, 32)
    assert_close(other.eval()(x), plain.eval()(x))


def test_a_reference_alone_has_a_table():
    top1 = [90.0, 91.0, 92.0, 93.0, 94.0]
    alone = Comparison([Network("plain", {}, 1, top1, top1, top1)], [], "plain", [0, 1, 2, 3, 4], {}, 100)
    assert alone.table().splitlines()[1:] == [
        "plain  92.00 ± 1.58",
        "mean ± standard deviation of 5 seeds, 100 test images",
    ]


def test_networks_without_a_common_tensor():
    with pytest.raises(ValueError, match="Linear has no tensor in common with ResNet"):
        start_alike(torch.nn.Linear(2, 3), timm.create_model("test_resnet"))


def test_seeds_pair_initial_weights_order_and_augmentation(compared):
    folder, _, _ = compared
    first, last = {}, {}
    for run in sorted(folder.glob("*-seed*")):
        rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        first[run.name], last[run.name] = rows[0]["loss"], rows[-2]["loss"]
    for seed in range(5):  # the last norms start at 0: what is behind them does not matter yet
        assert first[f"gct_gated-seed{seed}"] == first[f"se-seed{seed}"] == first[f"plain-seed{seed}"]
    assert len(set(first.values())) == 5 and len(set(last.values())) == 10  # gct_gated is the identity for longer


def test_what_is_written_is_what_is_returned_and_nothing_is_trained_again(compared, recipe):
    folder, networks, first = compared
    lines = []
    again = compare(networks, recipe, folder, seeds=range(5), device="cpu", echo=lines.append)
    assert Comparison.load(folder) == again and not any(line.startswith("epoch") for line in lines)
    assert sum(line.startswith("epoch") for line in first) == 15
    assert [network.label for network in again.networks] == ["plain", "gct_gated", "se"]
    assert [difference.label for difference in again.differences] == ["gct_gated", "se"]
    for network in again.networks:
        for seed, top1 in zip(again.seeds, network.top1, strict=True):
            result = json.loads((folder / f"{network.label}-seed{seed}" / "result.json").read_text())
            assert (result["top1"], result["parameters"]) == (top1, network.parameters)
            assert result["recipe"]["start_as"] == ({} if network.label == "plain" else PLAIN)
    table = again.table().splitlines()
    assert len(table) == 1 + 3 + 3 and "12 test images" in table[4] and "95 % interval" in table[5]


def test_fewer_seeds_get_no_verdict(compared, recipe):
    folder, networks, _ = compared
    few = compare(networks, recipe, folder, seeds=range(2), device="cpu", echo=quiet)
    assert all(difference.low is None for difference in few.differences)
    assert "no ranking" in few.table() and "[" not in few.table() and "better" not in few.table()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reference": "plane"}, "reference: wanted one of plain, se, got 'plane'"),
        ({"seeds": []}, "seeds: wanted one or more, each once, got none"),
        ({"seeds": [1, 1]}, "seeds: wanted one or more, each once, got 1, 1"),
        ({"networks": {"plain": {"modle": "x"}}}, "unknown recipe field 'modle'; did you mean model"),
    ],
)
def test_wrong_comparisons_start_nothing(recipe, tmp_path, changes, message):
    networks = attended("resnet20_cifar", ["se"], after="layer*.*.bn2", constants=False)
    arguments = {"networks": networks, "seeds": [0], **changes}
    with pytest.raises((ValueError, UnknownNameError), match=message):
        compare(arguments.pop("networks"), recipe, tmp_path / "run", echo=quiet, **arguments)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("base", "after", "message"),
    [
        ("resnet20_cifar", "layer*.*.bn3", "unknown module pattern"),
        ("resnet20_cifra", "layer*.*.bn2", "unknown model 'resnet20_cifra'; did you mean resnet20_cifar"),
    ],
)
def test_a_network_that_cannot_be_made_is_known_before_the_first_training(recipe, tmp_path, base, after, message):
    networks = attended(base, ["se"], after=after, constants=False, base_args=TINY)
    with pytest.raises(UnknownNameError, match=message):
        compare(networks, recipe, tmp_path / "run", seeds=range(2), device="cpu", echo=pytest.fail)
    assert not (tmp_path / "run").exists()


def test_a_file_is_no_folder_for_a_comparison(recipe, tmp_path):
    (tmp_path / "file").touch()
    networks = attended("resnet20_cifar", ["se"], after="layer*.*.bn2", constants=False, base_args=TINY)
    with pytest.raises(NotADirectoryError, match="file is a file: wanted a folder; name another"):
        compare(networks, recipe, tmp_path / "file", seeds=[0], device="cpu", echo=pytest.fail)


def test_networks_at_equal_gain_and_constants_of_the_published_one():
    made = attended("resnet20_cifar", ["se", "eca", "cbam", "gc", "sase", "autola"], after="layer*.*.bn2")
    assert list(made) == [
        *("plain", "constant 0.25", "constant 0.5", "constant 1.25", "se", "eca", "cbam", "gc", "sase"),
        "autola (its own gain)",
    ]
    assert made["constant 1.25"]["model_kwargs"]["attn_args"] == {"value": 1.25}
    assert [label for label, fields in made.items() if fields["model_kwargs"].get("gain") == "unit"] == [
        *("se", "eca", "cbam", "gc", "sase")
    ]
    published = attended("resnet20_cifar", ["se", "autola"], after="x", gain="published", constants=False)
    assert list(published) == ["plain", "se", "autola"]
    assert not any("gain" in fields["model_kwargs"] for fields in published.values())


def test_wrong_networks():
    with pytest.raises(ValueError, match="gain: wanted 'unit' or 'published', got 'units'"):
        attended("resnet20_cifar", ["se"], after="x", gain="units")
    with pytest.raises(UnknownNameError, match="unknown attention 'see'; did you mean se"):
        attended("resnet20_cifar", ["see"], after="x")
    with pytest.raises(ValueError, match="attentions: wanted each once, got se, se"):
        attended("resnet20_cifar", ["se", "se"], after="x")
    with pytest.raises(ValueError, match="attn_args: wanted names of se, got eca"):
        attended("resnet20_cifar", ["se"], after="x", attn_args={"eca": {}})


def test_from_weights_attention_preserves_the_output_and_there_are_no_constants(data, tmp_path, capsys):
    plain = timm.create_model("resnet20_cifar", num_classes=3, **TINY)
    torch.save(plain.state_dict(), tmp_path / "plain.pt")
    command = ["compare", "mca_e", "--base-args", "layers=[1,1,1]", "--seeds", "1", "--output", str(tmp_path / "runs")]
    command += ["--data", str(data), "--epochs", "1", "--batch-size", "6", "--init-from", str(tmp_path / "plain.pt")]
    command += ["--warmup-epochs", "0"]
    assert main([*command, "--gain", "published"]) == 1
    assert "gain: attention preserves the output of a network that starts from weights" in capsys.readouterr().err
    assert main([*command, "--device", "cpu"]) == 0
    networks = Comparison.load(tmp_path / "runs").networks
    assert [network.label for network in networks] == ["plain", "mca_e"]


def test_a_base_that_has_attention_is_said(capsys, data, tmp_path):
    assert own_attention("resnet18", {"layers": [1, 1, 1, 1]}) is None and own_attention("no_such_model") is None
    said = "seresnet18 has attention of its own, 4 SEModule: so have the plain network and all others"
    assert own_attention("seresnet18", {"layers": [1, 1, 1, 1]}) == said
    command = ["compare", "eca", "--base", "seresnet18", "--base-args", "layers=[1,1,1,1]", "--after", "nothing"]
    main([*command, "--data", str(data), "--output", str(tmp_path / "runs"), "--device", "cpu"])
    assert said in capsys.readouterr().out


def test_sub_network_accuracies_are_ranked_beside_retrained_ones(compared, recipe):
    folder, networks, _ = compared
    retrained = {network.label: mean(network.top1) for network in Comparison.load(folder).networks}
    shared = {label: 50.0 + place for place, label in enumerate(sorted(networks, key=retrained.__getitem__))}
    found = compare(
        networks, recipe, folder, seeds=range(5), subnetwork_top1=shared, device="cpu", echo=lambda line: None
    )
    expected = kendall(list(shared.values()), [retrained[label] for label in shared])
    assert (found.tau, found.tau_p) == expected
    assert {network.label: network.subnetwork_top1 for network in found.networks} == shared
    assert Comparison.load(folder) == found and "as sub-network, %" in found.table()
    again = compare(networks, recipe, folder, seeds=range(5), device="cpu", echo=lambda line: None)
    assert again.tau is None and "sub-network" not in again.table()


def test_a_table_is_said_though_it_cannot_be_written(compared, recipe, monkeypatch):
    folder, networks, _ = compared
    lines = []

    def refuse(path, values):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("sase_attn.comparison.run.write_json", refuse)
    done = compare(networks, recipe, folder, seeds=range(5), device="cpu", echo=lines.append)
    assert Comparison.load(folder) == done  # nothing new to write
    with pytest.raises(PermissionError):
        compare(networks, recipe, folder, seeds=range(4), device="cpu", echo=lines.append)
    assert "minus plain, points" in lines[-1] and "no ranking" in lines[-1]
