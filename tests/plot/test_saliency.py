"""`saliency` against the formula, `draw_saliency` and the example against what they are to show."""

import re
import runpy
import sys
from itertools import combinations

import pytest
import timm
import torch
from checkout import EXAMPLES
from matplotlib import colormaps, image, rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from torch import nn
from torch.nn.functional import interpolate

from sase_attn.plot import draw_saliency, saliency, saliency_grid
from sase_attn.training import Recipe, train

EXAMPLE = EXAMPLES / "saliency.py"


def tiny(seed=0, channels=3):
    """Three classes; the first feature map is followed by work in place, the last by a mean and a linear layer."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(channels, 5, 3, padding=1),
        nn.BatchNorm2d(5),
        nn.ReLU(inplace=True),
        nn.Conv2d(5, 7, 3, stride=4),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(7, 3),
    )


def batch(count=4, size=24, channels=3, seed=1):
    """Photos in [0, 1]."""
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(seed))


def scaled(maps, size):
    maps = interpolate(maps, size, mode="bilinear")
    return maps / maps.amax((1, 2, 3), keepdim=True).clamp_min(1e-12)


@pytest.mark.parametrize("target", [None, 2, [0, 2, 1, 1], torch.tensor([2, 2, 0, 1])], ids=str)
@pytest.mark.parametrize("layer", ["0", "1", "3", "4"])
def test_it_is_the_formula(layer, target):
    model, images = tiny(), batch(size=26)
    given = saliency(model, images, layer=layer, target=target)
    model.eval()
    activations = model[: int(layer) + 1](images).detach().requires_grad_()
    logits = model[int(layer) + 1 :](activations.clone())
    classes = logits.argmax(1) if target is None else torch.as_tensor(target).expand(4)
    (gradient,) = torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), activations)
    maps = (gradient.mean((2, 3), keepdim=True) * activations).sum(1, keepdim=True).relu()
    torch.testing.assert_close(given, scaled(maps, (26, 26)))
    assert given.shape == (4, 1, 26, 26) and given.min() >= 0
    assert {round(value, 6) for value in given.amax((1, 2, 3)).tolist()} <= {0.0, 1.0}


def test_before_a_mean_and_a_linear_layer_it_is_the_class_activation_map():
    """No gradient is needed there: ∂y/∂A_k is the weight of k over the number of positions."""
    model, images = tiny().eval(), batch()
    weights = model[8].weight[1][None, :, None, None]
    maps = (weights * model[:5](images)).sum(1, keepdim=True).relu().detach()
    assert (maps > 0).any()
    torch.testing.assert_close(saliency(model, images, target=1), scaled(maps, (24, 24)))


def test_a_map_without_evidence_is_zero():
    model = tiny()
    nn.init.constant_(model[8].weight, -1.0)
    assert saliency(model, batch()).eq(0).all()


def test_the_network_is_left_as_it_was():
    model = tiny().train()
    model[1].eval()
    model[0].weight.requires_grad_(False)
    model[3].weight.grad = torch.ones_like(model[3].weight)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    images, random = batch(), torch.get_rng_state()
    expected = saliency(model, images)
    with pytest.raises(ValueError, match="targets from 0 to 2"):
        saliency(model, images, target=3)
    assert [module.training for module in model] == [index != 1 for index in range(9)] and model.training
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["0.weight"]
    assert [name for name, p in model.named_parameters() if p.grad is not None] == ["3.weight"]
    assert model[3].weight.grad.eq(1).all() and not images.requires_grad
    assert all(not module._forward_hooks and not module._backward_hooks for module in model.modules())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    with torch.inference_mode():
        assert torch.equal(saliency(model, batch()), expected)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    assert torch.equal(saliency(model, images), expected)
    torch.testing.assert_close(saliency(model.bfloat16(), images), expected, atol=0.1, rtol=0)


def test_the_layer_by_default():
    images = batch(2, 64)
    for name, layer in (("resnet18", "layer4"), ("tf_efficientnet_lite0", "blocks.6")):
        network = timm.create_model(name, num_classes=3)
        assert torch.equal(saliency(network, images), saliency(network, images, layer=layer))
    plain = tiny()
    assert torch.equal(saliency(plain, images), saliency(plain, images, layer="4"))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"layer": "conv1"}, "unknown layer 'conv1'; known: 0, 1, 2"),
        ({"layer": "8"}, r"8 gives \(4, 3\), and Grad-CAM needs a feature map \(B, C, h, w\)"),
        ({"layer": "5"}, "5 gives 1×1 positions for images of 24×24; name an earlier layer"),
        ({"target": [0, 1]}, r"a class as target, or 4 of them, one an image, got \[0, 1\]"),
        ({"target": 1.0}, "a class as target"),
        ({"target": -1}, "targets from 0 to 2, got -1"),
        ({"images": batch()[0]}, r"images \(B, C, H, W\) of floats, got \(3, 24, 24\) of torch.float32"),
        ({"images": (255 * batch()).byte()}, "of torch.uint8"),
        ({"images": batch() * torch.nan}, "the map of 4 is not finite"),
        ({"model": tiny()[:5]}, r"\(B, C, H, W\) → \(B, classes\); Sequential gave \(4, 7, 6, 6\)"),
        ({"model": nn.Sequential(nn.Flatten(), nn.Linear(1728, 3))}, "no layer with a feature map"),
    ],
)
def test_what_is_wrong_is_said(arguments, message):
    with pytest.raises(ValueError, match=message):
        saliency(**{"model": tiny(), "images": batch()} | arguments)


def test_networks_without_feature_maps_are_refused():
    tokens = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1)
    with pytest.raises(ValueError, match=r"blocks.0 gives \(1, 5, 192\), and Grad-CAM needs"):
        saliency(tokens, batch(1, 32))
    channels_last = timm.create_model("swin_tiny_patch4_window7_224", img_size=64, window_size=2, depths=(1, 1))
    with pytest.raises(ValueError, match=r"layers.1 gives \(1, 8, 8, 192\) and not \(B, 192, h, w\)"):
        saliency(channels_last, batch(1, 64))
    unused = tiny()
    unused[0].spare = nn.Conv2d(3, 3, 1)
    with pytest.raises(ValueError, match="0.spare is not called"):
        saliency(unused, batch(), layer="0.spare")


NORMALISATION = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.3)}


def drawn(monkeypatch, *arguments, **keywords):
    """The axes that would be written."""
    figures = []
    monkeypatch.setattr(saliency_grid, "write_figure", lambda draw, path: figures.append(draw()))
    draw_saliency(*arguments, "picture.png", **keywords)
    return figures[0].axes[0]


def overlaid(photo, seen):
    """A map (H, W) over the photo (3, H, W) in grey."""
    grey = torch.einsum("chw,c->hw", photo, torch.tensor([0.299, 0.587, 0.114]))[..., None]
    colours = torch.from_numpy(colormaps[saliency_grid._HEAT](seen.numpy())[..., :3])
    return (1 - saliency_grid._OPACITY) * grey + saliency_grid._OPACITY * colours


def text_of(axes):
    """Texts with their colours, row by row from the top."""
    return [
        (text.get_text(), text.get_color())
        for text in sorted(axes.texts, key=lambda text: (-round(text.get_position()[1], 3), text.get_position()[0]))
    ]


def test_the_grid_shows_photos_maps_and_predictions(monkeypatch):
    models, photos = {"one": tiny(0), "two": tiny(5)}, batch(3)
    inputs = (photos - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)) / torch.tensor([0.2, 0.25, 0.3]).view(3, 1, 1)
    scores = [model.eval()(inputs).softmax(1) for model in models.values()]
    targets = [int(scores[0][0].argmax()), *((score.argmax() + 1).item() % 3 for score in scores[0][1:])]
    axes = drawn(monkeypatch, models, photos, targets=targets, labels=["ant", "bee", r"$\cat$"], **NORMALISATION)

    assert not any(text.get_parse_math() for text in axes.texts)
    *cells, bar = axes.images
    assert len(cells) == 3 * 3 and bar.get_array().shape[:2] == (1, 256)
    for index, cell in enumerate(cells):
        row, column = divmod(index, 3)
        expected = photos[row].permute(1, 2, 0)
        if column:
            (seen,) = saliency(list(models.values())[column - 1], inputs[row : row + 1], target=targets[row])[:, 0]
            expected = overlaid(photos[row], seen)
        assert abs(cell.get_array() - expected.numpy()).max() < 0.01
    names, wrong = ["ant", "bee", r"$\cat$"], saliency_grid._WRONG
    expected = [("one", "#111111"), ("two", "#111111")]
    for row, target in enumerate(targets):
        below = [(names[target], "#111111")]
        again = []
        for score in scores:
            guess = int(score[row].argmax())
            below.append((f"{names[guess]} {100 * score[row, guess]:.0f} %", "#111111" if guess == target else wrong))
            if guess != target:
                again.append((f"{names[target]} {100 * score[row, target]:.0f} %", saliency_grid._GREY))
        expected += below + again
    assert text_of(axes)[:-3] == expected
    assert [text for text, _ in text_of(axes)[-3:]] == ["0", "maximum of each map", "Grad-CAM of the photo's class"]
    assert any(colour == wrong for _, colour in expected)


def test_each_networks_own_prediction_normalisation_and_layer(monkeypatch):
    models = {"a": timm.create_model("resnet18", num_classes=3), "b": tiny(5)}
    models["b"].pretrained_cfg = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "label_names": ["x", "y", "z"]}
    photos = batch(2, 48)
    axes = drawn(monkeypatch, models, photos, layer={"a": "layer3"}, captions=["first", ""])
    mean, std = (torch.tensor(models["a"].pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    seen = [saliency(models["a"], (photos - mean) / std, layer="layer3"), saliency(models["b"], photos)]
    for row in range(2):
        for column in range(2):
            expected = overlaid(photos[row], seen[column][row, 0])
            assert abs(axes.images[3 * row + column + 1].get_array() - expected.numpy()).max() < 0.01
    texts = [text for text, _ in text_of(axes)]
    assert texts[2] == "first" and texts[-1] == "Grad-CAM of each network's prediction"
    assert all(re.fullmatch(r"[xyz] \d+ %", text) for text in (*texts[3:5], *texts[6:8]))


def test_nothing_overlaps_and_grey_photos_are_shown(monkeypatch):
    models = {"a network with a name that is far too long": tiny(0, 1), "b": tiny(5, 1)}
    photos = batch(3, channels=1)[..., :16]
    labels = ["a class that has very many words in its name", "WWWWWWWWWWWWWWWWWWWWWWWW", "two\nlines"]
    axes = drawn(monkeypatch, models, photos, targets=[0, 1, 2], labels=labels, mean=[0.0], std=[1.0])
    renderer = FigureCanvasAgg(axes.figure).get_renderer()
    boxes = [item.get_window_extent(renderer) for item in (*axes.texts, *axes.images) if getattr(item, "_text", "x")]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    assert all(axes.figure.bbox.containsx(x) for box in boxes for x in (box.x0, box.x1))
    assert all(axes.figure.bbox.containsy(y) for box in boxes for y in (box.y0, box.y1))
    assert axes.images[0].get_array().shape == (24, 16, 3)
    assert sum(text.endswith("…") for text, _ in text_of(axes)) >= 3
    assert "two lines" in [text for text, _ in text_of(axes)]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_files_are_reproducible_and_replaced_whole(tmp_path, suffix):
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    second.write_text("old")
    draw_saliency({"net": tiny()}, batch(2), first, targets=[1, 2], **NORMALISATION)
    with rc_context({"font.family": "serif", "savefig.bbox": "tight", "image.origin": "lower", "image.cmap": "gray"}):
        draw_saliency({"net": tiny()}, batch(2), second, targets=[1, 2], **NORMALISATION)
    assert first.read_bytes() == second.read_bytes()
    assert sorted(tmp_path.iterdir()) == [first, second]
    assert first.read_bytes()[:4] in (b"\x89PNG", b"<?xm", b"%PDF")
    if suffix == ".svg":
        assert ">net</text>" in first.read_text() and ">Grad-CAM of the photo's class</text>" in first.read_text()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"models": {}}, "at least one network"),
        ({"images": batch(2) * 3}, r"photos in \[0, 1\], got .* to 3"),
        ({"images": batch(2, channels=2)}, r"photos \(B, 3, H, W\) of floats, got \(2, 2, 24, 24\)"),
        ({"images": batch(2, channels=1)}, "net: wanted a mean of 1 channels"),
        ({"mean": None}, "net does not say how it wants photos normalised; pass mean and std"),
        ({"layer": {"nett": "3"}}, "unknown network 'nett'; did you mean net"),
        ({"layer": "42"}, "unknown layer '42'"),
        ({"targets": [0, 1, 2]}, "2 of them, one an image"),
        ({"labels": ["a", "b"]}, "labels of 3 classes, got 2"),
        ({"captions": ["a"]}, "2 captions, one a photo, got 1"),
        ({"models": {"net": tiny(), "other": tiny()[:8]}}, "differ in their classes: net has 3, other 7"),
        ({"path": "picture.gif"}, "a picture is a .png"),
    ],
)
def test_what_is_wrong_with_a_picture_is_said(arguments, message, tmp_path):
    good = {"models": {"net": tiny()}, "images": batch(2), "path": tmp_path / "picture.png", **NORMALISATION}
    with pytest.raises(ValueError, match=message):
        draw_saliency(**good | arguments)
    assert not list(tmp_path.iterdir())


def test_networks_of_other_classes_are_not_mixed(tmp_path):
    models = {"one": tiny(), "two": tiny()}
    for model, names in zip(models.values(), (["a", "b", "c"], ["a", "c", "b"]), strict=True):
        model.pretrained_cfg = {"label_names": names}
    with pytest.raises(ValueError, match="one and two name others"):
        draw_saliency(models, batch(), tmp_path / "a.png", **NORMALISATION)


@pytest.mark.parametrize("missing", ["captum.attr", "matplotlib"])
def test_a_missing_extra_is_one_line(missing, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    start = "Grad-CAM needs captum" if missing == "captum.attr" else "drawing needs matplotlib"
    with pytest.raises(ImportError, match=rf'^{start}: pip install "sase-attn\[saliency\]"$'):
        draw_saliency({"net": tiny()}, batch(), tmp_path / "a.png", **NORMALISATION)
    assert not list(tmp_path.iterdir())


def test_no_figure_is_left_in_pyplot(tmp_path):
    from matplotlib import pyplot

    draw_saliency({"net": tiny()}, batch(1), tmp_path / "a.png", **NORMALISATION)
    assert pyplot.get_fignums() == []


COLOURS = {"n02123045": (200, 40, 40), "n02123159": (40, 200, 40), "n02123394": (40, 40, 200)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Photos of three ImageNet ids, and two networks that `train` wrote."""
    folder = tmp_path_factory.mktemp("runs")
    for split in ("train", "val"):
        for name, colour in COLOURS.items():
            (folder / "data" / split / name).mkdir(parents=True)
            for index in range(4):
                noise = 40 * torch.rand(40, 36, 3, generator=torch.Generator().manual_seed(index))
                pixels = (noise + torch.tensor(colour)).byte().numpy()
                Image.fromarray(pixels).save(folder / "data" / split / name / f"{index}.png")
    recipe = Recipe(
        model="resnet20_cifar", model_kwargs={"layers": [1, 1, 1]}, data=str(folder / "data"), size=32, epochs=1
    )
    train(recipe.override(batch_size=4), folder / "plain")
    train(recipe.override(batch_size=4, model="sase_resnet20"), folder / "sase")
    return folder


@pytest.fixture
def example(monkeypatch, capsys):
    """Run the example, and give its exit code and what it printed."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *map(str, arguments)])
        code = 0
        try:
            runpy.run_path(str(EXAMPLE), run_name="__main__")
        except SystemExit as exit:
            code = exit.code
        output = capsys.readouterr()
        return code, output.out + output.err

    return run


def test_the_example_draws_networks_that_were_trained(runs, example):
    networks = ("--model", f"plain={runs / 'plain'}", "--model", f"sase={runs / 'sase' / 'model'}")
    picture = runs / "picture.svg"
    code, said = example(*networks, "--images", runs / "data" / "val", "--count", 3, "-o", picture)
    assert code == 0 and said == f"3 photos × plain, sase: {picture}\n"
    texts = re.findall(r">([^<>\n]+)</text>", picture.read_text())
    assert texts[:2] == ["plain", "sase"] and texts[-1] == "Grad-CAM of the photo's class"
    assert [text for text in texts if text in ("tabby", "tiger cat", "Persian cat")] == [
        "tabby",
        "tiger cat",
        "Persian cat",
    ]
    file = runs / "data" / "val" / "n02123159" / "2.png"
    code, said = example(*networks, "--images", file, "--prediction", "--layer", "layer2", "-o", runs / "own.png")
    assert code == 0, said
    assert image.imread(runs / "own.png").shape[1] > 900


def test_the_example_draws_networks_that_come_with_the_package(runs, example):
    names = [f"{name}.fashion_mnist_6k" for name in ("resnet20_cifar", "sase_resnet20")]
    file = runs / "data" / "val" / "n02123159" / "2.png"
    code, said = example(*(f"--model={name}={name}" for name in names), "--images", file, "-o", runs / "own.svg")
    assert code == 0, said
    texts = re.findall(r">([^<>\n]+)</text>", (runs / "own.svg").read_text())
    assert texts[-1] == "Grad-CAM of each network's prediction"
    classes = timm.create_model(names[0], pretrained=True).pretrained_cfg["label_names"]
    assert all(any(text.startswith(name) for name in classes) for text in texts if text.endswith(" %"))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--model", "plain"), "expected NAME=NETWORK, got 'plain'"),
        (("--model", "plain={runs}/none"), "no network in .*none: wanted a finished run of sase-attn train"),
        (("--model", "a={runs}/plain", "--model", "a={runs}/sase"), "each network needs a name of its own"),
        (("--model", "a={runs}/plain", "--images", "{runs}/plain/model"), "no photos in .*model"),
        (("--model", "a={runs}/plain", "--images", "{runs}/none.png"), "none.png"),
        (("--model", "a={runs}/plain", "--layer", "layer9"), "unknown layer 'layer9'; did you mean layer"),
        (("--model", "a={runs}/plain", "--count", "0"), "wanted at least 1"),
    ],
)
def test_the_example_says_what_is_wrong(runs, example, arguments, message):
    given = ["--images", runs / "data" / "val", *(argument.format(runs=runs) for argument in arguments)]
    code, said = example(*given, "-o", runs / "wrong.png")
    assert code == 2 and re.search(message, said) and "Traceback" not in said
    assert not (runs / "wrong.png").exists()
