"""`run_folder`: lock the folder of a run, so that only one process writes to it, and check that a new one is empty."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sase_attn import lock
from sase_attn.files import is_temporary, remove_temporaries
from sase_attn.training import log
from sase_attn.training.distributed import Ranks


@contextmanager
def run_folder(folder: Path, group: Ranks, kind: str, *, resume: bool) -> Iterator[None]:
    """A context in which no other process writes to a folder. Half-written files of a killed process are removed.

    The main process holds the lock for all ranks; if it cannot, all ranks raise an error.

    Args:
        folder: the folder of the run.
        group: the processes of the run.
        kind: the kind of work, for error messages.
        resume: whether to continue the work in the folder; otherwise it must be new or empty.

    Raises:
        FileExistsError: another process works on it (`InUseError`), or a new run finds it in use.
        OtherRankError: on the other ranks.
    """
    with ExitStack() as stack, group.together():
        if group.is_main:
            stack.enter_context(lock.one_process(folder, create=not resume))
            if not resume:
                check_new_folder(folder, kind)
            remove_temporaries(folder)
        claimed = stack.pop_all()
    with claimed:
        yield


def check_new_folder(folder: Path, kind: str) -> None:
    """Raise FileExistsError unless a folder for a new `kind` of work does not exist yet, or is as good as empty."""
    if folder.is_file():
        raise FileExistsError(f"{folder} is a file: wanted a folder; name another")
    if folder.exists() and not (folder.is_dir() and all(map(_is_worthless, folder.iterdir()))):
        raise FileExistsError(f"{folder} is in use: wanted a new or empty folder; resume its {kind}, or name another")


def _is_worthless(path: Path) -> bool:
    """Whether a file is the lock, or was left by a process that was killed before its first checkpoint."""
    return path.name == lock.NAME or is_temporary(path) or (path.name == log.NAME and not path.stat().st_size)
