"""Classes are matched by name: in `evaluate`, and where a training starts from saved weights."""

import json
import shutil

import pytest
import search_driver
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from sase_attn.commands.main import main
from sase_attn.training import Recipe, create_network, train
from sase_attn.training.class_names import class_names_of, saved_class_names
from sase_attn.training.imagenet_names import described

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = Recipe(
    model="resnet20_cifar", model_kwargs={"layers": [1, 1, 1]}, epochs=3, batch_size=24, augment="none", lr=0.1
)


def quiet(line):
    pass


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return search_driver.image_folder(tmp_path_factory.mktemp("data") / "corners", train=24, test=8)


@pytest.fixture(scope="module")
def run(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    result = train(SMALL.override(data=str(images)), folder, device="cpu", echo=quiet)
    assert result.top1 > 60
    return folder, result


def renamed(images, target, names):
    """The images in a folder with other names of classes; None leaves the class out."""
    for split in ("train", "val"):
        for old, new in zip("abc", names, strict=True):
            if new is not None:
                shutil.copytree(images / split / old, target / split / new)
    return target


def evaluated(capsys, *arguments):
    code = main(["evaluate", *map(str, arguments), "--device", "cpu"])
    out, err = capsys.readouterr()
    return code, out, err


SOURCES = ["", "model", "best.safetensors", "checkpoint.pt", "model/model.safetensors"]


@pytest.mark.parametrize("source", SOURCES)
def test_other_names_are_refused_and_named(images, run, tmp_path, capsys, source):
    folder, _ = run
    other = renamed(images, tmp_path / "other", ("a", "b", "zebra"))
    network = ["--model", SMALL.model, "--model-kwargs", "layers=[1, 1, 1]"] if source.count("/") else []
    code, out, err = evaluated(capsys, folder / source, "--data", other, *network)
    assert code == 1 and out == "" and err.count("\n") == 1
    assert "classes differ: zebra in the data but not in " in err and "c in " in err and "fine-tune it first" in err


@pytest.mark.parametrize("source", SOURCES[:4])
def test_another_order_and_a_part_are_found_by_name(images, run, tmp_path, capsys, source):
    """The folders of the classes get names that sort otherwise, in the network's record too."""
    folder, result = run
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    names = {"a": "c", "b": "b", "c": "a"}  # the images of a are now called c
    config = json.loads((copy / "model" / "config.json").read_text())
    config["label_names"] = [names[name] for name in config["label_names"]]
    (copy / "model" / "config.json").write_text(json.dumps(config))
    saved = torch.load(copy / "checkpoint.pt", weights_only=True)
    saved["data"]["classes"] = ("c", "b", "a")
    torch.save(saved, copy / "checkpoint.pt")
    rewrite_names(copy / "best.safetensors", ["c", "b", "a"])
    swapped = renamed(images, tmp_path / "swapped", ("c", "b", "a"))
    code, out, err = evaluated(capsys, copy / source, "--data", swapped)
    assert code == 0 and f"top-1 {result.top1:.2f} %" in out, err
    assert "classes matched by name: the data have 3 of the 3 that" in out
    part = renamed(images, tmp_path / "part", (None, "b", "a"))
    code, out, err = evaluated(capsys, copy / source, "--data", part, "--json")
    assert code == 0, err
    values = json.loads(out)
    assert values["classes_by"] == "name" and values["count"] == 16 and values["top1"] > 50


def rewrite_names(path, names):
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    data = json.loads(metadata["data"]) | {"classes": names}
    save_file(tensors, path, metadata | {"data": json.dumps(data)})


def test_the_same_names_need_no_word_and_unknown_ones_get_a_line(images, run, tmp_path, capsys):
    folder, result = run
    code, out, _ = evaluated(capsys, folder, "--data", images)
    assert code == 0 and out.count("\n") == 1 and f"top-1 {result.top1:.2f} %" in out
    model = timm.create_model(f"local-dir:{folder / 'model'}", pretrained=True)
    assert class_names_of(model) == saved_class_names(folder) == ("a", "b", "c")
    plain = tmp_path / "plain.safetensors"
    save_file(model.state_dict(), plain, {"data": "somebody else's word"})
    assert saved_class_names(plain) is None
    network = ("--model", SMALL.model, "--model-kwargs", "layers=[1, 1, 1]")
    code, out, err = evaluated(capsys, plain, "--data", images, *network)
    assert code == 0 and out.startswith(f"classes matched by index: {plain} does not name its own\n"), err
    code, out, err = evaluated(capsys, plain, "--data", images, *network, "--json")
    assert json.loads(out)["classes_by"] == "index"


def started(source, classes):
    lines = []
    recipe = SMALL.override(init_from=str(source), seed=7)
    model = create_network(recipe, num_classes=len(classes), in_chans=3, classes=classes, echo=lines.append)
    fresh = create_network(SMALL.override(seed=7), num_classes=len(classes), in_chans=3)
    return model, fresh, lines


@pytest.mark.parametrize("source", ["", "best.safetensors", "checkpoint.pt", "model/model.safetensors"])
def test_a_head_is_kept_for_its_own_classes_only(run, source):
    folder = run[0] / source if source else run[0]
    same, _, lines = started(folder, ("a", "b", "c"))
    assert lines == []
    turned, _, lines = started(folder, ("c", "a", "b"))
    assert torch.equal(turned.fc.weight, same.fc.weight[[2, 0, 1]])
    assert torch.equal(turned.fc.bias, same.fc.bias[[2, 0, 1]])
    assert len(lines) == 1 and "fc: taken from" in lines[0] and "another order" in lines[0]
    other, fresh, lines = started(folder, ("a", "b", "zebra"))
    assert torch.equal(other.fc.weight, fresh.fc.weight) and not torch.equal(other.fc.weight, same.fc.weight)
    assert torch.equal(other.conv1.weight, same.conv1.weight)
    assert len(lines) == 1 and "classes differ: zebra in the data but not in the weights, c in" in lines[0]
    assert "trained from scratch" in lines[0]


def test_a_head_of_unknown_classes_is_taken_by_index(run, tmp_path):
    plain = tmp_path / "plain.safetensors"
    model = timm.create_model(f"local-dir:{run[0] / 'model'}", pretrained=True)
    save_file(model.state_dict(), plain)
    taken, _, lines = started(plain, ("x", "y", "z"))
    assert torch.equal(taken.fc.weight, model.fc.weight) and len(lines) == 1 and "by index" in lines[0]


def test_a_pretrained_network_that_names_its_classes(run):
    recipe = Recipe(model=f"local-dir:{run[0] / 'model'}", init_from="pretrained")
    heads, lines = {}, []
    for classes in ("abc", "cab", "abz"):
        model = create_network(recipe, num_classes=3, in_chans=3, classes=tuple(classes), echo=lines.append)
        heads[classes] = model.get_classifier().weight
    assert torch.equal(heads["cab"], heads["abc"][[2, 0, 1]]) and not torch.equal(heads["abz"], heads["abc"])
    assert len(lines) == 2 and "another order" in lines[0] and "classes differ: z in the data" in lines[1]


def test_training_compares_the_names_of_its_data(images, run, tmp_path):
    other = renamed(images, tmp_path / "other", ("a", "b", "zebra"))
    Image.new("RGB", (12, 12)).save(other / "val" / "a" / "more.png")
    lines = []
    recipe = SMALL.override(data=str(other), init_from=str(run[0]), epochs=1)
    train(recipe, tmp_path / "run", device="cpu", echo=lines.append)
    assert "classes differ: zebra in the data" in lines[0]


@pytest.mark.parametrize("source", ["best.safetensors", "model/model.safetensors"])
def test_what_is_pushed_sees_images_and_names_classes_as_the_run_did(images, run, tmp_path, capsys, source):
    folder, result = run
    network = ["--model", SMALL.model, "--model-kwargs", "layers=[1, 1, 1]"]
    assert main(["push", str(folder / source), *network, "num_classes=3", "--save-to", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    code, out, _ = evaluated(capsys, tmp_path / "out", "--data", images, "--json")
    _, wanted, _ = evaluated(capsys, folder / source, "--data", images, "--json", *network)
    assert code == 0 and json.loads(out) == json.loads(wanted) | {"source": str(tmp_path / "out")}
    assert json.loads(out)["classes_by"] == "name"
    cfg, pushed = (
        json.loads((path / "config.json").read_text())["pretrained_cfg"]
        for path in (folder / "model", tmp_path / "out")
    )
    assert pushed == cfg


def test_a_network_that_is_not_a_weights_file_takes_no_arguments(images, run, capsys):
    folder, _ = run
    code, out, err = evaluated(capsys, folder, "--data", images, "--model-kwargs", "layers=[1, 1, 1]")
    assert code == 1 and out == "" and "--model-kwargs are for weights files" in err
    code, _, err = evaluated(capsys, images, "--data", images)
    assert code == 1 and "holds no network: wanted a run's folder" in err


def test_a_fine_tuning_sees_images_as_the_weights_did(run):
    folder, _ = run
    trained = json.loads((folder / "model" / "config.json").read_text())["pretrained_cfg"]
    for source in ("best.safetensors", "model"):
        cfg = create_network(
            SMALL.override(init_from=str(folder / source)), num_classes=3, in_chans=3, echo=quiet
        ).pretrained_cfg
        assert [list(cfg[name]) for name in ("mean", "std")] == [trained["mean"], trained["std"]]
    assert list(create_network(SMALL, num_classes=3, in_chans=3).pretrained_cfg["mean"]) != trained["mean"]


def test_a_part_of_imagenet_is_found_by_its_synsets(images, tmp_path, monkeypatch, capsys):
    """For networks of timm that do not name their classes and have as many as ImageNet."""
    network = timm.create_model("resnet20_cifar", layers=[1, 1, 1], num_classes=1000)
    monkeypatch.setattr("sase_attn.training.loading._from_timm", lambda name, recipe: network)
    part = renamed(images, tmp_path / "part", ("n02124075", "n02129165", "n01698640"))
    code, out, err = evaluated(capsys, "some_network", "--data", part, "--json")
    values = json.loads(out)
    assert code == 0 and values["classes_by"] == "name" and list(values["per_class"]) == sorted(values["per_class"])
    code, out, err = evaluated(capsys, "some_network", "--data", images)
    assert code == 1 and "has num_classes 1000, the data 3" in err
    code = main(["predict", "some_network", str(part / "val" / "n02124075"), "--device", "cpu"])
    out, _ = capsys.readouterr()
    assert code == 0 and "n02124075" not in out.splitlines()[0].split("png")[1] and "of 8 as their folders say" in out
    assert described(["n02124075", "n02129165"]) == ("Egyptian cat", "lion")
    assert described(["n02124075", "dog"]) == ("n02124075", "dog") and described(["n99999999"]) == ("n99999999",)
