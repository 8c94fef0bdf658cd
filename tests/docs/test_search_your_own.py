"""The story of docs/search-your-own.md, line by line; its trainings compute nothing here."""

import json
import runpy
import shlex
import sys

import pytest
import timm
from checkout import ROOT
from pages import blocks
from simulated_trainings import simulate_trainings

from sase_attn import Genotype, SASEBlock
from sase_attn.commands.main import main
from sase_attn.ops import OP_SETS
from sase_attn.search import SearchConfig, SearchResult, Signal

PAGE = ROOT / "docs" / "search-your-own.md"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder to work in; the operation is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(OP_SETS, "spatial_squeeze", dict(OP_SETS["spatial_squeeze"]))
    yield tmp_path
    sys.modules.pop("my_ops", None)


@pytest.mark.usefixtures("one_thread")
def test_the_story(here, monkeypatch, capsys):
    simulate_trainings(monkeypatch)
    (operation,), (shell,) = blocks(PAGE, "python"), blocks(PAGE, "sh")
    lines, (inline, _, _) = shell.splitlines(), shell.partition("python3 - <<'END'\n")[2].partition("END\n")
    page = PAGE.read_text(encoding="utf-8")
    assert len(page.partition("```sh\n")[2].partition("```")[0].splitlines()) <= 15
    (here / "my_ops.py").write_text(operation)
    assert lines[0] == "python3 my_ops.py > space.json"
    runpy.run_path("my_ops.py", run_name="__main__")
    (here / "space.json").write_text(capsys.readouterr().out)
    del OP_SETS["spatial_squeeze"]["median"]  # the next process imports the file anew
    for line in lines[1:4]:
        words, _, target = line.partition(" > ")
        assert main(shlex.split(words)[1:]) == 0, line
        out = capsys.readouterr().out
        if target:
            (here / target).write_text(out)
    config = SearchConfig.get("own.json")
    assert (config.model, config.imports, config.data) == ("resnet18", (str(here / "my_ops.py"),), "tiny25")
    assert "median" in config.search_space().ops["spatial_squeeze_gated"]
    assert len(Signal.load("runs/signal").trained) == 16 and len(SearchResult.load("runs/own").trained) == 4
    seen = json.loads((here / "runs" / "own" / "retrained" / "comparison.json").read_text())
    assert {network["label"] for network in seen["networks"]} >= {"plain", "found", "sase"}
    del OP_SETS["spatial_squeeze"]["median"]
    scope = {}
    exec(inline, scope)
    held = [module for module in scope["net"].modules() if isinstance(module, SASEBlock)]
    assert len(held) == 8 and held[0].genotype == Genotype.load("runs/own/genotype.json")
    assert isinstance(scope["net"], timm.models.resnet.ResNet)
