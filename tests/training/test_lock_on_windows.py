"""The lock as it is on Windows, by a `msvcrt` that is played: other calls, other errors, no open file is removed."""

import errno
import fcntl
import importlib.util
import os
import sys
import types
from pathlib import Path

import pytest

from sase_attn import lock, system_lock
from sase_attn.lock import InUseError, Lock, held, one_process, one_writer
from sase_attn.search.trainings.journal_lock import JournalLock


class Msvcrt(types.ModuleType):
    """`locking` of one byte from where the file is read next, as the C library of Windows describes it."""

    LK_UNLCK, LK_LOCK, LK_NBLCK = 0, 1, 2

    def __init__(self):
        super().__init__("msvcrt")
        self.waits, self.after_wait = 0, lambda: None

    def locking(self, file, mode, count):
        assert count == 1 and os.lseek(file, 0, os.SEEK_CUR) > os.fstat(file).st_size  # what is read stays free
        if mode == self.LK_UNLCK:
            fcntl.flock(file, fcntl.LOCK_UN)
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if mode == self.LK_NBLCK:
                raise PermissionError(errno.EACCES, "Permission denied") from None
            self.waits += 1
            self.after_wait()
            raise OSError(errno.EDEADLK, "Resource deadlock avoided") from None


@pytest.fixture
def msvcrt(monkeypatch):
    """The module `system_lock` as it is read on Windows, in the place of ours."""
    played = Msvcrt()
    with monkeypatch.context() as while_read:
        while_read.setattr(sys, "platform", "win32")
        while_read.setitem(sys.modules, "msvcrt", played)
        while_read.setitem(sys.modules, "fcntl", None)
        spec = importlib.util.spec_from_file_location("as_on_windows", system_lock.__file__)
        on_windows = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(on_windows)
    monkeypatch.setattr(on_windows, "sys", types.SimpleNamespace(platform="win32"))
    monkeypatch.setattr(lock, "system_lock", on_windows)
    unlink = Path.unlink

    def unlink_closed(path, missing_ok=False):
        mine = Path("/proc/self/fd")
        if any(os.path.realpath(mine / number) == os.path.realpath(path) for number in os.listdir(mine)):
            raise PermissionError(errno.EACCES, "The process cannot access the file", str(path))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink_closed)
    return played


def test_one_holds_it_and_the_file_goes_with_it(msvcrt, tmp_path):
    first, second = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    assert first.acquire(wait=False) and not second.acquire(wait=False)
    assert second.holder.startswith(f"process {os.getpid()} on ") and not second.is_left
    first.release()
    assert not list(tmp_path.iterdir())
    assert second.acquire(wait=False)
    second.release()


def test_waiting_outlasts_the_seconds_that_windows_waits(msvcrt, tmp_path):
    first = Lock(tmp_path / "lock")
    assert first.acquire(wait=True)
    msvcrt.after_wait = lambda: msvcrt.waits == 3 and first.release()
    with held(Lock(tmp_path / "lock")):
        assert msvcrt.waits == 3
    assert not list(tmp_path.iterdir())


def test_what_a_dead_process_left_is_seen_and_taken_over(msvcrt, tmp_path):
    (tmp_path / lock.NAME).write_text("process 1 on nowhere\n")
    assert Lock(tmp_path / lock.NAME).is_left
    with one_process(tmp_path):
        assert f"process {os.getpid()}" in (tmp_path / lock.NAME).read_text()
        assert not Lock(tmp_path / lock.NAME).is_left
    assert not list(tmp_path.iterdir())


def test_a_folder_and_a_file_have_one_user(msvcrt, tmp_path):
    other = Lock(tmp_path / lock.NAME)
    assert other.acquire(wait=False)
    with pytest.raises(InUseError, match=r"is in use by process \d+ on "), one_process(tmp_path):
        pass
    other.release()
    with one_writer(tmp_path / "tiled"):
        assert Lock(tmp_path / ".tiled.lock").acquire(wait=False) is False
    assert not list(tmp_path.iterdir())


def test_a_journal_whose_holder_stands_still_is_waited_for(msvcrt, tmp_path, monkeypatch):
    """Its file cannot be taken away, as elsewhere."""
    still, worker, pauses = Lock(tmp_path / "journal.lock"), JournalLock(tmp_path, patience=0.0), []
    assert still.acquire(wait=False)
    clock = types.SimpleNamespace(
        monotonic=lambda: float(len(pauses)),
        sleep=lambda seconds: (pauses.append(seconds), len(pauses) == 4 and still.release()),
    )
    monkeypatch.setattr("sase_attn.search.trainings.journal_lock.time", clock)
    assert worker.acquire() and len(pauses) == 4
    worker.release()
    assert not list(tmp_path.iterdir())
