"""The graph of a block: `draw_genotype`."""

import os
from typing import TYPE_CHECKING, Any

from sase_attn.genotype import EDGES, Genotype
from sase_attn.plot.figure import figure_path, text_width, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Fill and outline colours of the three kinds of node. Lengths are in inches.
_COLOURS = {"channel": ("#dbe8f6", "#1f5f9e"), "spatial": ("#fde6cf", "#a84f0c"), "fixed": ("#efefef", "#4a4a4a")}
_WIRE = "#333333"
_HEIGHT, _GAP = 0.6, 0.72
_MIX, _RADIUS, _MEAN = 0.85, 0.15, 0.23  # half widths of the nodes with fixed text
_MAP, _PER_CHANNEL, _PER_POSITION = "C×H×W", "C×1×1", "1×H×W"


def draw_genotype(genotype: Genotype, path: str | os.PathLike[str]) -> None:
    """Draw the block's graph: the operation of every edge, and the shape of every tensor without its batch axis.

    Args:
        genotype: what to draw.
        path: a .png, .svg or .pdf file. If it exists, it is replaced once the new one is complete.

    Raises:
        ValueError: another suffix.
        FileNotFoundError: no such folder.
        ImportError: matplotlib is not installed.
    """
    path = figure_path(path)
    write_figure(lambda: _block(genotype), path)


def _block(genotype: Genotype) -> "Figure":
    """The graph, from left to right; boxes are as wide as the longest name needs."""
    from matplotlib.figure import Figure

    names = {edge: str(getattr(genotype, edge)) for edge in EDGES}
    half = (
        0.12
        + max(*(text_width(edge, 8.5) for edge in EDGES), *(text_width(name, 11, "bold") for name in names.values()))
        / 2
    )

    # Columns. The product of the gated map is below the gate; the mean and the last product are above the spatial mask.
    source, trunk = 0.25, 0.7
    squeeze = trunk + 0.35 + half
    fork = squeeze + half + _GAP
    gate = fork + 0.25 + half
    reduce = gate + _RADIUS + _GAP + half
    merge = reduce + half + _GAP
    mask = merge + 0.25 + max(half, _MIX)
    add = mask + 0.75
    sink = (add if genotype.residual else mask) + 0.7
    # Rows.
    inputs, gated, low, high, top = 0.45, 1.35, 2.3, 3.25, 4.05
    mix, residual = (inputs + gated) / 2, top + 0.4

    width = max(sink, mask + max(half, _MIX)) + 0.25
    height = top + (0.6 if genotype.residual else 0.3)
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0), xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()

    _wire(axes, (source + 0.12, top), (mask - _RADIUS, top))
    _wire(axes, (trunk, top), (trunk, inputs), (reduce - half, inputs))
    _wire(axes, (trunk, high), (squeeze - half, high))
    _wire(axes, (trunk, gated), (gate - _RADIUS, gated))
    _wire(axes, (squeeze + half, high), (gate - half, high))
    _wire(axes, (fork, high), (fork, low), (gate - half, low))
    _wire(axes, (gate + half, high), (mask - _MEAN, high))
    _wire(axes, (gate, low - _HEIGHT / 2), (gate, gated + _RADIUS))
    _wire(axes, (gate + _RADIUS, gated), (reduce - half, gated))
    _wire(axes, (reduce + half, gated), (merge, gated), (merge, mix + 0.12), (mask - _MIX, mix + 0.12))
    _wire(axes, (reduce + half, inputs), (merge, inputs), (merge, mix - 0.12), (mask - _MIX, mix - 0.12))
    _wire(axes, (mask, mix + _HEIGHT / 2), (mask, low - _HEIGHT / 2))
    _wire(axes, (mask, low + _HEIGHT / 2), (mask, high - _MEAN))
    _wire(axes, (mask, high + _MEAN), (mask, top - _RADIUS))
    if genotype.residual:
        _wire(axes, (mask + _RADIUS, top), (add - _RADIUS, top))
        _wire(axes, (trunk, top), (trunk, residual), (add, residual), (add, top + _RADIUS))
        _circle(axes, add, top, "+")
    _wire(axes, ((add if genotype.residual else mask) + _RADIUS, top), (sink - 0.12, top))
    for x, y in ((trunk, top), (trunk, high), (trunk, gated), (fork, high)):
        axes.plot(x, y, "o", color=_WIRE, markersize=4)

    _tensor(axes, squeeze, top, "", _MAP)
    _tensor(axes, squeeze + half + _GAP / 2, high, "z", _PER_CHANNEL)
    _tensor(axes, gate + half + _GAP / 2, high, "A_c", _PER_CHANNEL)
    _tensor(axes, gate + _RADIUS + _GAP / 2, gated, r"M\cdot x", _MAP)
    _tensor(axes, squeeze, gated, "", _MAP)
    _tensor(axes, squeeze, inputs, "", _MAP)
    _tensor(axes, reduce + half + _GAP / 2, gated, "", _PER_POSITION)
    _tensor(axes, reduce + half + _GAP / 2, inputs, "", _PER_POSITION)
    _tensor(axes, gate, (low - _HEIGHT / 2 + gated + _RADIUS) / 2, "M", _PER_CHANNEL, beside=True)
    _tensor(axes, mask, (mix + low) / 2, "m", _PER_POSITION, beside=True)
    _tensor(axes, mask, (low + _HEIGHT / 2 + high - _MEAN) / 2, "A_s", _PER_POSITION, beside=True)
    _tensor(axes, mask, (high + _MEAN + top - _RADIUS) / 2, "", _MAP, beside=True)

    for edge, x, y in (
        ("channel_squeeze", squeeze, high),
        ("channel_excite", gate, high),
        ("channel_gate", gate, low),
        ("spatial_squeeze_gated", reduce, gated),
        ("spatial_squeeze_input", reduce, inputs),
        ("spatial_excite", mask, low),
    ):
        _box(axes, x, y, half, edge, names[edge], edge.partition("_")[0])
    _box(axes, mask, mix, _MIX, "mix", "1×1 conv, BN, ReLU", "fixed", "normal")
    _circle(axes, gate, gated, "×")
    _circle(axes, mask, high, "mean", _MEAN, 8.5)
    _circle(axes, mask, top, "×")
    _text(axes, source, top, "$x$", 13)
    _text(axes, sink, top, "$y$", 13)
    return figure


def _wire(axes: "Axes", *points: tuple[float, float]) -> None:
    """Draw an arrow along `points` with rounded corners."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path as Curve

    vertices, codes = [points[0]], [Curve.MOVETO]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        vertices += [_towards(corner, before), corner, _towards(corner, after)]
        codes += [Curve.LINETO, Curve.CURVE3, Curve.CURVE3]
    curve = Curve([*vertices, points[-1]], [*codes, Curve.LINETO])
    style = "-|>,head_length=5,head_width=2.5"
    axes.add_patch(FancyArrowPatch(path=curve, arrowstyle=style, color=_WIRE, linewidth=1.1, joinstyle="miter"))


def _towards(start: tuple[float, float], end: tuple[float, float]) -> tuple[float, float]:
    """The point at a distance of 0.09 from `start` towards `end`, which differs from it along one axis only."""
    x, y = (a + max(-0.09, min(0.09, b - a)) for a, b in zip(start, end, strict=True))
    return x, y


def _tensor(axes: "Axes", x: float, y: float, symbol: str, shape: str, *, beside: bool = False) -> None:
    """Write a tensor's symbol and shape above and below its wire, or left and right of a vertical wire."""
    dx, dy = (0.1, 0.0) if beside else (0.0, 0.13)
    if symbol:
        _text(axes, x - dx, y + dy, f"${symbol}$", 10, ha="right" if beside else "center")
    _text(axes, x + dx, y - dy, shape, 8, ha="left" if beside else "center", color="#444444")


def _box(axes: "Axes", x: float, y: float, half: float, title: str, name: str, kind: str, weight: str = "bold") -> None:
    from matplotlib.patches import FancyBboxPatch

    fill, outline = _COLOURS[kind]
    style = "round,pad=0,rounding_size=0.07"
    left, bottom = x - half, y - _HEIGHT / 2
    axes.add_patch(FancyBboxPatch((left, bottom), 2 * half, _HEIGHT, style, fc=fill, ec=outline, linewidth=1.2))
    _text(axes, x, y + 0.13, title, 8.5, color=outline)
    _text(axes, x, y - 0.11, name, 11 if weight == "bold" else 10, fontweight=weight)


def _circle(axes: "Axes", x: float, y: float, symbol: str, radius: float = _RADIUS, size: float = 13) -> None:
    from matplotlib.patches import Circle

    fill, outline = _COLOURS["fixed"]
    axes.add_patch(Circle((x, y), radius, fc=fill, ec=outline, linewidth=1.2))
    _text(axes, x, y, symbol, size)


def _text(axes: "Axes", x: float, y: float, text: str, size: float, **style: Any) -> None:
    centred: dict[str, Any] = {"ha": "center", "va": "center", "color": "#111111", "fontsize": size}
    axes.text(x, y, text, **centred | style)
