"""A command that was killed, and its second run: what it left does not stand in the way."""

import signal

import pytest
import search_driver
import warm

from sase_attn.commands.main import main

pytestmark = pytest.mark.usefixtures("one_thread")
TILE = ["tile", "seresnet18", "--no-pretrained", "--model-kwargs", "layers=[1,1,1,1]", "--size", "32"]


def killed_at(where, module, arguments):
    """Run a command that kills itself where it calls this function for the first time."""
    code = (
        f"import os, {module}\n{module}.{where} = lambda *arguments, **options: os.kill(os.getpid(), 9)\n"
        f"from sase_attn.commands.main import main\nmain({list(map(str, arguments))!r})"
    )
    done = warm.run("-c", code)
    assert done.returncode == -signal.SIGKILL, done.stderr


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("module", "where"),
    [
        ("sase_attn.share.folder", "write_safetensors"),
        ("sase_attn.share.folder", "generate_readme"),
        ("sase_attn.commands.tile", "load_line"),
        ("sase_attn.tiling.report.BufferingReport", "to_json"),
    ],
)
def test_tile(tmp_path, module, where, capsys):
    package = module.removesuffix(".BufferingReport")
    target = where if package == module else f"BufferingReport.{where}"
    killed_at(target, package, [*TILE, "-o", tmp_path / "tiled"])
    code = main([*TILE, "-o", str(tmp_path / "tiled")])
    if where == "load_line":  # all was written
        assert code == 1 and "wanted a new or empty folder" in capsys.readouterr().err
    else:
        assert code == 0
    assert {"buffering.json", "buffering.txt", "config.json", "model.safetensors"} < set(names(tmp_path / "tiled"))
    assert names(tmp_path) == ["tiled"]


def test_evaluate(tmp_path, capsys):
    data = search_driver.image_folder(tmp_path / "data", train=6, test=2)
    run = tmp_path / "run"
    flags = ["--data", str(data), "--device", "cpu"]
    tiny = ["--model", "resnet20_cifar", "--model-kwargs", "layers=[1,1,1]", "--epochs", "1", "--warmup-epochs", "0"]
    assert main(["train", *flags, *tiny, "--batch-size", "6", "--output", str(run)]) == 0
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    killed_at("evaluate", "sase_attn.commands.evaluate", ["evaluate", run, *flags, "--workers", "1"])
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    capsys.readouterr()
    assert main(["evaluate", str(run), *flags]) == 0
    assert "6 test images" in capsys.readouterr().out
