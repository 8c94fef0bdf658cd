"""The genotype travels with the weights, and weights of another one are refused by every way of loading them."""

import json
import re

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from sase_attn import Genotype, SASEBlock, genotypes, share
from sase_attn.commands.main import main
from sase_attn.training import Recipe, start_from
from sase_attn.training.distributed import Ranks
from sase_attn.training.loading import load_network
from sase_attn.training.step import Trainer
from sase_attn.weights import read_checkpoint, write_safetensors
from sase_attn.weights.genotypes import check_record, noted, read_record, record_of

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = dict(layers=(1, 1, 1), num_classes=4)
DIFFERENCE = (
    "holds weights of another genotype: channel_excite (saved fc_sigmoid, wanted fc), spatial_squeeze_gated (saved "
    "l4_mean, wanted l4), residual (saved false, wanted true); make the network with "
    f'genotype="{genotypes["sase_paper"]}"'
)


def network(genotype="sase", **args):
    return timm.create_model("sase_resnet20", genotype=genotype, **SMALL, **args)


@pytest.fixture(scope="module")
def paper():
    torch.manual_seed(0)
    return network("sase_paper")


@pytest.fixture(scope="module")
def files(paper, tmp_path_factory):
    """The same weights in every form in which this package writes them, and one without a record."""
    folder = tmp_path_factory.mktemp("paper")
    write_safetensors(paper.state_dict(), folder / "weights.safetensors", metadata={}, model=paper)
    torch.save({"model": paper.state_dict(), **record_of(paper)}, folder / "checkpoint.pth")
    share.save(paper, folder / "model")
    save_file(paper.state_dict(), folder / "plain.safetensors")
    torch.save(paper.state_dict(), folder / "plain.pth")
    return folder


def test_tensors_and_keys_are_as_before(paper, files):
    assert network("sase").state_dict().keys() == paper.state_dict().keys()
    for name in ("weights.safetensors", "checkpoint.pth", "model/model.safetensors"):
        read = read_checkpoint(files / name)
        assert read.keys() == paper.state_dict().keys()
        assert all(torch.equal(value, paper.state_dict()[key]) for key, value in read.items())
        assert read_record(files / name) == str(genotypes["sase_paper"])
    assert read_record(files / "model") == str(genotypes["sase_paper"])
    assert read_record(files / "plain.safetensors") is None is read_record(files / "plain.pth")
    assert read_record(files / "nothing.safetensors") is None


@pytest.mark.parametrize("name", ["weights.safetensors", "checkpoint.pth", "model"])
def test_start_from_refuses_another_genotype(files, paper, name):
    model = network("sase")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError) as error:
        start_from(model, files / name)
    message = str(error.value)
    assert message.endswith(DIFFERENCE) and str(files / name) in message and "\n" not in message
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    again = network("sase_paper")
    start_from(again, files / name)
    assert torch.equal(again.fc.weight, paper.fc.weight)


@pytest.mark.parametrize("name", ["plain.safetensors", "plain.pth"])
def test_a_file_without_a_record_loads_as_before(files, paper, name):
    model = network("sase")
    start_from(model, files / name)
    assert torch.equal(model.fc.weight, paper.fc.weight)


def test_a_published_folder_refuses_another_genotype(files, paper):
    source = f"local-dir:{files / 'model'}"
    assert torch.equal(timm.create_model(source, pretrained=True).fc.weight, paper.fc.weight)
    same = timm.create_model(source, pretrained=True, genotype=str(genotypes["sase_paper"]), num_classes=3)
    assert same.num_classes == 3
    with pytest.raises(ValueError, match="holds weights of another genotype: channel_excite"):
        timm.create_model(source, pretrained=True, genotype="sase")
    timm.create_model(source, genotype="sase")  # without the weights any genotype may be made
    with pytest.raises(ValueError, match="holds weights of another genotype"):
        network("sase", pretrained=True, pretrained_cfg_overlay={"file": str(files / "weights.safetensors")})


def test_the_configuration_alone_is_enough(files, paper):
    """As of a model on the Hub, whose weights timm writes without a header of ours."""
    config = json.loads((files / "model" / "config.json").read_text())
    assert config["pretrained_cfg"]["notes"] == [f"sase-attn attention: {genotypes['sase_paper']}"]
    save_file(paper.state_dict(), files / "model" / "model.safetensors")
    with pytest.raises(ValueError, match="holds weights of another genotype"):
        timm.create_model(f"local-dir:{files / 'model'}", pretrained=True, genotype="sase")
    again = timm.create_model(f"local-dir:{files / 'model'}", pretrained=True)
    again.pretrained_cfg["notes"] = ["of mine", *again.pretrained_cfg["notes"]]
    assert noted(again) == {"notes": ["of mine", f"sase-attn attention: {genotypes['sase_paper']}"]}


def test_blocks_that_differ_are_compared_by_name():
    def attached(*edges):
        model = timm.create_model("attached", base="test_resnet", after="layer[34].*.bn2", attn="sase", num_classes=3)
        blocks = [module for module in model.modules() if isinstance(module, SASEBlock)]
        for block, genotype in zip(blocks, edges, strict=True):
            block.genotype = Genotype.parse(genotype)
        return model

    mixed, uniform = attached("sase", "sase_paper"), attached("sase", "sase")
    record = record_of(mixed)["genotype"]
    check_record(record, mixed, source="x")
    wanted = (
        r"^x holds weights of another genotype in layer4\.0\.bn2\.attn: channel_excite \(saved fc_sigmoid, wanted fc\)"
    )
    with pytest.raises(ValueError, match=wanted):
        check_record(record, uniform, source="x")
    with pytest.raises(ValueError, match="x has a damaged record of its genotype: wanted a genotype, got '{'"):
        check_record("{", mixed, source="x")


@pytest.mark.parametrize("name", ["weights.safetensors", "checkpoint.pth"])
def test_evaluate_refuses_another_genotype(files, name):
    recipe = Recipe(model="sase_resnet20", model_kwargs={"layers": [1, 1, 1]})
    with pytest.raises(ValueError, match="holds weights of another genotype: channel_excite"):
        load_network(str(files / name), recipe, classes=tuple("abcd"), in_chans=3)
    same = recipe.override(model_kwargs={"layers": [1, 1, 1], "genotype": "sase_paper"})
    assert load_network(str(files / name), same, classes=tuple("abcd"), in_chans=3).model.num_classes == 4


def test_a_checkpoint_refuses_another_genotype(paper):
    trainer, other = (
        Trainer(Recipe(), model, Ranks(0, 1, torch.device("cpu")), 2) for model in (paper, network("sase"))
    )
    state = trainer.state_dict()
    trainer.load_state_dict(state)
    with pytest.raises(ValueError, match="the checkpoint holds weights of another genotype: channel_excite"):
        other.load_state_dict(state)
    del state["genotype"]  # as of an earlier version
    other.load_state_dict(state)


def test_networks_without_blocks_have_no_record():
    assert record_of(timm.create_model("resnet20_cifar", **SMALL)) == {}


def test_commands_refuse_another_genotype_in_one_line(files, tmp_path, capsys):
    options = ["--model-kwargs", "layers=[1,1,1]", "num_classes=4"]
    push = ["push", str(files / "weights.safetensors"), "--model", "sase_resnet20", "--save-to", str(tmp_path / "f")]
    assert main([*push, *options]) == 1
    said = capsys.readouterr().err.strip()
    assert DIFFERENCE in said and len(said.splitlines()) == 1 and not (tmp_path / "f").exists()
    assert main([*push, *options, "genotype=sase_paper"]) == 0
    with safe_open(tmp_path / "f" / "model.safetensors", framework="pt") as file:
        assert file.metadata()["genotype"] == str(genotypes["sase_paper"])


@pytest.mark.parametrize("model, gain", [("sase_resnet20", 1.25), ("se_resnet20", 0.5)])
def test_weights_of_another_starting_gain_are_refused(model, gain, tmp_path):
    made = {given: timm.create_model(model, gain=given, **SMALL) for given in ("unit", "published")}
    for given, network in made.items():
        share.save(network, tmp_path / given)
        write_safetensors(network.state_dict(), tmp_path / f"{given}.safetensors", metadata={}, model=network)
        again = timm.create_model(f"local-dir:{tmp_path / given}", pretrained=True)
        assert record_of(again) == record_of(network)
    saved_unit = f"saved {gain:g}, wanted 1); make the network with gain={gain:g}"
    with pytest.raises(ValueError, match=f"another starting gain: gain divided out .{re.escape(saved_unit)}"):
        start_from(made["published"], tmp_path / "unit.safetensors")
    with pytest.raises(ValueError, match=f'wanted {gain:g}.; make the network with gain="published"'):
        start_from(made["unit"], tmp_path / "published.safetensors")
    with pytest.raises(ValueError, match="another starting gain"):
        timm.create_model(f"local-dir:{tmp_path / 'unit'}", pretrained=True, gain="published")


def test_genotype_and_gain_are_named_together(paper):
    unit = network("sase", gain="unit")
    words = r"another genotype: channel_excite .*, gain divided out \(saved 1.25, wanted 1"
    with pytest.raises(ValueError, match=words):
        check_record(record_of(unit)["genotype"], paper, source="x")


def test_weights_trained_with_another_constant_are_refused():
    arguments = {"base": "resnet20_cifar", "after": "layer*.*.bn2", "attn": "constant", **SMALL}
    one, two = (timm.create_model("attached", attn_args={"value": value}, **arguments) for value in (0.5, 2.0))
    check_record(record_of(one)["genotype"], one, source="x")
    with pytest.raises(ValueError, match="another starting gain"):
        check_record(record_of(one)["genotype"], two, source="x")
