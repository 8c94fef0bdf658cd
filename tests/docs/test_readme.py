"""The README is run, its tables are current, its commands are those that CI runs."""

import re
import subprocess
import sys

import pytest
import timm
from checkout import ROOT
from hub_server import HubServer

from sase_attn.attentions import ATTENTIONS
from sase_attn.commands.main import main
from sase_attn.ops import OP_SETS

README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


def test_code_runs(tmp_path):
    from safetensors.torch import save

    code = "\n".join(blocks("python"))
    assert code.count("create_model") >= 3
    weights = timm.create_model("resnet50").state_dict()
    with HubServer() as server:
        server.add_file("timm/resnet50.a1_in1k", "model.safetensors", save(weights, metadata={"format": "pt"}))
        environment = dict(
            HF_ENDPOINT=server.url, HF_HOME=str(tmp_path), HF_HUB_DISABLE_XET="1", PATH="", PYTHONPATH=str(ROOT)
        )
        run = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=tmp_path
        )
    assert run.returncode == 0, run.stderr
    assert "layer1.0.bn2 64" in run.stdout


def test_operations_table_is_current(capsys):
    assert main(["list", "ops", "--markdown"]) == 0
    table = re.search(r"<!-- operations -->\n(.*?)<!-- /operations -->", README, flags=re.DOTALL)[1]
    assert table.strip() == capsys.readouterr().out.strip()
    assert table.count("\n") == 2 + sum(len(ops) for ops in OP_SETS.values())


def test_attentions_table_is_current(capsys):
    assert main(["list", "attentions", "--markdown"]) == 0
    table = re.search(r"<!-- attentions -->\n(.*?)<!-- /attentions -->", README, flags=re.DOTALL)[1]
    assert table.strip() == capsys.readouterr().out.strip()
    assert table.count("\n") == 2 + len(ATTENTIONS)


def test_model_table_is_current():
    rows = re.findall(r"^\| `(\w+)`[^|]*\| ([\d,]+) \| (\d+) \|$", README, flags=re.MULTILINE)
    registered = {n for m in ("sase_resnet", "sase_resnet_cifar") for n in timm.list_models(module=m)}
    assert {name for name, _, _ in rows} == registered
    for name, count, size in rows:
        model = timm.create_model(name, device="meta")
        assert sum(p.numel() for p in model.parameters()) == int(count.replace(",", ""))
        assert model.pretrained_cfg["input_size"][-1] == int(size)


def test_commands_of_the_readme_are_what_ci_runs():
    command = '.venv/bin/pip install -e ".[test]" && .venv/bin/pytest'
    assert any(command in block for block in blocks("sh"))
    assert command in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("command", [c for b in blocks("sh") for c in b.splitlines() if c.startswith("sase-attn")])
def test_commands_exist(command, capsys):
    """Each documented command is understood: `--help` of it lists every option that the line uses."""
    words = command.split("#")[0].split()
    assert main([words[1], "--help"]) == 0
    text = capsys.readouterr().out
    for option in [word for word in words if word.startswith("-")]:
        assert re.search(rf"(?<!\w){option}\b", text)
