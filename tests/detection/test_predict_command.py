"""`sase-attn detect predict`: pictures of what is found, and results that COCO's tools read."""

import contextlib
import io
import json

import pytest
import torch
from detection_data import draw_coco
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor
from untrained_detector import config_of, untrained_detector

from sase_attn.commands.main import main
from sase_attn.detection.predict import AHEAD, predict
from sase_attn.detection.saved import save_detector
from sase_attn.training.data.image_file import read_image
from sase_attn.training.data.reading import Broken

pytest.importorskip("faster_coco_eval")
pytestmark = pytest.mark.usefixtures("one_thread")
CLASSES, IDS = ("square", "triangle"), (3, 90)


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    path = tmp_path_factory.mktemp("detector") / "model.safetensors"
    save_detector(untrained_detector(masks=True), path, config_of(masks=True), CLASSES, IDS)
    return path


@pytest.fixture
def photos(tmp_path):
    """Of several sizes, two of one name, one gray, one turned by its EXIF, one broken."""
    folder = draw_coco(tmp_path / "photos", train=1, val=2)
    Image.open(folder / "val" / "val0.png").save(folder / "train" / "val0.png")
    Image.open(folder / "val" / "val0.png").convert("L").save(folder / "val" / "val0.jpg")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.open(folder / "val" / "val1.png").resize((100, 30)).save(folder / "turned.jpg", exif=turned)
    (folder / "broken.png").write_text("no image")
    return folder


def run(capsys, *arguments):
    code = main(["detect", "predict", *map(str, arguments), "--device", "cpu"])
    return code, *capsys.readouterr()


def test_a_folder_gives_pictures_and_results(detector, photos, tmp_path, capsys):
    from pycocotools.coco import COCO

    out = tmp_path / "out"
    sheet = tmp_path / "sheet.png"
    with pytest.warns(UserWarning, match="skipped: 1 of 7 images cannot be read: .*broken.png"):
        code, printed, err = run(capsys, detector, photos, "-o", out, "--score", 0.4, "--sheet", sheet, "--json")
    assert (code, err) == (0, "")
    values = json.loads(printed)
    assert len(values["images"]) == 6 and [row["image"] for row in values["broken"]] == [str(photos / "broken.png")]
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO(out / "images.json")
        results = known.loadRes(str(out / "results.json"))
    assert {row["name"]: row["id"] for row in known.cats.values()} == dict(zip(CLASSES, IDS, strict=True))
    model = untrained_detector(masks=True)
    for row in values["images"]:
        image = read_image(row_path := photos / row["image"])
        listed = known.imgs[row["image_id"]]
        assert (listed["width"], listed["height"]) == image.size
        assert listed["file_name"].startswith("../photos/")
        assert (out / listed["file_name"]).resolve() == row_path.resolve()  # as in files of conversions
        with torch.no_grad():
            (wanted,) = model([pil_to_tensor(image).float() / 255])
        found = results.loadAnns(results.getAnnIds(imgIds=[row["image_id"]]))
        assert [one["score"] for one in found] == pytest.approx(wanted["scores"].tolist(), abs=1e-6)
        assert [one["category_id"] for one in found] == [IDS[label - 1] for label in wanted["labels"].tolist()]
        for one, mask in zip(found, wanted["masks"], strict=True):
            assert (torch.from_numpy(results.annToMask(one)).bool() == (mask[0] > 0.5)).all()
        sure = [CLASSES[label - 1] for label in wanted["labels"][wanted["scores"] >= 0.4].tolist()]
        assert row["found"] == {name: sure.count(name) for name in row["found"]}
        assert sum(row["found"].values()) == len(sure)
    numbers = {row["image"].removeprefix(f"{photos}/"): row["image_id"] for row in values["images"]}
    assert known.imgs[numbers["turned.jpg"]]["height"] == 100
    wanted = {"train/train0", "train/val0", "turned", "val/val0", f"val/val0_{numbers['val/val0.png']}", "val/val1"}
    pictures = {str(path.relative_to(out / "pictures")) for path in (out / "pictures").rglob("*.jpg")}
    assert pictures == {f"{name}.jpg" for name in wanted}
    with Image.open(sheet) as picture:
        assert picture.width > 1000


def test_the_table_and_the_default_folder(detector, photos, capsys):
    code, out, err = run(capsys, detector, photos / "val" / "val0.png", "--no-pictures", "--score", 0)
    lines = out.splitlines()
    assert (code, err) == (0, "") and lines[0].startswith(f"{photos}/val/val0.png  ")
    assert lines[1] == "12 objects with a score of 0 or more in 1 image"
    assert lines[2] == f"files: {detector.parent}/predictions (results.json, images.json)"
    assert not (detector.parent / "predictions" / "pictures").exists()
    code, out, _ = run(capsys, detector, photos / "val" / "val0.png", "--no-pictures", "--score", 1)
    assert out.splitlines()[0].endswith("val0.png  nothing")


def test_what_is_left_of_an_earlier_call_is_said(detector, photos, tmp_path, capsys):
    call = [detector, "-o", tmp_path / "out"]
    _, out, _ = run(capsys, *call, photos / "val" / "val0.png")
    assert "earlier" not in out and "replaced" not in out
    _, out, _ = run(capsys, *call, photos / "val" / "val1.png")
    assert out.splitlines()[-1] == (
        f"replaced in {tmp_path}/out: results.json, images.json; pictures/ still has 1 picture of an earlier call"
    )
    _, out, _ = run(capsys, *call, photos / "val" / "val1.png", "--json")
    values = json.loads(out)
    assert values["replaced"] == ["results.json", "images.json", "pictures/val1.jpg"]
    assert values["earlier_pictures"] == ["pictures/val0.jpg"]


def test_nothing_that_can_be_read(detector, photos, capsys):
    code, out, err = run(capsys, detector, photos / "broken.png")
    assert code == 1 and out == "" and "none of 1 images can be read" in err
    code, out, err = run(capsys, detector, photos / "nothing")
    assert code == 1 and "no such image or folder" in err


def test_images_are_read_a_few_ahead_and_in_order(photos):
    paths = [photos / "val" / f"val{place % 2}.png" for place in range(3 * AHEAD)] + [photos / "broken.png"]
    model = untrained_detector(masks=False).train()
    found = list(predict(model, paths))
    assert [one.path for one in found] == paths and model.training
    assert isinstance(found[-1], Broken) and torch.equal(found[0].seen["boxes"], found[2].seen["boxes"])
    assert not torch.equal(found[0].seen["boxes"], found[1].seen["boxes"])
