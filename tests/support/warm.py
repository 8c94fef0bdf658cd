"""Separate processes in a tenth of a second: they are forked from one that has imported torch, timm and this package.

Starting Python anew takes seconds of imports each time. A fork shares the imported modules of its parent. Where that
matters (for tests of what is imported, or of variables that are read at import), start Python itself.
"""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

from checkout import ROOT


@cache
def server() -> "subprocess.Popen[str]":
    """The server, one for all tests of this process."""
    script = Path(__file__).with_name("warm_server.py")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, script], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin and process.stdout
    atexit.register(process.communicate)
    assert process.stdout.readline() == "ready\n"
    return process


ASKING = threading.Lock()


def ask(request: Any) -> Any:
    with ASKING:
        process = server()
        assert process.stdin and process.stdout
        print(json.dumps(request), file=process.stdin, flush=True)
        return json.loads(process.stdout.readline())


class Process:
    """`python *command`, with the methods of `subprocess.Popen` that tests use."""

    def __init__(self, command: list[Any], env: dict[str, str], cwd: Any = ".") -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.args, self.returncode = [str(word) for word in command], None
        self.out, self.err = Path(self.folder.name) / "out", Path(self.folder.name) / "err"
        files = {"out": str(self.out), "err": str(self.err)}
        self.pid = ask({"command": self.args, "environment": env, "folder": str(Path(cwd).resolve()), **files})

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        while self.returncode is None:
            self.returncode = ask(self.pid)
            if self.returncode is None and time.monotonic() > deadline:
                self.send_signal(signal.SIGKILL)
                raise subprocess.TimeoutExpired(self.args, timeout, self.out.read_text(), self.err.read_text())
            time.sleep(0.01)
        return self.returncode

    def communicate(self, timeout: float) -> tuple[str, str]:
        self.wait(timeout)
        return self.out.read_text(), self.err.read_text()


def environment(**values: str) -> dict[str, str]:
    """Environment variables of this process, for another one that computes at the same time."""
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | values


def run(
    *command: Any, env: dict[str, str] | None = None, cwd: Any = ".", timeout: float = 300
) -> "subprocess.CompletedProcess[str]":
    """Run `python *command` to its end."""
    process = Process(list(command), environment() if env is None else env, cwd)
    out, err = process.communicate(timeout)
    return subprocess.CompletedProcess(process.args, process.wait(timeout), out, err)


def run_ranks(count: int, *command: Any, timeout: float = 300) -> "list[subprocess.CompletedProcess[str]]":
    """Run ranks as `torchrun --nproc-per-node COUNT *command` starts them; return each rank's result."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        Process(list(command), environment(RANK=str(rank), LOCAL_RANK=str(rank), **shared)) for rank in range(count)
    ]
    ends = [process.communicate(timeout) for process in processes]
    return [
        subprocess.CompletedProcess(process.args, process.wait(timeout), *end)
        for process, end in zip(processes, ends, strict=True)
    ]


SUBPROCESS_RUN = subprocess.run


def instead_of_subprocess_run(command: list[str], **options: Any) -> Any:
    """Replaces `subprocess.run`, for `sase_attn.training.jobs`, by forked processes; other commands run as before."""
    if command[0] != sys.executable:
        return SUBPROCESS_RUN(command, **options)
    env, stdout = options["env"], options["stdout"]
    assert options["stderr"] == subprocess.STDOUT
    done = run(*command[1:], env=env | {"PYTHONPATH": str(ROOT)})
    stdout.write(done.stdout + done.stderr)
    return done
