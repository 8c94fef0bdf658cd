"""A temporary PostgreSQL server in a folder, if PostgreSQL is installed."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDERS = [path.parent for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))]


def programs() -> Path | None:
    """The folder of `initdb` and `pg_ctl`; None if they are not installed."""
    found = shutil.which("initdb")
    return Path(found).parent if found else FOLDERS[-1] if FOLDERS else None


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """The URL of a database on a new server, which stops at the end of the context. It does not run as root."""
    binaries = programs()
    assert binaries is not None
    as_owner = []
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
        as_owner = ["runuser", "-u", "postgres", "--"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def call(*command: object) -> None:
        words = [*as_owner, *map(str, command)]
        done = subprocess.run(words, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True)  # fmt: skip
        assert done.returncode == 0, done.stderr

    data, log = folder / "data", folder / "log"
    call(binaries / "initdb", "-D", data, "-U", "postgres", "--auth", "trust", "--no-sync")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    call(binaries / "pg_ctl", "-D", data, "-l", log, "-o", options, "-w", "start")
    try:
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
    finally:
        call(binaries / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
