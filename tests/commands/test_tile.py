"""`sase-attn tile`: what it reports, what it writes, and that every expected error is one line with the right code."""

import json

import pytest
import timm
import torch
from inputs import draw

from sase_attn import share
from sase_attn.commands import main
from sase_attn.insert import squeeze_excite
from sase_attn.tiling import buffering
from sase_attn.tiling.block import TiledSE
from sase_attn.tiling.convert import tile
from sase_attn.training.recipes import Recipe
from sase_attn.weights import write_safetensors

pytestmark = pytest.mark.usefixtures("one_thread")
LAYERS = [1, 1, 1, 1]


@pytest.fixture
def run(capsys):
    """Run `sase-attn tile` and return what it printed; expects no error."""

    def succeed(*argv):
        code = main.main(["tile", *map(str, argv)])
        out, err = capsys.readouterr()
        assert (code, err) == (0, "")
        return out

    return succeed


@pytest.fixture
def fail(capsys):
    """Run it and return (exit code, the message of the one line that it printed)."""

    def failing(*argv):
        code = main.main(["tile", *map(str, argv)])
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("sase-attn: error: ") and err.count("\n") == 1, err
        return code, err.removeprefix("sase-attn: error: ").rstrip()

    return failing


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A small network with five classes, saved as timm loads it."""
    torch.manual_seed(0)
    model = timm.create_model("seresnet18", layers=LAYERS, num_classes=5, in_chans=1).eval()
    for block in (model.layer1[0], model.layer2[0], model.layer3[0], model.layer4[0]):
        torch.nn.init.ones_(block.bn2.weight)  # timm's zero would hide what is behind it
    folder = tmp_path_factory.mktemp("saved") / "run" / "model"
    return model, share.save(model, folder)


def test_report_of_a_name(run):
    printed = run("tf_efficientnet_b2", "--size", 768)
    assert printed.rstrip("\n").endswith(
        "SE 50.734M → tiled 4.766M activations (-90.6 %); 50,734,080 → 4,765,824 bytes in int8"
    )
    assert "blocks.6.1.se" in printed


def test_flags_are_those_of_tile(run):
    flags = ["--rows", 5, "--columns", 4, "--count", 2, "--override", "layer4.*.se=full", "layer3.0.se=2x3"]
    sizes = ["--size", "96,64", "--precision", "float16", "--projections"]
    found = json.loads(run("seresnet18", *flags, "--override", "layer3.1.se=3", *sizes, "--json"))
    model = timm.create_model("seresnet18")
    tile(model, 5, 4, count=2, overrides={"layer4.*.se": None, "layer3.0.se": (2, 3), "layer3.1.se": 3})
    report = buffering(model, (96, 64), precision="float16", projections=True)
    assert found == json.loads(report.to_json())
    assert found["blocks"][0]["tile"] == [5, 4]
    columns = json.loads(run("seresnet18", "--columns", 6, "--json"))["blocks"]
    assert all(block["tile"] == [None, 6] for block in columns)
    both = json.loads(run("seresnet18", "--columns", 6, "--rows", "full", "--json"))["blocks"]
    assert both == columns


def test_report_needs_no_weights(run, monkeypatch):
    def refuse(*args, pretrained=False, **kwargs):
        assert not pretrained and kwargs["device"] == torch.device("meta")
        return create(*args, **kwargs)

    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", refuse)
    assert "seresnet50 at 224×224" in run("seresnet50.ra2_in1k")
    assert "seresnet50 at 64×64" in run("seresnet50", "--size", 64, "--model-kwargs", "num_classes=3")


def check_written(folder, printed: str, model: torch.nn.Module) -> torch.nn.Module:
    """What the printed Python loads has the weights of `model` and the tiles of the report."""
    names: dict[str, torch.nn.Module] = {}
    exec(printed.splitlines()[-1], names)
    loaded = names["model"].eval()
    assert json.loads((folder / "config.json").read_text())["architecture"] == "attached"
    report = json.loads((folder / "buffering.json").read_text())
    assert (folder / "buffering.txt").read_text().rstrip("\n") in printed
    tiles = {name: list(m.tile) for name, m in loaded.named_modules() if isinstance(m, TiledSE)}
    assert tiles == {b["name"]: b["tile"] for b in report["blocks"] if b["tile"] != [None, None]}
    assert list(loaded.state_dict()) == list(model.state_dict())
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in loaded.state_dict().items())
    return loaded


@pytest.mark.parametrize("form", ["run", "model", "local-dir", "file"])
def test_writing(run, saved, tmp_path, form):
    model, folder = saved
    source = {
        "run": [folder.parent],
        "model": [folder],
        "local-dir": [f"local-dir:{folder}"],
        "file": [folder / "model.safetensors", "--model", "seresnet18", "--model-kwargs", f"layers={LAYERS}"],
    }[form]
    output = tmp_path / "tiled"
    printed = run(*source, "--rows", 3, "--override", "layer4.*.se=2x2", "-o", output, "--size", 96)
    assert "tiled 4 modules; saved to" in printed
    loaded = check_written(output, printed, model)
    x, twin = draw(2, 1, 96, 64), timm.create_model("seresnet18", layers=LAYERS, num_classes=5, in_chans=1).eval()
    twin.load_state_dict(model.state_dict())
    tile(twin, rows=3, overrides={"layer4.*.se": (2, 2)})
    with torch.no_grad():
        assert torch.equal(loaded(x), twin(x))
        assert not torch.equal(loaded(x), model(x))
    again = run(output, "--size", 96)  # as it is
    assert again.splitlines()[1:] == (output / "buffering.txt").read_text().splitlines()[1:]
    assert again.startswith("attached seresnet18 at 96×96")


def test_classes_and_normalisation_stay(run, tmp_path):
    torch.manual_seed(0)
    model = timm.create_model("mobilenetv3_small_050", num_classes=3)
    model.pretrained_cfg = {
        **model.pretrained_cfg,
        "mean": (0.1, 0.2, 0.3),
        "input_size": (3, 96, 96),
        "license": "mit",
    }
    share.save(model, tmp_path / "plain")
    run(tmp_path / "plain", "-o", tmp_path / "tiled")
    loaded = timm.create_model(f"local-dir:{tmp_path / 'tiled'}", pretrained=True)
    cfg = loaded.pretrained_cfg
    assert (loaded.num_classes, tuple(cfg["mean"]), tuple(cfg["input_size"])) == (3, (0.1, 0.2, 0.3), (3, 96, 96))
    assert "license: mit" in (tmp_path / "tiled" / "README.md").read_text()
    assert json.loads((tmp_path / "tiled" / "buffering.json").read_text())["size"] == [96, 96]


def test_a_weights_file_of_a_run_says_what_it_is_for(run, saved, tmp_path):
    model, _ = saved
    recipe = Recipe(model="seresnet18", model_kwargs={"layers": LAYERS})
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    write_safetensors(weights, tmp_path / "best.safetensors", metadata={"recipe": recipe.to_json()})
    printed = run(tmp_path / "best.safetensors", "-o", tmp_path / "tiled")
    check_written(tmp_path / "tiled", printed, model)


def test_attention_that_replaced_other_stays(run, tmp_path):
    model = timm.create_model(
        "attached", base="seresnet18", layers=LAYERS, replace="se", attn="eca", only="layer1.*.se"
    )
    share.save(model, tmp_path / "mixed")
    printed = run(tmp_path / "mixed", "-o", tmp_path / "tiled")
    loaded = check_written(tmp_path / "tiled", printed, model)
    assert type(loaded.layer1[0].se).__name__ == "ECA" and isinstance(loaded.layer2[0].se, TiledSE)


def test_the_starting_gain_of_attention_stays(run, tmp_path):
    model = timm.create_model("se_resnet20", layers=[1, 1, 1], gain="unit", zero_init_last=False).eval()
    share.save(model, tmp_path / "unit")
    run(tmp_path / "unit", "-o", tmp_path / "tiled")
    loaded = timm.create_model(f"local-dir:{tmp_path / 'tiled'}", pretrained=True).eval()
    images = draw(2, 3, 32, 32)
    tile(model)
    with torch.no_grad():
        assert torch.equal(loaded(images), model(images))
    assert loaded._model_args["base_gain"] == "unit"
    printed = run(tmp_path / "tiled")
    assert "(-" in printed.splitlines()[-1]


def test_random_weights_only_when_asked(run, fail, tmp_path):
    code, message = fail("seresnet18", "-o", tmp_path / "tiled")
    assert (
        code == 1
        and "No pretrained weights exist" in message
        and message.endswith("--no-pretrained takes random weights")
    )
    printed = run(
        "seresnet18", "--model-kwargs", f"layers={LAYERS}", "--no-pretrained", "-o", tmp_path / "tiled", "--json"
    )
    assert json.loads(printed)["folder"] == str(tmp_path / "tiled")


def test_offline(fail, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    code, message = fail("seresnet50.ra2_in1k", "-o", tmp_path / "tiled")
    assert code == 1 and message.startswith("cannot load seresnet50.ra2_in1k: wanted ")
    assert not (tmp_path / "tiled").exists()


def test_unknown_names(fail):
    assert fail("sersnet50") == (2, "unknown model 'sersnet50'; did you mean seresnet50 or seresnet50t or se_resnet50?")
    code, message = fail("seresnet18", "--override", "layer9.0.se=3")
    assert code == 2 and message.startswith("unknown squeeze-and-excitation pattern 'layer9.0.se'; did you mean")
    code, message = fail("seresnet18", "--precision", "int7")
    assert code == 2 and message.startswith("unknown precision 'int7'; did you mean int")


@pytest.mark.parametrize(
    "argv, code, message",
    [
        (["resnet18"], 1, "nothing to tile: wanted squeeze-and-excitation modules, got a model with attention-like"),
        (["no/such/folder"], 1, "no such file or folder: no/such/folder"),
        (["weights.safetensors"], 1, "no such file or folder: weights.safetensors"),
        (["seresnet18", "--model", "seresnet18"], 1, "--model says what a weights file is for, but seresnet18"),
        (["seresnet18", "--rows", "0"], 2, "argument --rows: expected a number of at least 1"),
        (["seresnet18", "--size", "1,2,3"], 2, "argument --size: expected a size as 224 or 320,480, got '1,2,3'"),
        (["seresnet18", "--override", "layer1"], 2, "argument --override: expected pattern=rows"),
        (["seresnet18", "--override", "layer1.*.se=1x2x3"], 2, "argument --override: expected pattern=rows"),
        (["seresnet18", "--override", "layer1.*.se=half"], 2, "argument --override: expected a number of at least 1"),
        (["seresnet18", "--count", "0"], 1, "count must be at least 1"),
        (["seresnet18", "--rows", "full"], 1, "nothing to tile: every module would keep the whole map"),
        (["seresnet18", "--model-kwargs", "nonsense=1"], 1, "cannot make seresnet18 with these arguments: "),
    ],
)
def test_errors(fail, argv, code, message):
    got, said = fail(*argv)
    assert got == code and said.startswith(message), said


def test_files_that_do_not_fit(fail, saved, tmp_path):
    model, folder = saved
    weights = folder / "model.safetensors"
    code, message = fail(weights)
    assert (code, message) == (1, f"{weights} does not say what model it is for: pass --model NAME")
    code, message = fail(weights, "--model", "seresnet34")
    assert code == 1 and "does not fit the model: missing " in message
    assert fail(weights, "--model", "seresnet1")[0] == 2
    (tmp_path / "empty").mkdir()
    code, message = fail(tmp_path / "empty")
    assert code == 1 and message.endswith("holds no model that timm can load: wanted config.json, or model/config.json")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes").write_text("mine")
    code, message = fail(folder, "-o", tmp_path / "used")
    assert code == 1 and "wanted a new or empty folder" in message
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.json").write_text("{")
    assert fail(tmp_path / "damaged")[0] == 1


def test_what_cannot_be_saved(run, fail, saved, tmp_path):
    run(saved[1], "-o", tmp_path / "tiled", "--count", 2)
    code, message = fail(tmp_path / "tiled", "--rows", 3, "-o", tmp_path / "twice")
    assert code == 1 and message.startswith("this network is tiled already, by {")
    behind = timm.create_model("attached", base="resnet18", layers=LAYERS, after="layer*.*.bn2", attn="se")
    share.save(behind, tmp_path / "behind")
    code, message = fail(tmp_path / "behind", "-o", tmp_path / "twice")
    assert code == 1 and message.startswith("cannot save layer1.0.bn2.attn tiled: ")
    assert not (tmp_path / "twice").exists()


def test_unknown_classes_are_named(capsys, monkeypatch):
    monkeypatch.delitem(squeeze_excite._KNOWN, "timm.models.hgnet.EseModule")
    code = main.main(["tile", "hgnet_tiny"])
    said = capsys.readouterr().err
    assert code == 1 and "nothing to tile" in said and "5 EseModule" in said
