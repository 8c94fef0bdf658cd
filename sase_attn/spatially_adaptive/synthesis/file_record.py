"""The record in the header of a safetensors file, which describes the network whose weights it holds."""

from pathlib import Path
from typing import TypeVar

from sase_attn.files import parse_json
from sase_attn.records import record_from
from sase_attn.weights import read_metadata

Record = TypeVar("Record")


def file_record(path: Path, key: str, kind: type[Record], otherwise: str) -> Record:
    """The record in the header of a safetensors file.

    Args:
        path: the file. key: the key of the record in its header. kind: the class of the record.
        otherwise: the error message for a file without that key, which follows the path.

    Raises:
        ValueError: the file is damaged, or holds something else.
    """
    text = read_metadata(path).get(key)
    if text is None:
        raise ValueError(f"{path} {otherwise}")
    try:
        return record_from(kind, parse_json(text))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
