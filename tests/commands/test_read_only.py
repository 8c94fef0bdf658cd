"""Run folders that may only be read, as another user's: what needs no writing works, the rest is one line."""

import os
import shutil
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import search_driver

from sase_attn.commands.main import main

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="forks"),
]
NOBODY = 65534
TINY = ["--model", "resnet20_cifar", "--model-kwargs", "layers=[1,1,1]", "--batch-size", "6", "--warmup-epochs", "0"]


def as_another_user(arguments, output):
    """(exit code, stdout and stderr) of a command in a forked process without rights; root's are given up."""
    child = os.fork()
    if not child:
        code = 99
        try:
            file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            if not os.getuid():
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            with open(file, "w") as stream, redirect_stdout(stream), redirect_stderr(stream):
                code = main(list(map(str, arguments)))
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, output.read_text()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder that everybody may read and nobody write: data, a run that has finished and one that has not."""
    folder = Path(tempfile.mkdtemp())  # pytest's own may not be entered by others
    search_driver.image_folder(folder / "data", train=6, test=2)
    flags = ["--data", str(folder / "data"), "--device", "cpu", *TINY]
    assert main(["train", *flags, "--epochs", "1", "--output", str(folder / "run")]) == 0
    shutil.copytree(folder / "run", folder / "begun")
    for name in ("result.json", "log.jsonl", "best.safetensors"):
        (folder / "begun" / name).unlink()
    shutil.rmtree(folder / "begun" / "model")
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield folder
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755)
    shutil.rmtree(folder)


def tree(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["evaluate", "{}/run", "--data", "{}/data"], 0, "6 test images"),
        (["train", "--resume", "--output", "{}/run"], 0, "of 6 test images"),
        (["train", "--resume", "--output", "{}/begun"], 1, "/begun/"),
        (["train", "--data", "{}/data", *TINY, "--epochs", "1", "--output", "{}/run/new"], 1, "/run/new: "),
        (["train", "--data", "{}/data", *TINY, "--epochs", "1", "--output", "{}/run"], 1, "is in use"),
        (["tile", "seresnet18", "--no-pretrained", "-o", "{}/tiled"], 1, "/tiled: "),
    ],
)
def test_a_folder_that_may_only_be_read(made, tmp_path, arguments, code, said):
    before = tree(made)
    arguments = [word.format(made) if word.startswith("{}") else word for word in arguments]
    found, text = as_another_user(arguments, tmp_path / "said")
    assert (found, tree(made) == before) == (code, True), text
    assert said in text and ".tmp" not in text and "Traceback" not in text
    assert code == 0 or text.splitlines()[-1].startswith("sase-attn: error: ")
    assert said == "is in use" or code == 0 or text.splitlines()[-1].endswith("Permission denied")
