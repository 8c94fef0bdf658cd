"""What all pictures share: writing a figure to a file, and the widths of texts. pyplot is never used."""

import os
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sase_attn.files import write_atomically
from sase_attn.plot.characters import missing_told_once

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Text stays text in SVG and PDF, and drawing a picture again writes the same file.
_SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "sase_attn",
    "pdf.fonttype": 42,
    "font.family": ["DejaVu Sans", "sans-serif"],
    "savefig.facecolor": "white",
}
_METADATA: dict[str, dict[str, None]] = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


def figure_path(path: str | os.PathLike[str], *, extra: str = "plot") -> Path:
    """Check that a picture can be written to a path; call it before the work that the picture needs.

    Args:
        path: a .png, .svg or .pdf file.
        extra: the extra of this package that the picture needs.

    Raises:
        ValueError: another suffix.
        FileNotFoundError: no such folder.
        ImportError: matplotlib is not installed.
    """
    path = Path(path)
    if path.suffix.lower() not in _METADATA:
        raise ValueError(f"a picture is a {', '.join(_METADATA)} file, got {str(path)!r}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no folder {str(path.parent)!r} to draw in")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ImportError(f'drawing needs matplotlib: pip install "sase-attn[{extra}]"') from None
    return path


def write_figure(draw: "Callable[[], Figure]", path: Path) -> None:
    """Write what `draw` returns to a path of `figure_path`. A file that exists is replaced once the new is complete.

    Both drawing and writing use matplotlib's defaults and `_SETTINGS`, so that a user's matplotlibrc has no effect.
    """
    from matplotlib import rc_context, rcdefaults, rcParams

    suffix = path.suffix.lower()
    with rc_context(), missing_told_once(silent=suffix == ".svg"):  # the viewer's fonts draw the text of an SVG
        rcdefaults()
        rcParams.update(_SETTINGS)
        figure = draw()
        write_atomically(
            path, lambda file: figure.savefig(file, format=suffix[1:], dpi=200, metadata=_METADATA[suffix])
        )


def text_width(text: str, size: float, weight: str = "normal") -> float:
    """The width in inches of the ink of a text of `size` points, in which "$" is a dollar."""
    if not text.strip():
        return 0.0  # TextPath fails
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    escaped = text.replace("$", r"\$")
    return TextPath((0, 0), escaped, size=size, prop=FontProperties(weight=weight)).get_extents().width / 72


def fitted_text(text: str, width: float, size: float = 7.5, weight: str = "normal") -> str:
    """The text as one line of at most `width` inches; if it does not fit, it is cut and ends in "…"."""
    text = " ".join(text.split())
    if text_width(text, size, weight) <= width:
        return text
    cut = bisect_left(range(len(text)), True, key=lambda end: text_width(f"{text[:end]}…", size, weight) > width)
    return f"{text[: max(cut - 1, 0)].rstrip()}…"
