"""`begin`: the first files in the folder of a search by trainings from scratch, which joining workers read."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from sase_attn.files import read_json, write_atomically, write_json
from sase_attn.lock import Lock, held
from sase_attn.records import read_record
from sase_attn.search.config import MAY_CHANGE, SearchConfig
from sase_attn.search.trainings.storage import Storage, shown
from sase_attn.training.checkpoint import check_same
from sase_attn.training.run_folder import check_new_folder

CONFIG, STORAGE = "config.json", "storage.json"


@dataclass(frozen=True)
class _Place:
    """Where the trainings of a search are recorded: the URL of a database without its password, or None for a file."""

    storage: str | None


def saved_config(folder: str | Path) -> SearchConfig | None:
    """The configuration of the search in a folder, if there is one. Raises ValueError, naming the file, if damaged."""
    path = Path(folder) / CONFIG
    return read_json(path, lambda values: SearchConfig.from_json(json.dumps(values))) if path.is_file() else None


def has_trainings(folder: str | Path) -> bool:
    """Whether a folder is that of a search that trains genotypes from scratch, at least in its look for signal."""
    return (Path(folder) / STORAGE).is_file()


def begin(folder: Path, config: SearchConfig, storage: str | None, extra_files: Mapping[str, str]) -> None:
    """Write the configuration to a new folder, or check it against that of a search that has begun.

    Args:
        folder: the folder of the search.
        config: the configuration; it may differ from that of a search that has begun in the fields `MAY_CHANGE`.
        storage: the URL of the database that records trainings; None for a file in the folder.
        extra_files: the texts of further files to write, by file name.

    Raises:
        FileExistsError: the folder holds something else. ValueError: another search, or one in another storage; or no
            such storage. StorageError: it does not answer.
    """
    now = None if storage is None else shown(storage)
    if storage is not None and not has_trainings(folder):
        Storage(folder, storage)  # answers: a wrong address is not written down
    if saved_config(folder) is None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with held(Lock(folder.parent / f".{folder.name}.start.lock")):  # workers may start together
            if saved_config(folder) is None:
                check_new_folder(folder, "search")
                folder.mkdir(exist_ok=True)
                write_json(folder / STORAGE, asdict(_Place(now)))
                write_atomically(folder / CONFIG, config.to_json() + "\n")
    saved = saved_config(folder)
    assert saved is not None
    check_same(config, saved, MAY_CHANGE)
    if not has_trainings(folder):  # until now it only trained a super-network
        write_json(folder / STORAGE, asdict(_Place(now)))
    before = read_record(folder / STORAGE, _Place).storage
    if before != now:
        wanted, got = (f"--storage {place}" if place else "no --storage" for place in (before, now))
        raise ValueError(f"the search in {folder} was started with another storage: wanted {wanted}, got {got}")
    if saved != config:
        write_atomically(folder / CONFIG, config.to_json() + "\n")
    for name, text in extra_files.items():
        write_atomically(folder / name, text)
