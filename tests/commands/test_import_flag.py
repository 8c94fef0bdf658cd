"""`--import`: operations of a user in every command, in every process that a command starts, and after a resume."""

import json
import sys

import pytest
import search_driver as driver
import warm

from sase_attn import genotypes, imports
from sase_attn.commands.main import main
from sase_attn.genotype import EDGES
from sase_attn.imports import import_modules
from sase_attn.ops import OP_SETS
from sase_attn.search import SearchResult
from sase_attn.training import Recipe

pytestmark = pytest.mark.usefixtures("one_thread")
OWN = """
import torch
from sase_attn import register_op
from sase_attn.ops import Op

class Mean(Op):
    '''Mean over C.'''
    def forward(self, x):
        return x.float().mean(1, keepdim=True)

register_op("spatial_squeeze", "own_mean", Mean)
"""
GENOTYPE = str(genotypes["sase"]).replace("spatial_squeeze_input:gap", "spatial_squeeze_input:own_mean")
TINY = [
    "--method",
    "darts",
    "--signal",
    "0",
    "--images",
    "16",
    "--select-images",
    "8",
    "--batch-size",
    "8",
    "--epochs",
    "1",
    "--order",
    "1",
    "--model-kwargs",
    "layers=[1,1,1]",
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with the module `own.py`, a space of its operation, and images."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own.py").write_text(OWN)
    ops = {edge: [getattr(genotypes["sase"], edge)] for edge in EDGES}
    space = {
        "ops": ops | {"spatial_squeeze_input": ["own_mean"], "channel_squeeze": ["gap", "gap_gmp"]},
        "residual": True,
    }
    (folder / "space.json").write_text(json.dumps(space))
    driver.image_folder(folder / "data")
    return folder


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """What is registered and imported here is unknown to the next test."""
    monkeypatch.setitem(OP_SETS, "spatial_squeeze", dict(OP_SETS["spatial_squeeze"]))
    monkeypatch.setattr(imports, "_FILES", {})
    modules = set(sys.modules)
    yield
    for name in {"own", "broken"} & set(sys.modules) - modules:
        del sys.modules[name]


def command(*words, cwd="."):
    return warm.run("-m", "sase_attn", *words, "--device", "cpu", cwd=cwd)


@pytest.mark.usefixtures("forked_runs")
def test_a_search_and_its_comparison_in_processes_of_their_own(files, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(files)
    output = tmp_path / "run"
    compared = ["--compare-seeds", "1", "--compare-epochs", "1", "--compare-random", "0", "--jobs", "2"]
    flags = ["--import", "own.py", "--space", "space.json", "--without", "--data", "data", *TINY, "--device", "cpu"]
    assert main(["search", *flags, "--warmup-epochs", "0", "--output", str(output), *compared]) == 0, (
        capsys.readouterr()
    )
    result = SearchResult.load(output)
    assert "spatial_squeeze_input:own_mean" in result.genotype
    assert result.config["imports"] == [str(files / "own.py")]
    trained = json.loads((output / "retrained" / "found-seed0" / "result.json").read_text())
    assert trained["recipe"]["imports"] == [str(files / "own.py")]
    (output / "report.html").unlink()
    done = command("search", "--resume", output)  # another process, from another folder, without the flag
    assert done.returncode == 0 and (output / "report.html").exists(), done.stderr


@pytest.mark.usefixtures("forked_runs")
def test_several_seeds_and_a_search_by_trainings(files, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(files)
    flags = [
        "--import",
        "own.py",
        "--space",
        "space.json",
        "--without",
        "--data",
        "data",
        "--model-kwargs",
        "layers=[1,1,1]",
    ]
    seeds = ["--seeds", "2", "--no-compare", "--output", str(tmp_path / "seeds")]
    assert main(["search", *flags, *TINY, "--warmup-epochs", "0", *seeds, "--device", "cpu"]) == 0, capsys.readouterr()
    few = ["--method", "random", "--signal", "0", "--train-epochs", "1", "--trainings", "1", "--no-compare"]
    trained = command("search", *flags, *few, "--output", tmp_path / "s", cwd=files)
    assert trained.returncode == 0 and "own_mean" in trained.stdout, trained.stderr


def test_train_resume_and_evaluate(files, tmp_path):
    flags = ["--data", files / "data", "--model", "sase_resnet20", "--model-kwargs", "layers=[1,1,1]"]
    flags += [f"genotype={GENOTYPE}", "--epochs", "1", "--warmup-epochs", "0", "--batch-size", "8"]
    flags += ["--output", tmp_path / "run"]
    unknown = command("train", *flags)
    assert unknown.returncode and "own_mean" in unknown.stderr and not (tmp_path / "run").exists()
    done = command("train", *flags, "--import", "own", cwd=files)  # a module by its name
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["imports"] == ["own"]
    (tmp_path / "run" / "result.json").unlink()
    resumed = command("train", "--resume", "--output", tmp_path / "run", cwd=files)
    assert resumed.returncode == 0, resumed.stderr
    refused = command("evaluate", tmp_path / "run", cwd=files)
    assert refused.returncode and "it was trained with --import own: give that too if you trust it" in refused.stderr
    assert command("evaluate", tmp_path / "run", "--import", files / "own.py").returncode == 0


def test_every_command_has_the_flag(files, capsys):
    assert main(["list", "ops", "--import", str(files / "own.py")]) == 0
    assert "own_mean" in capsys.readouterr().out
    assert main(["show", GENOTYPE, "--import", str(files / "own.py")]) == 0


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("no_such_module", None, "--import no_such_module: no module of this name"),
        ("no.such.module", None, "--import no.such.module: no module of this name"),
        ("none.py", None, "none.py: no such file"),
        ("broken.py", "x = 1\n1 / 0\n", "broken.py: ZeroDivisionError at line 2 of "),
        ("broken.py", "def f(:\n", "broken.py: SyntaxError at line 1 of "),
        ("broken.py", "raise SystemExit('no')\n", "broken.py: SystemExit at line 1 of "),
        ("broken.py", "import no_such_module\n", "broken.py: ModuleNotFoundError at line 1 of "),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line(name, content, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / name).write_text(content)
    assert main(["list", "ops", "--import", name]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and said in err and "broken" not in sys.modules


def test_a_module_is_imported_once(files, monkeypatch, tmp_path):
    monkeypatch.chdir(files)
    before = list(sys.path)
    import_modules(["own", str(files / "own.py"), "own"])
    (tmp_path / "link.py").symlink_to(files / "own.py")
    import_modules([str(tmp_path / "link.py")])
    assert sys.path == before and "own_mean" in OP_SETS["spatial_squeeze"]


def test_weights_of_others_import_nothing(tmp_path, capsys):
    (tmp_path / "theirs.py").write_text("raise SystemExit(7)")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "recipe.json").write_text(Recipe(imports=(str(tmp_path / "theirs.py"),)).to_json())
    assert main(["evaluate", str(folder), "--device", "cpu"]) == 1
    assert "SystemExit" not in capsys.readouterr().err
