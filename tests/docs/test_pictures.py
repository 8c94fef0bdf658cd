"""The committed charts are what `benchmarks/charts.py` draws: every number and every word in them is the same."""

import re
import sys

import pytest
from checkout import BENCHMARKS
from pages import PAGES

sys.path.insert(0, str(BENCHMARKS))
import charts  # noqa: E402


def texts(path):
    """The texts of an SVG in order. Where they stand depends on fonts and on matplotlib's version."""
    found = re.findall(r"<text[^>]*>(.*?)</text>", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [" ".join(re.sub(r"<[^>]*>", " ", text).split()) for text in found]


@pytest.mark.parametrize("name", charts.PICTURES)
def test_picture_is_current(name, tmp_path):
    charts.PICTURES[name](tmp_path / name)
    drawn = texts(tmp_path / name)
    assert len(drawn) > 20
    assert texts(charts.IMAGES / name) == drawn, "run python benchmarks/charts.py"


def test_every_picture_is_drawn():
    """Or else it is a sheet of made images, which a page shows and which is small."""
    committed = {path.name for path in charts.IMAGES.iterdir()}
    sheets = {name for name in committed if not name.endswith(".svg")}
    assert committed - sheets == set(charts.PICTURES)
    shown = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for name in sheets:
        assert f"images/{name})" in shown, name
        assert (charts.IMAGES / name).stat().st_size <= 100 * 1024, name
