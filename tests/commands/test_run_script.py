"""`sase-attn run`: a script that knows nothing of this package makes its models, and else is as Python runs it."""

import sys

import pytest
import warm

from sase_attn.commands.main import main

SCRIPT = """
import argparse, os, sys
import helper
import timm

parser = argparse.ArgumentParser()
parser.add_argument("--model")
parser.add_argument("--import", dest="imported")
parser.add_argument("--end", default="0")
args = parser.parse_args()
model = timm.create_model(args.model, num_classes=3)
print(helper.NAME, __name__, sys.modules["__main__"].__dict__ is globals(), os.path.isabs(__file__), args.imported)
if args.end == "error":
    helper.fail()
sys.exit(int(args.end) if args.end.isdigit() else args.end)
"""


@pytest.fixture
def script(tmp_path):
    (tmp_path / "helper.py").write_text("NAME = 'beside'\n\ndef fail():\n    raise KeyError('no')\n")
    (tmp_path / "own.py").write_text(
        "import timm\nfrom timm.models import register_model\n\n\n@register_model\n"
        "def own_network(**arguments):\n    return timm.create_model('resnet20_cifar')\n"
    )
    (tmp_path / "tool.py").write_text(SCRIPT)
    yield tmp_path / "tool.py"
    for name in ("helper", "own"):
        sys.modules.pop(name, None)


def test_a_script_makes_our_models_and_is_main(script, capfd, monkeypatch):
    before = sys.argv, list(sys.path)
    assert main(["run", str(script), "--model", "sase_resnet20", "--import", "its own"]) == 0
    assert capfd.readouterr().out == "beside __main__ True True its own\n"
    assert (sys.argv, sys.path) == before
    monkeypatch.chdir(script.parent)
    assert main(["run", "--import", "own.py", "tool.py", "--model", "own_network"]) == 0


@pytest.mark.parametrize(
    "given", [["--", "--a"], ["--"], ["b", "--", "--", "c"], ["--import", "x", "--", "--help"], []], ids=" ".join
)
def test_its_arguments_are_passed_as_they_are(tmp_path, monkeypatch, capfd, given):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "show.py").write_text("import sys\n\nprint(sys.argv[1:])\n")
    for before in ([], ["--"], ["--import", "sys"]):
        assert main(["run", *before, "show.py", *given]) == 0
        assert capfd.readouterr().out == f"{given}\n"


@pytest.mark.parametrize("end, code, said", [("5", 5, ""), ("stopped", 1, "stopped\n")])
def test_it_ends_as_the_script_does(script, capfd, end, code, said):
    assert main(["run", str(script), "--model", "sase_resnet20", "--end", end]) == code
    assert capfd.readouterr().err == said


def test_an_error_of_the_script_has_its_own_traceback(script):
    done = warm.run("-m", "sase_attn", "run", script, "--model", "sase_resnet20", "--end", "error")
    lines = done.stderr.splitlines()
    assert done.returncode == 1 and lines[0] == "Traceback (most recent call last):"
    assert lines[1].startswith(f'  File "{script}", line ') and lines[-1] == "KeyError: 'no'"
    assert "sase_attn" not in done.stderr


def test_every_process_of_torchrun_knows_the_models(script):
    first, second = warm.run_ranks(2, "-m", "sase_attn", "run", script, "--model", "sase_resnet20")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("none.py", None, "no such script: "),
        ("cp", None, "no such script: cp; the command of this name is "),
        ("folder", "", "folder is a folder: wanted a script"),
        ("tool.sh", b"#!/bin/sh\necho it\n", "tool.sh is no script of Python: line 2: invalid syntax"),
        ("data.bin", b"\x00\x01\xff", "data.bin is no script of Python: "),
    ],
)
def test_what_is_no_script_is_one_line(tmp_path, monkeypatch, capsys, name, content, said):
    monkeypatch.chdir(tmp_path)
    if content == "":
        (tmp_path / name).mkdir()
    elif content is not None:
        (tmp_path / name).write_bytes(content)
    assert main(["run", name]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and said in err
