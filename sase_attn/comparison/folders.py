"""`folder_names`: names of the folders of a comparison's trainings that are valid on every file system."""

import re
from collections import Counter
from collections.abc import Iterable
from hashlib import sha256

_UNSAFE = re.compile(r'[<>:"/\\|?*\x00-\x1f]')  # Windows' rules are the strictest
_LONGEST = 60


def folder_names(labels: Iterable[str]) -> dict[str, str]:
    """A name for each label: the label itself if it is safe; otherwise its safe characters and a digest of it."""
    labels = list(labels)
    alike = Counter(label.casefold() for label in labels)
    return {label: _safe(label, alone=alike[label.casefold()] == 1) for label in labels}


def _safe(label: str, *, alone: bool) -> str:
    name = _UNSAFE.sub("-", label)[:_LONGEST]
    if alone and name == label:
        return name
    return f"{name}-{sha256(label.encode()).hexdigest()[:8]}"
