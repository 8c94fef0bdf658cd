"""A process that has done the slow imports, and forks a process for each line of JSON that it reads; see `warm.py`."""

import json
import os
import runpy
import signal
import sys
import traceback

import timm  # noqa: F401
import torch
import torchvision  # noqa: F401

import sase_attn.commands.main
import sase_attn.search
import sase_attn.training  # noqa: F401


def run(command: list[str], environment: dict[str, str], folder: str, out: str, err: str) -> int:
    """Run a command as `python *command` would in a separate process."""
    for path, descriptor in ((os.devnull, 0), (out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode) for number, mode in enumerate("rww"))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(int(environment.get("OMP_NUM_THREADS", torch.get_num_threads())))
    os.chdir(folder)
    kind = command.pop(0) if command[0] in ("-c", "-m") else ""
    sys.argv = ["-c", *command[1:]] if kind == "-c" else command
    sys.path[0] = os.getcwd() if kind else os.path.dirname(command[0])
    sys.path[1:1] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    code = 0
    try:
        if kind == "-c":
            exec(compile(command[0], "<string>", "exec"), {"__name__": "__main__"})
        elif kind == "-m":
            runpy.run_module(command[0], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(command[0], run_name="__main__")
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if code and not isinstance(error.code, int):
            print(error.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    return code


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if isinstance(request, int):
            pid, status = os.waitpid(request, os.WNOHANG)
            print(json.dumps(os.waitstatus_to_exitcode(status) if pid else None), flush=True)
            continue
        pid = os.fork()
        if not pid:
            code = 1
            try:
                code = run(**request)
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
