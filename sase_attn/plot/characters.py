"""Characters that the font of pictures lacks, with one warning for all: `warn_of_missing`, `missing_told_once`."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_OF_MATPLOTLIB = re.compile(r"Glyph (\d+) .*missing from")
_told: set[str] = set()


def warn_of_missing(text: str) -> None:
    """Warn of characters of a text that DejaVu Sans lacks, once per process. It needs matplotlib."""
    known = _known()
    _warn([character for character in text if character.isprintable() and ord(character) not in known])


@contextmanager
def missing_told_once(*, silent: bool = False) -> Iterator[None]:
    """Within the context, one warning, or none if `silent`, replaces matplotlib's for each missing character."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    missing = []
    for one in caught:
        if found := _OF_MATPLOTLIB.match(str(one.message)):
            missing.append(chr(int(found[1])))
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    if not silent:
        _warn([character for character in missing if character.isprintable()])


def _warn(characters: list[str]) -> None:
    new = [character for character in dict.fromkeys(characters) if character not in _told]
    if new:
        shown = "".join(new[:20]) + " …" * (len(new) > 20)
        warnings.warn(f"the font of pictures has no characters for {shown}: boxes are drawn for them", stacklevel=1)
        _told.update(new)


@cache
def _known() -> frozenset[int]:
    import matplotlib
    from matplotlib.ft2font import FT2Font

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return frozenset(FT2Font(str(path)).get_charmap())
