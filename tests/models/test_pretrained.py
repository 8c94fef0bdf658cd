"""The weights that come with the package: what they are, what they answer, and the networks that timm makes of them."""

import hashlib
import json
import re
import sys

import numpy as np
import pytest
import timm
import torch
from checkout import BENCHMARKS, ROOT
from safetensors.torch import save_file

from sase_attn import share
from sase_attn.commands.main import main
from sase_attn.errors import UnknownNameError
from sase_attn.models.names import check_name
from sase_attn.models.pretrained_files import FOLDER, TAGS, tagged
from sase_attn.training.data.sets import FASHION_CLASSES, embedded
from sase_attn.training.network import create_network
from sase_attn.training.recipes import Recipe
from sase_attn.weights import read_checkpoint, read_metadata

sys.path.insert(0, str(BENCHMARKS))
import pretrained as benchmark  # noqa: E402
import rows  # noqa: E402
from pretrained_table import cards  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

FILES = sorted(FOLDER.glob("*.safetensors"))
NAMES = [file.stem for file in FILES]
ROWS = {row["label"]: row for row in rows.read_rows(benchmark.STUDY)}
SE, SASE, PLAIN = (f"{name}.fashion_mnist_6k" for name in ("se_resnet20", "sase_resnet20", "resnet20_cifar"))


def images(batch=2, channels=3):
    return torch.randn(batch, channels, 32, 32, generator=torch.Generator().manual_seed(0))


def load(name, **arguments):
    return timm.create_model(name, pretrained=True, **arguments).eval()


def stored_images(tag):
    """Every n-th test image as uint8 (500, C, 32, 32), and its class."""
    if tag == "fashion_mnist_6k":
        pixels, targets = embedded().test
        step = len(targets) // benchmark.SAMPLE
        return pixels[::step].expand(-1, 3, -1, -1), targets[::step]
    return benchmark.read_sample(benchmark.SAMPLES / f"{tag}.npz")


def test_every_file_has_its_row_and_every_row_its_file():
    assert NAMES and set(NAMES) == set(ROWS)
    assert {name.partition(".")[2] for name in NAMES} <= set(TAGS)
    for file in FILES:
        assert hashlib.sha256(file.read_bytes()).hexdigest() == ROWS[file.stem]["sha256"]
        assert file.stat().st_size <= 600_000


def test_every_set_of_images_has_its_card():
    page = (ROOT / "docs" / "pretrained.md").read_text(encoding="utf-8")
    for tag in {row["tag"] for row in ROWS.values()}:
        card = page.partition(f"### {tag}\n")[2].partition("\n#")[0]
        for line in ("images", "licence of the images", "licence of the weights", "training", "not seen"):
            assert f"| {line} |" in card, f"{tag}: {line}"
        epochs = {row["recipe"]["epochs"] for row in ROWS.values() if row["tag"] == tag}
        assert len(epochs) == 1 and f"{epochs.pop()} epochs" in card


@pytest.mark.parametrize("name", NAMES)
def test_answers_of_500_stored_test_images(name):
    row, model = ROWS[name], load(name)
    pixels, targets = stored_images(row["tag"])
    mean, std = (torch.tensor(model.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.inference_mode():
        right = torch.cat([model((part / 255 - mean) / std).argmax(1) for part in pixels.split(100)]) == targets
    known = benchmark.from_hex(row["right"], row["count"])
    assert known.float().mean().item() * 100 == pytest.approx(row["top1"], abs=1e-4)
    stored = known[:: row["count"] // benchmark.SAMPLE]
    assert len(stored) == len(right) == benchmark.SAMPLE
    assert (right != stored).sum() <= 2  # of another processor's rounding
    assert abs(row["top1"] - row["float32_top1"]) <= 0.3


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_those_of_the_network_that_was_trained(name):
    """Made by its recipe, with the tensors of the file: it has the starting gain of the training."""
    metadata = read_metadata(FOLDER / f"{name}.safetensors")
    recipe = Recipe.from_json(metadata["recipe"])
    trained = create_network(recipe, num_classes=10, in_chans=3).eval()
    weights = read_checkpoint(FOLDER / f"{name}.safetensors")
    assert {key for key, value in weights.items() if value.dtype == torch.float16} == dict(
        trained.named_parameters()
    ).keys()
    trained.load_state_dict(weights)
    x, model = images(), load(name)
    assert torch.equal(model(x), trained(x))
    assert next(model.parameters()).dtype == torch.float32
    assert model._model_args == recipe.model_kwargs
    assert "/" not in metadata["recipe"]  # no folder of the machine


def test_the_first_tag_is_loaded_without_one():
    first = next(tag for tag in TAGS if f"sase_resnet20.{tag}" in NAMES)
    model, x = load("sase_resnet20"), images()
    assert torch.equal(model(x), load(f"sase_resnet20.{first}")(x))
    assert set(timm.list_pretrained("*resnet20*")) >= set(NAMES)


def test_a_network_without_weights_is_of_no_images():
    for name in ("resnet20_cifar", "se_resnet20", "sase_resnet20"):
        for model in (timm.create_model(name), timm.create_model("attached", base=name, after="layer1.0.conv1")):
            assert "label_names" not in model.pretrained_cfg and "file" not in model.pretrained_cfg
            assert model.pretrained_cfg["mean"] == (0.4914, 0.4822, 0.4465)
            assert "gain" not in model._model_args
    with pytest.raises(RuntimeError, match="No pretrained weights exist"):
        timm.create_model("sase_resnet20.untrained", pretrained=True)


@pytest.mark.parametrize("name", [SE, SASE])
def test_a_tag_says_the_starting_gain(name):
    x, model = images(), load(name)
    bare = timm.create_model(name)  # as before `load_state_dict` of a file without a record
    assert bare._model_args == {"gain": "unit"}
    bare.load_state_dict(dict(model.state_dict()))
    assert torch.equal(bare.eval()(x), model(x))
    config = timm.get_pretrained_cfg(name)
    for given in (config, config.to_dict()):
        assert torch.equal(load(name.partition(".")[0], pretrained_cfg=given)(x), model(x))
    with pytest.raises(ValueError, match="another starting gain"):
        load(name, gain="published")


def test_tensors_of_your_own_are_not_those_of_the_tag():
    """They may have any gain; by default they have the published one, as a network without a tag."""
    network = timm.create_model("sase_resnet20").eval()
    with torch.no_grad():
        network.layer1[0].bn2.weight.fill_(0.5)
    given = load("sase_resnet20", pretrained_cfg_overlay={"state_dict": dict(network.state_dict())})
    assert torch.equal(given(images()), network(images())) and "gain" not in given._model_args


def test_a_tag_keeps_its_gain_whatever_is_laid_over(tmp_path):
    """So that tensors of a fine-tuning load in each of timm's ways into a network of the same name."""
    model = load(SASE)
    torch.save(model.state_dict(), tmp_path / "own.pt")
    for overlay in (dict(file=str(tmp_path / "own.pt")), dict(state_dict=dict(model.state_dict()))):
        again = load(SASE, pretrained_cfg_overlay=overlay)
        assert torch.equal(again(images()), model(images())) and again._model_args == {"gain": "unit"}
    again = timm.create_model(SASE, checkpoint_path=str(tmp_path / "own.pt")).eval()
    assert torch.equal(again(images()), model(images()))


def test_wrong_tags_are_named(tmp_path, capsys):
    """In one line, by every command that takes a name, and by what they call."""
    wrong, said = "sase_resnet20.fashion", "unknown tag of sase_resnet20 'fashion'; did you mean fashion_mnist_6k?"
    for words in (["predict", wrong, str(ROOT / "docs")], ["evaluate", wrong], ["tile", wrong]):
        assert main([*words, *(["--output", str(tmp_path / "tiled")] if words[0] == "tile" else [])]) == 2
        assert said in capsys.readouterr().err
    with pytest.raises(UnknownNameError, match=re.escape(said)):
        timm.create_model("attached", base=wrong, after="layer1.0.bn2")
    with pytest.raises(UnknownNameError, match=re.escape(said)):
        create_network(Recipe(model=wrong), num_classes=10, in_chans=3)
    check_name("sase_resnet20")
    with pytest.raises(UnknownNameError, match="unknown model 'attached.fashion'; attached has no tags"):
        check_name("attached.fashion")
    with pytest.raises(UnknownNameError, match=r"unknown base 'sase_resnet21'; did you mean sase_resnet20\?"):
        check_name("sase_resnet21", ["sase_resnet20"], "base")


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1", None])
def test_a_damaged_file_is_named_when_it_is_loaded(content, tmp_path, monkeypatch):
    """The package can be imported all the same."""
    file = tmp_path / f"{SASE}.safetensors"
    whole = (FOLDER / file.name).read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if content is None else content)
    monkeypatch.setattr("sase_attn.models.pretrained_files.FOLDER", tmp_path)
    configs = tagged("sase_resnet20", {"num_classes": 10})
    with pytest.raises(ValueError, match=re.escape(str(file))):
        load("sase_resnet20", pretrained_cfg=configs[SASE])


@pytest.mark.parametrize("text", ["{", "[]", None])
def test_a_damaged_header_is_named(text, tmp_path, monkeypatch):
    file = tmp_path / f"{SASE}.safetensors"
    save_file({"x": torch.zeros(1)}, file, {} if text is None else {"recipe": text, "data_config": text})
    monkeypatch.setattr("sase_attn.models.pretrained_files.FOLDER", tmp_path)
    configs = tagged("sase_resnet20", {"num_classes": 10})
    with pytest.raises(ValueError, match=re.escape(f"{file} is damaged: wanted its recipe in its header")):
        load("sase_resnet20", pretrained_cfg=configs[SASE])


def test_wrong_genotype():
    with pytest.raises(ValueError, match="another genotype"):
        load(SASE, genotype="sase_paper")


@pytest.mark.parametrize("name", [PLAIN, SE, SASE])
def test_other_classes_channels_and_uses(name):
    model, x = load(name), images(channels=1)
    assert model.pretrained_cfg["label_names"] == FASHION_CLASSES
    grey = load(name, in_chans=1)
    torch.testing.assert_close(grey(x), model(x.expand(-1, 3, -1, -1)), atol=1e-3, rtol=1e-3)
    other, maps = load(name, num_classes=3), load(name, features_only=True)
    assert other(images()).shape == (2, 3)
    assert torch.equal(other.forward_features(images()), model.forward_features(images()))
    assert torch.equal(maps(images())[-1], model.forward_features(images()))


@pytest.mark.parametrize("name", [PLAIN, SE, SASE])
def test_saved_and_fine_tuned_networks_keep_the_gain(name, tmp_path):
    recipe = Recipe(model=name, init_from="pretrained")
    model = create_network(recipe, num_classes=10, in_chans=3, classes=FASHION_CLASSES).eval()
    share.save(model, tmp_path / "saved")
    again = load(f"local-dir:{tmp_path / 'saved'}")
    assert torch.equal(again(images()), model(images()))
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["model_args"].get("gain") == (None if name == PLAIN else "unit")
    assert str(FOLDER) not in json.dumps(config)


def test_attention_goes_into_them(tmp_path):
    plain, x = load(PLAIN), images()
    model = load("attached", base=PLAIN, after="layer3.*.bn2", attn="sase")
    torch.testing.assert_close(model(x), plain(x))
    tiled = load("attached", base=SE, tile={"rows": 4})
    share.save(tiled, tmp_path / "tiled")
    assert torch.equal(load(f"local-dir:{tmp_path / 'tiled'}")(x), tiled(x))
    assert (tiled(x) - load(SE)(x)).abs().max() > 0
    with pytest.raises(ValueError, match=r'base: wanted the tag of its weights too, as "se_resnet20\.\w+"'):
        load("attached", base="se_resnet20", tile={"rows": 4})


def test_the_command_tiles_them(tmp_path, capsys):
    assert main(["tile", SE, "--rows", "4", "--output", str(tmp_path / "tiled")]) == 0
    tiled = load("attached", base=SE, tile={"rows": 4})
    assert torch.equal(load(f"local-dir:{tmp_path / 'tiled'}")(images()), tiled(images()))


def test_packing(tmp_path):
    """Parameters become float16 and buffers stay; what float16 cannot hold is refused; bits come back from text."""
    model = torch.nn.BatchNorm2d(3)
    model.running_var.fill_(1e6)
    packed = benchmark.packed(model.state_dict(), model)
    assert packed["weight"].dtype == torch.float16 and packed["running_var"].dtype == torch.float32
    model.weight.data.fill_(1e6)
    with pytest.raises(ValueError, match="wanted parameters that float16 can hold, got weight"):
        benchmark.packed(model.state_dict(), model)
    bits = torch.rand(13) > 0.5
    assert torch.equal(benchmark.from_hex(benchmark.as_hex(bits), 13), bits)


def test_a_stored_sample_is_every_nth_image(tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.setattr(benchmark, "SAMPLE", 2)
    for split in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(3):
                Image.fromarray(np.full((32, 32, 3), 40 * index, np.uint8)).save(
                    tmp_path / split / name / f"{index}.png"
                )
    benchmark.write_sample(tmp_path, tmp_path / "sample.npz")
    pixels, targets = benchmark.read_sample(tmp_path / "sample.npz")
    assert pixels.shape == (2, 3, 32, 32) and targets.tolist() == [0, 1] and not pixels.any()


def test_the_table_of_a_set_without_its_plain_network_has_no_differences():
    lines = cards([ROWS[SE]], "place").splitlines()
    assert lines[2].startswith(f"| `{SE}` | ") and lines[2].endswith(" |  |") and len(lines) == 5


def test_every_recipe_is_paired():
    for tag in benchmark.SETS:
        plain, *others = (benchmark.recipe_of(name, tag, BENCHMARKS) for name in benchmark.ARCHITECTURES)
        for other in others:
            assert other.override(model=plain.model, model_kwargs={}, start_as={}) == plain
            assert other.start_as == {"model": plain.model} and other.model_kwargs == {"gain": "unit"}
