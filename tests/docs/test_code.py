"""Every Python block of every page runs, the blocks of a page as one script."""

import json
import subprocess
import sys

import pytest
import timm
from checkout import ROOT
from hub_server import HubServer
from pages import CONTRIBUTING, PAGES, blocks, name, script
from safetensors.torch import save

# Pages share a process, which imports torch once, and have a namespace, a folder and operations of their own.
RUN = """
import json, os, sys
from sase_attn.ops import OP_SETS
top = os.getcwd()
ours = {name: dict(ops) for name, ops in OP_SETS.items()}
for page, code in json.load(sys.stdin):
    os.makedirs(os.path.join(top, "runs of " + page.replace("/", " ")))
    os.chdir(os.path.join(top, "runs of " + page.replace("/", " ")))
    exec(compile(code, page, "exec"), {"__name__": "__main__"})
    for name, ops in ours.items():
        OP_SETS[name].clear()
        OP_SETS[name].update(ops)
    print("finished", page)
"""


def test_python_blocks_run(tmp_path):
    scripts = [(name(page), script(page)) for page in PAGES if blocks(page, "python")]
    weights = timm.create_model("resnet50").state_dict()
    with HubServer() as server:
        server.add_file("timm/resnet50.a1_in1k", "model.safetensors", save(weights, metadata={"format": "pt"}))
        environment = dict(
            HF_ENDPOINT=server.url,
            HF_HOME=str(tmp_path),
            HF_HUB_DISABLE_XET="1",
            OMP_NUM_THREADS="1",
            PATH="",
            PYTHONPATH=str(ROOT),
        )
        run = subprocess.run(
            [sys.executable, "-c", RUN],
            input=json.dumps(scripts),
            env=environment,
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
    assert run.returncode == 0, run.stderr
    assert [f"finished {page}" for page, _ in scripts] == [
        line for line in run.stdout.splitlines() if line.startswith("finished ")
    ]
    assert "8 layer1.0.bn2 64" in run.stdout  # what the front page says that it prints
    assert "50.734M" in run.stdout and "4.766M" in run.stdout  # and the page on tiling


def test_a_page_imports_what_registers_its_models():
    """The process above is shared, so a page could rely on another one's import without being seen."""
    for page in PAGES:
        if "timm.create_model" in script(page):
            before = script(page).partition("timm.create_model")[0]
            assert "import sase_attn" in before or "from sase_attn" in before, name(page)


def test_few_blocks_are_not_run():
    assert sum(len(blocks(page, "python no-run")) for page in PAGES) == 1


def test_parts_of_files_are_in_those_files():
    """`<!-- part of PATH -->` above a block promises that the block stands in the file, letter by letter."""
    found = 0
    for page in PAGES:
        for marked in page.read_text(encoding="utf-8").split("<!-- part of ")[1:]:
            path, _, rest = marked.partition(" -->\n```python\n")
            assert rest.partition("```\n")[0] in (ROOT / path).read_text(encoding="utf-8"), f"{name(page)}: {path}"
            found += 1
    assert found


@pytest.mark.parametrize("number, diff", list(enumerate(blocks(CONTRIBUTING, "diff"))))
def test_diffs_apply(number, diff):
    """Each on its own; what they do is tried by hand when they are written."""
    check = ["git", "apply", "--check", "-"]
    done = subprocess.run(check, input=diff, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
