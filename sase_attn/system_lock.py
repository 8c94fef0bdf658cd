"""The system's own lock on an open file: `flock`, and on Windows `msvcrt.locking`. Nothing else here knows which."""

import errno
import os
import sys
from contextlib import suppress

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

REMOVES_OPEN_FILES = sys.platform != "win32"
"""Whether a file can be removed while it is open, so that its lock is held until the file is gone."""

_UNREAD = 2**30  # on Windows a locked byte cannot be read: one that nobody reads
_BUSY = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)  # the last: Windows waits for seconds only


def take(file: int, *, wait: bool) -> bool:
    """Lock an open file; returns whether it is locked. To wait may end without it: ask again.

    Raises:
        OSError: the file cannot be locked, for one because its file system has no locks.
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
    """Close an open file that is locked, and give its lock back; Windows by itself would take its time for the latter.

    Raises:
        OSError: the file cannot be closed.
    """
    if sys.platform == "win32":
        with suppress(OSError):  # closing does it too, later
            os.lseek(file, _UNREAD, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_UNLCK, 1)
    os.close(file)
