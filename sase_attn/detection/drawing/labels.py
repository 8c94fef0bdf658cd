"""Fonts, colours and labels on a picture: placing labels without overlap, and the legend below."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

Rgb = tuple[int, int, int]
COLORS: tuple[Rgb, ...] = (
    (230, 25, 75), (0, 130, 200), (60, 160, 60), (245, 130, 48), (145, 30, 180), (0, 150, 150),
    (200, 40, 200), (128, 128, 0), (150, 75, 0), (70, 90, 230), (210, 160, 0), (240, 90, 150),
)  # fmt: skip
INK: Rgb = (17, 17, 17)
WHITE: Rgb = (255, 255, 255)


class Entry(NamedTuple):
    """An entry of a legend: a colour or None, the text, and its end, which is never shortened."""

    color: Rgb | None
    text: str
    end: str = ""


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which has Greek and Cyrillic too. Raises ImportError without matplotlib, which contains it."""
    try:
        import matplotlib
    except ImportError:
        raise ImportError('drawing needs matplotlib: pip install "sase-attn[detection]"') from None
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def color(place: int) -> Rgb:
    """The colour for a class or object by its index; a dozen colours are repeated."""
    return COLORS[place % len(COLORS)]


def shortened(text: str, width: float, size: int, end: str = "") -> str:
    """The text and its `end` in at most `width` pixels; if they do not fit, the text is cut and marked by "…"."""
    text = " ".join(text.split())
    if font(size).getlength(text + end) <= width:
        return text + end
    while text and font(size).getlength(f"{text}…{end}") > width:
        text = text[:-1]
    return f"{text.rstrip()}…{end}"


class Labels:
    """Labels beside boxes on a picture; a label that would overlap another is left out.

    Args:
        picture: the picture to draw on.
        size: height of the font in pixels.
    """

    def __init__(self, picture: Image.Image, size: int) -> None:
        self._draw, self._size, self._picture = ImageDraw.Draw(picture), size, picture
        self._taken: list[tuple[float, float, float, float]] = []

    def put(self, name: str, end: str, box: Sequence[float], background: Rgb) -> bool:
        """Write a name and its `end` at a corner of a box, above it if possible. Return whether there was room."""
        left, top, right, bottom = box
        text = shortened(name, 0.4 * self._picture.width, self._size, end) if name else end.strip()
        wide, tall = font(self._size).getlength(text) + 4, self._size + 3
        corners = ((left, top - tall), (left, bottom), (right - wide, top - tall), (right - wide, bottom), (left, top))
        for x, y in corners:
            x = min(max(x, 0), self._picture.width - wide)
            place = (x, y, x + wide, y + tall)
            inside = y >= 0 and y + tall <= self._picture.height
            if inside and not any(_overlap(place, taken) for taken in self._taken):
                self._taken.append(place)
                self._draw.rectangle(place, fill=background)
                self._draw.text((x + 2, y + tall / 2), text, fill=WHITE, font=font(self._size), anchor="lm")
                return True
        return False


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def with_legend(picture: Image.Image, entries: Sequence[Entry], size: int) -> Image.Image:
    """The picture with a white strip below it for the entries, in as many lines as they need."""
    tall, gap = round(size * 1.6), size
    places: list[tuple[int, int, Entry]] = []
    x, line = gap, 0
    for entry in entries:
        square = size if entry.color else 0
        entry = entry._replace(text=shortened(entry.text, picture.width - 2 * gap - square - size / 2, size, entry.end))
        wide = round(square * 1.4 + font(size).getlength(entry.text)) + gap
        if x > gap and x + wide > picture.width:
            x, line = gap, line + 1
        places.append((x, line, entry))
        x += wide
    whole = Image.new("RGB", (picture.width, picture.height + tall * (line + 1) + gap // 2), WHITE)
    whole.paste(picture, (0, 0))
    draw = ImageDraw.Draw(whole)
    for x, line, entry in places:
        middle = picture.height + gap // 4 + tall * line + tall / 2
        if entry.color:
            draw.rectangle((x, middle - size / 2, x + size - 1, middle + size / 2), fill=entry.color)
        at = x + (size * 1.4 if entry.color else 0)
        draw.text((at, middle), entry.text, fill=INK, font=font(size), anchor="lm")
    return whole
