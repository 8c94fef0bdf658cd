"""Every example is run as its docstring says, and gives what it says."""

import json
import re

import pytest
import timm
import torch
import warm
from checkout import EXAMPLES
from PIL import Image
from safetensors.torch import save_file
from timm.data import create_transform, resolve_model_data_config

from sase_attn import SASEBlock

COLOURS = {"blue": (40, 40, 210), "green": (40, 200, 40), "red": (220, 30, 30)}


def run(name, *arguments):
    return warm.run(EXAMPLES / name, *arguments)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Noise around one colour a class; sizes differ."""
    folder = tmp_path_factory.mktemp("images")
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 8), ("val", 4)):
        for name, colour in COLOURS.items():
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                noise = torch.randint(-90, 90, (50 + 4 * index, 70, 3), generator=generator)
                pixels = (noise + torch.tensor(colour)).clamp(0, 255).to(torch.uint8).numpy()
                Image.fromarray(pixels).save(folder / split / name / f"{index}.png")
    return folder


def test_insertion():
    done = run("insert_attention.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("8 blocks") and done.stdout.endswith("reloaded: identical\n")
    assert float(re.search(r"logit (\S+)", done.stdout)[1]) < 1e-5


def test_finetuning_of_any_network_from_a_file(images, tmp_path):
    weights = tmp_path / "plain.safetensors"
    save_file(timm.create_model("resnet18", num_classes=7).state_dict(), weights)
    network = ["--base", "resnet18", "--after", "layer[34].*.bn2", "--weights", weights]
    output = tmp_path / "run"
    small = ["--size", 32, "--batch-size", 8, "--epochs", 2, "--workers", 0, "--output", output]
    done = run("finetune.py", images, *network, *small)
    assert done.returncode == 0, done.stderr
    assert "fc: not taken from" in done.stdout  # seven classes there, three here
    model = timm.create_model(f"local-dir:{output / 'model'}", pretrained=True).eval()
    assert sum(isinstance(module, SASEBlock) for module in model.modules()) == 4

    # What the saved config records is how the test images were seen: timm's own transform gives the same accuracy.
    transform = create_transform(**resolve_model_data_config(model))
    names = model.pretrained_cfg["label_names"]
    paths = sorted(images.glob("val/*/*.png"))
    with torch.inference_mode():
        scores = model(torch.stack([transform(Image.open(path)) for path in paths]))
    right = [names[index] == path.parent.name for index, path in zip(scores.argmax(1).tolist(), paths, strict=True)]
    targets = torch.tensor([names.index(path.parent.name) for path in paths])
    result = json.loads((output / "result.json").read_text())
    assert result["top1"] == pytest.approx(100 * sum(right) / len(right))
    assert result["loss"] == pytest.approx(torch.nn.functional.cross_entropy(scores, targets).item(), rel=1e-4)
    assert f"top-1 {result['top1']:.2f} % of 12 test images" in done.stdout
    label = names[int(scores[0].argmax())]
    assert f"{paths[0]}: {label} ({100 * scores[0].softmax(0).max():.0f} %)" in done.stdout

    again = run("finetune.py", images, *network, *small, "--resume")
    assert again.returncode == 0 and f"top-1 {result['top1']:.2f} %" in again.stdout
    taken = run("finetune.py", images, *network, *small)
    assert taken.returncode == 2 and "is in use" in taken.stderr and "Traceback" not in taken.stderr


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nowhere/at/all"], "no such image folder: nowhere/at/all"),
        (["{images}", "--base", "resnet18"], "--base and --after go together"),
        (["{images}", "--base", "resnet19", "--after", "layer1"], "did you mean resnet1"),
        (["{images}", "--weights", "missing.pt", "--model", "sase_resnet18"], "no such checkpoint: missing.pt"),
    ],
)
def test_finetuning_says_what_is_wrong(arguments, message, images, tmp_path):
    filled = [argument.format(images=images) for argument in arguments]
    done = run("finetune.py", *filled, "--output", tmp_path / "run")
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr


def test_searching_with_a_network_and_an_operation_of_your_own(images, tmp_path):
    output = tmp_path / "own"
    arguments = (images, "--size", 24, "--epochs", 1, "--train-epochs", 1, "--batch-size", 6, "--output", output)
    done = run("search_your_own.py", *arguments)
    assert done.returncode == 0, done.stderr
    result = json.loads((output / "result.json").read_text())
    assert result["columns"]["spatial_squeeze_gated"][-1] == "median"
    assert "l2norm" not in result["columns"]["channel_squeeze"]
    compared = json.loads((output / "retrained" / "comparison.json").read_text())
    labels = [network["label"] for network in compared["networks"]]
    assert labels[0] == "plain" and labels[-3:] == ["found", "random", "random too"]
    assert (output / "report.html").stat().st_size > 50_000
    again = run("search_your_own.py", *arguments)
    assert again.returncode == 0 and result["genotype"] in again.stdout, again.stderr


def test_one_shot(images, tmp_path):
    photo, output = images / "train" / "red" / "0.png", tmp_path / "one"
    small = ["--size", 16, "--scales", 2, "--smallest", 12, "--width", 4, "--iterations", 1, "--output", output]
    done = run("one_shot.py", "--image", photo, *small)
    assert done.returncode == 2 and "wanted an image of at least 12 pixels a side, got 16x11" in done.stderr
    small[1] = 20
    done = run("one_shot.py", "--image", photo, *small)
    assert done.returncode == 0, done.stderr
    assert "scale 2/2  20x14" in done.stdout and "load_one_shot(" in done.stdout
    assert Image.open(output / "wide.png").size == (36, 14) and Image.open(output / "harmonised.png").size == (20, 14)
    again = run("one_shot.py", "--image", photo, *small)
    assert again.returncode == 0 and again.stdout.splitlines()[-1] == done.stdout.splitlines()[-1]
