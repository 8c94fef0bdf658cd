"""`draw_genotype`: what the picture shows, that nothing overlaps, and what happens to files."""

import importlib.util
import re
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from matplotlib import image, rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Circle, FancyBboxPatch

from sase_attn import Genotype, genotypes, plot, register_op
from sase_attn.genotype import EDGES
from sase_attn.ops import OP_SETS, Op
from sase_attn.plot import draw_genotype
from sase_attn.plot import genotype as drawing

LONG = Genotype(
    channel_squeeze="gap_skewness",
    channel_excite="conv1d_k3_x3",
    channel_gate="conv1d_k3_x2",
    spatial_squeeze_input="l2norm_channel",
    spatial_squeeze_gated="gsop_sample",
    spatial_excite="conv2d_k3_x2",
    residual=False,
)


@pytest.fixture
def own(monkeypatch):
    """A genotype with an operation of the user's, whose name is long."""
    monkeypatch.setitem(OP_SETS, "spatial_excite", dict(OP_SETS["spatial_excite"]))
    register_op("spatial_excite", "a_name_that_is_longer_than_any_of_ours", Op)
    return Genotype.parse(str(LONG).replace("conv2d_k3_x2", "a_name_that_is_longer_than_any_of_ours"))


def test_png_shows_something(tmp_path):
    path = tmp_path / "block.png"
    draw_genotype(genotypes["sase"], path)
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    pixels = image.imread(path)[..., :3]
    height, width, _ = pixels.shape
    assert 600 < height < 1200 and 1500 < width < 3000
    assert 0.02 < (pixels < 0.5).any(-1).mean() < 0.1  # lines and text
    red, blue = pixels[..., 0], pixels[..., 2]
    assert 0.02 < (blue > red + 0.05).mean() < 0.3  # boxes of channel operations
    assert 0.02 < (red > blue + 0.05).mean() < 0.3  # and of spatial ones
    border = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
    assert all((edge == 1).all() for edge in border), "something is cut off"


@pytest.mark.parametrize("genotype", [*genotypes.values(), LONG, Genotype.random(3)], ids=str)
def test_svg_holds_every_name_as_text(tmp_path, genotype):
    draw_genotype(genotype, tmp_path / "block.svg")
    shown = Counter(re.findall(r">([^<>\n]+)</text>", (tmp_path / "block.svg").read_text()))
    expected = Counter([*EDGES, *(getattr(genotype, edge) for edge in EDGES)])
    assert shown & expected == expected
    assert ("+" in shown) == genotype.residual
    # x thrice, M·x and the mean mask; z, A_c, M; two squeezes, m, A_s
    assert (shown["C×H×W"], shown["C×1×1"], shown["1×H×W"]) == (5, 3, 4)


def is_node(patch):
    return isinstance(patch, Circle | FancyBboxPatch)


def test_texts_neither_overlap_nor_leave_their_boxes(own):
    for genotype in (*genotypes.values(), LONG, own):
        figure = drawing._block(genotype)
        renderer = FigureCanvasAgg(figure).get_renderer()
        texts = [text.get_window_extent(renderer) for text in figure.axes[0].texts]
        nodes = [patch.get_window_extent(renderer) for patch in figure.axes[0].patches if is_node(patch)]
        assert not any(a.overlaps(b) for extents in (texts, nodes) for a, b in combinations(extents, 2))
        for extent in (*texts, *nodes):
            assert contains(figure.bbox, extent)
        for text in texts:
            assert all(contains(node, text) or not node.overlaps(text) for node in nodes)


def contains(outer, inner):
    return outer.x0 < inner.x0 and inner.x1 < outer.x1 and outer.y0 < inner.y0 and inner.y1 < outer.y1


def test_every_arrow_ends_at_its_node(own, monkeypatch):
    for genotype in (*genotypes.values(), LONG, own):
        ends = []
        monkeypatch.setattr(drawing, "_wire", lambda axes, *points, ends=ends: ends.append(points[-1]))
        axes = drawing._block(genotype).axes[0]
        expected = {(edge, getattr(genotype, edge)): 1 for edge in EDGES}
        expected |= {("mix", "1×1 conv, BN, ReLU"): 2, ("mean",): 2, ("×",): 2 + 2, ("$y$",): 1}
        if genotype.residual:
            expected[("+",)] = 2
        assert Counter(node_at(axes, *end) for end in ends) == expected


def node_at(axes, x, y):
    """The texts of the node whose outline is at (x, y), or the text to its right."""
    places = [(text.get_text(), text.get_position()) for text in axes.texts]
    for patch in filter(is_node, axes.patches):
        (x0, y0), (x1, y1) = patch.get_path().transformed(patch.get_patch_transform()).get_extents().get_points()
        on_side = min(abs(x - x0), abs(x - x1)) < 1e-6 and y0 < y < y1
        on_top = min(abs(y - y0), abs(y - y1)) < 1e-6 and x0 < x < x1
        if on_side or on_top:
            return tuple(text for text, (i, j) in places if x0 < i < x1 and y0 < j < y1)
    return tuple(text for text, (i, j) in places if 0 <= i - x < 0.2 and j == y)


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ".PNG"])
def test_files_are_reproducible_and_replaced_whole(tmp_path, suffix):
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    second.write_text("old")
    draw_genotype(LONG, first)
    with rc_context(
        {"font.family": "serif", "savefig.facecolor": "black", "savefig.bbox": "tight", "text.usetex": True}
    ):
        draw_genotype(LONG, second)
    assert first.read_bytes() == second.read_bytes()
    assert sorted(tmp_path.iterdir()) == [first, second]
    assert first.read_bytes()[:4] in (b"\x89PNG", b"<?xm", b"%PDF")


def test_a_failing_write_leaves_the_old_picture(tmp_path, monkeypatch):
    path = tmp_path / "block.png"
    path.write_text("old")

    def full(figure, file, **_):
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    with pytest.raises(OSError, match="no space"):
        draw_genotype(LONG, path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["block.gif", "block", "png"])
def test_other_suffixes_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"^a picture is a \.png, \.svg, \.pdf file, got '.*'$"):
        draw_genotype(LONG, tmp_path / name)


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder '.*nowhere' to draw in"):
        draw_genotype(LONG, tmp_path / "nowhere" / "block.png")


def test_missing_matplotlib_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'^drawing needs matplotlib: pip install "sase-attn\[plot\]"$'):
        draw_genotype(LONG, tmp_path / "block.png")
    assert not list(tmp_path.iterdir())


def test_matplotlib_is_imported_only_when_drawing_and_pyplot_never(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    draw_genotype(LONG, tmp_path / "block.png")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for path in sorted(Path(plot.__file__).parent.glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"{path.stem}_again", path)
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
