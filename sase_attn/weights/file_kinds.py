"""`other_kind`: what a file without weights is, by its first bytes, in words, with a hint on how to get weights."""

import re
import zipfile
from pathlib import Path

_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF", "a PDF document"),
    (b"\x1f\x8b", "compressed by gzip: unpack it first"),
    (b"\x93NUMPY", "an array of NumPy"),
    (b"\x89HDF", "an HDF5 file, as Keras writes it"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself: fetch that by git lfs pull"),
)
_TORCHSCRIPT = (
    "a TorchScript program: take its weights by torch.save(torch.jit.load(FILE).state_dict(), OTHER_FILE), "
    "which runs what the file holds"
)
_EXPORTED = "an exported program: take its weights by torch.save(torch.export.load(FILE).state_dict, OTHER_FILE)"


def other_kind(path: Path) -> str | None:
    """What kind of file it is, in words, if it is certainly not a file of weights; otherwise None.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        return "empty"
    for sign, words in _STARTS:
        if start.startswith(sign):
            return words
    if start.startswith(b"PK"):
        return _of_archive(path)
    if path.suffix == ".onnx":
        return "an ONNX network: take the weights of the network that it was exported from"
    if start[257:262] == b"ustar":
        return "a tar archive: unpack it first"
    if re.match(rb"\s*<(!doctype|html|\?xml)", start, re.IGNORECASE):
        return "a page of the web or XML, not what it should have been downloaded from there"
    if _is_text(start):
        return "text"
    return None


def _of_archive(path: Path) -> str | None:
    """What kind of ZIP archive it is, if `torch.save` did not write it; None for a damaged one, which torch reports."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return None
    ends = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in ends and any("/code/" in name for name in names):
        return _TORCHSCRIPT
    if "archive_format" in ends or "serialized_exported_program.json" in ends:
        return _EXPORTED
    if "data.pkl" in ends:
        return None
    return "an archive of NumPy" if any(name.endswith(".npy") for name in names) else "a ZIP archive: unpack it first"


def _is_text(start: bytes) -> bool:
    printable = bytes(range(32, 127)) + b"\t\n\r"
    return not start.translate(None, printable)
