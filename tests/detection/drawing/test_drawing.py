"""Pictures of detections: each mark lies where it should, and texts do not lie on each other."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from sase_attn.detection.data.masks import mask_tools
from sase_attn.detection.drawing import draw_detections, draw_sheet, draw_tile
from sase_attn.detection.drawing.labels import COLORS, INK, WHITE, Labels, color, font, shortened
from sase_attn.detection.evaluation.detections import Detections
from sase_attn.plot.confusion import draw_confusion

pytest.importorskip("matplotlib")
GREY = (100, 100, 100)
CLASSES = ("cat", "Ωmega $x_1$", "unseen")


def seen_as(boxes, labels, scores, masks=None):
    seen = Detections(boxes=torch.tensor(boxes).float().view(-1, 4), labels=torch.tensor(labels, dtype=torch.int64),
                      scores=torch.tensor(scores, dtype=torch.float32))  # fmt: skip
    if masks is not None:
        seen["masks"] = [mask_tools().encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]
    return seen


def drawn(path, seen, classes=CLASSES, size=(640, 480), **options):
    draw_detections(Image.new("RGB", size, GREY), seen, classes, path, **options)
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def test_boxes_are_in_the_colours_of_their_classes(tmp_path):
    seen = seen_as([[100, 200, 300, 400], [400, 100, 500, 300], [10, 10, 50, 50]], [1, 2, 1], [0.9, 0.6, 0.3])
    pixels = drawn(tmp_path / "one.png", seen)
    assert pixels.shape[1] == 640 and 490 < pixels.shape[0] < 530  # the legend is below
    assert tuple(pixels[390, 100]) == tuple(pixels[400, 250]) == color(0)
    assert tuple(pixels[290, 400]) == color(1) and tuple(pixels[300, 200]) == GREY
    assert tuple(pixels[30, 10]) == GREY  # not sure enough
    assert (pixels[480:] == color(1)).all(-1).sum() > 50 and not (pixels[480:] == color(2)).all(-1).any()
    surer = drawn(tmp_path / "two.png", seen, min_score=0.2)
    assert tuple(surer[30, 10]) == color(0)


def test_masks_are_filled_and_of_one_class_each_object_has_its_colour(tmp_path):
    masks = np.zeros((2, 480, 640), bool)
    masks[0, 110:190, 110:190], masks[1, 210:290, 210:290] = True, True
    seen = seen_as([[100, 100, 200, 200], [200, 200, 300, 300]], [1, 1], [0.9, 0.8], masks)
    pixels = drawn(tmp_path / "one.png", seen, ("cell",)).astype(int)
    for place, (row, column) in enumerate([(150, 150), (250, 250)]):
        wanted = 0.6 * np.array(GREY) + 0.4 * np.array(COLORS[place])
        assert abs(pixels[row, column] - wanted).max() <= 2
        edge = (189, 150) if place == 0 else (289, 250)
        assert tuple(pixels[edge]) == COLORS[place]
    assert tuple(pixels[195, 150]) == GREY  # in the box, not in the mask


def test_small_pictures_grow_and_huge_ones_shrink(tmp_path):
    seen = seen_as([[10, 10, 40, 30]], [1], [0.9])
    pixels = drawn(tmp_path / "small.png", seen, size=(64, 48))
    assert pixels.shape[1] == 640 and tuple(pixels[295, 100]) == color(0)
    assert drawn(tmp_path / "large.jpg", seen, size=(3200, 100)).shape[1] == 1600


def test_an_image_without_detections_says_so(tmp_path):
    pixels = drawn(tmp_path / "none.png", seen_as([], [], []))
    assert (pixels[:480] == GREY).all() and (pixels[480:] == INK).all(-1).any()


def test_texts_lie_beside_each_other_and_inside():
    picture = Image.new("RGB", (200, 100), GREY)
    labels = Labels(picture, 12)
    boxes = [(x, y, x + 60, y + 12) for x in (-5, 5, 80, 180) for y in (-3, 20, 25, 95)]
    put = [labels.put("cat", " 90 %", box, color(0)) for box in boxes]
    taken = labels._taken
    assert 6 <= put.count(True) == len(taken) < 16
    assert min(min(place) for place in taken) >= 0
    assert max(place[2] for place in taken) <= 200 and max(place[3] for place in taken) <= 100
    assert not any(
        one is not other and one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
        for one in taken
        for other in taken
    )
    assert shortened("a" * 500, 60, 12).endswith("…") and font(12).getlength(shortened("a" * 500, 60, 12)) <= 60


def test_of_a_long_name_the_number_stays(tmp_path, monkeypatch):
    texts = []
    draw = ImageDraw.ImageDraw.text

    def text(self, xy, text, *arguments, **options):
        texts.append(text)
        draw(self, xy, text, *arguments, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    drawn(tmp_path / "long.png", seen_as([[100, 200, 300, 400]], [1], [0.87]), ("a" * 400, "b"))
    assert texts[0].startswith("aaa") and texts[0].endswith("a… 87 %") and texts[1].endswith("a… 1")
    assert font(11).getlength(texts[0]) <= 0.4 * 640 and font(11).getlength(texts[1]) <= 640


def test_characters_that_the_font_lacks_are_named(tmp_path):
    seen = seen_as([[100, 200, 300, 400]], [1], [0.9])
    with pytest.warns(
        UserWarning, match="the font of pictures has no characters for 細胞: boxes are drawn for them"
    ) as warned:
        drawn(tmp_path / "one.png", seen, ("細胞細", "b"))
        draw_sheet([draw_tile(Image.new("RGB", (64, 64)), seen, ("胞", "b"), "細")], ("胞", "b"), tmp_path / "two.png")
        draw_confusion(torch.eye(2).long(), ("細胞", "b"), ("細胞", "b"), tmp_path / "three.png")
    assert len(warned) == 1


def test_a_sheet_has_all_images_with_their_titles_and_what_was_missed(tmp_path):
    seen = seen_as([[10, 10, 60, 50]], [1], [0.9])
    missed = torch.tensor([[20.0, 20.0, 80.0, 40.0]])
    tiles = [
        draw_tile(Image.new("RGB", (96, 48 + 16 * n), GREY), seen, CLASSES, f"image {n}", missed=None if n else missed)
        for n in range(5)
    ]
    draw_sheet(tiles, CLASSES, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as picture:
        pixels = np.asarray(picture)
        assert picture.width == 3 * 492 + 12
    assert (pixels == color(0)).all(-1).sum() > 5 * 300
    assert tuple(pixels[12 + 200 - 1, 12 + 350]) == WHITE and tuple(pixels[12 + 200, 12 + 350]) == INK


def test_what_cannot_be_drawn(tmp_path):
    seen = seen_as([], [], [])
    with pytest.raises(ValueError, match=r"a picture of detections is a .png, .jpg, .jpeg file, got 'a.svg'"):
        drawn("a.svg", seen)
    with pytest.raises(FileNotFoundError, match="no folder 'nowhere' to draw in"):
        drawn("nowhere/a.png", seen)
    with pytest.raises(ValueError, match="wanted at least one image to draw, got none"):
        draw_sheet([], CLASSES, tmp_path / "a.png")
