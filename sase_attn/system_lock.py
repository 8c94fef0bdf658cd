"""The system's lock on an open file: `flock`, or `msvcrt.locking` on Windows. Only this file depends on the system."""

import errno
import os
import sys
from contextlib import suppress

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

REMOVES_OPEN_FILES = sys.platform != "win32"
"""Whether an open file can be removed, so that its lock can be held until the file is gone."""

_UNREAD = 2**30  # position of the locked byte, which nobody else could read on Windows: far behind the text
_BUSY = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)  # Windows raises the last one after waiting for some seconds


def take(file: int, *, wait: bool) -> bool:
    """Lock an open file; return whether it is locked. Waiting may end without the lock: call it again.

    Raises:
        OSError: the file cannot be locked, for example because its file system has no locks.
    """
    try:
        if sys.platform == "win32":
            os.lseek(file, _UNREAD, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno not in _BUSY:
            raise
        return False
    return True


def close(file: int) -> None:
    """Release the lock of an open file and close it; closing alone would release the lock only later on Windows.

    Raises:
        OSError: the file cannot be closed.
    """
    if sys.platform == "win32":
        with suppress(OSError):  # closing releases the lock too, only later
            os.lseek(file, _UNREAD, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_UNLCK, 1)
    os.close(file)
