"""Forked processes end as those that Python starts."""

import signal
import subprocess
import sys
import time

import pytest
import warm

CODES = [
    "print('out'); import sys; print(sys.argv[1:], file=sys.stderr)",
    "raise SystemExit(3)",
    "raise SystemExit('why')",
    "raise SystemExit",
    "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
]


@pytest.mark.parametrize("code", CODES)
def test_output_and_exit_code_are_those_of_a_process_of_its_own(code, tmp_path):
    command = ["-c", code, "one", "two"]
    own = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    forked = warm.run(*command)
    assert (forked.returncode, forked.stdout, forked.stderr) == (own.returncode, own.stdout, own.stderr)
    script = tmp_path / "script.py"
    script.write_text(code)
    assert (warm.run(script, "one", "two").returncode, forked.stdout) == (own.returncode, own.stdout)


def test_errors_folder_and_variables(tmp_path):
    failed = warm.run(
        "-c", "import os; raise ValueError(os.environ['MINE'] + os.getcwd())", env={"MINE": "x"}, cwd=tmp_path
    )
    assert failed.returncode == 1 and f"ValueError: x{tmp_path}" in failed.stderr and "Traceback" in failed.stderr
    assert warm.run("-m", "sase_attn", "--version").stdout.startswith("sase-attn ")


def test_ctrl_c_and_what_takes_too_long():
    process = warm.Process(["-c", "import time\ntry: time.sleep(60)\nexcept KeyboardInterrupt: exit(7)"], env={})
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 7
    with pytest.raises(subprocess.TimeoutExpired):
        warm.run("-c", "import time; time.sleep(60)", timeout=0.2)


def test_ranks():
    ends = warm.run_ranks(2, "-c", "import os; print(os.environ['RANK'], os.environ['WORLD_SIZE'])")
    assert [end.stdout for end in ends] == ["0 2\n", "1 2\n"]
