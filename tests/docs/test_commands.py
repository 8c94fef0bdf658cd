"""Documented commands exist, with the options that they use; those of set-up are what CI runs."""

import re
import shlex
import tomllib
from itertools import takewhile

import pytest
from checkout import ROOT
from pages import PAGES, README, blocks, commands

from sase_attn.commands.main import main


@pytest.mark.parametrize("command", commands())
def test_command_exists(command, capsys):
    """`--help` of the command lists every option that the line uses."""
    words = shlex.split(command)
    start = max(index for index, word in enumerate(words) if word.endswith(("sase-attn", "sase_attn")))
    used = words[start + 1 :]
    if used[0] == "run":  # what follows the script is the script's
        used = used[:1]
    assert main([*takewhile(lambda word: not word.startswith("-"), used), "--help"]) == 0
    text = capsys.readouterr().out
    for option in (word for word in used if word.startswith("-")):
        assert re.search(rf"(?<!\w){option}\b", text), option


def test_every_command_has_its_line():
    """The page on the command line shows each command that there is."""
    page = ROOT / "docs" / "command-line.md"
    shown = {line.split()[1] for block in blocks(page, "sh") for line in block.splitlines()}
    assert shown == {
        "list",
        "show",
        "train",
        "evaluate",
        "predict",
        "compare",
        "signal",
        "search",
        "tile",
        "synthesize",
        "detect",
        "import",
        "push",
        "run",
    }
    with pytest.raises(AssertionError):
        test_command_exists("sase-attn shown", None)


def test_set_up_is_verbatim_and_what_ci_runs():
    lines = [line for block in blocks(README, "sh") for line in block.splitlines()]
    test = 'python3 -m venv .venv && .venv/bin/pip install -e ".[test]" && .venv/bin/pytest'
    assert test in lines
    assert 'python3 -m venv .venv && .venv/bin/pip install -e ".[search]" && .venv/bin/sase-attn search' in lines
    assert test in (ROOT / ".ci" / "run").read_text()


def test_scripts_exist_and_have_their_options():
    lines = [line.split("#")[0] for page in PAGES for block in blocks(page, "sh") for line in block.splitlines()]
    scripts = [words for line in lines if (words := line.split())[:1] == ["python"] and words[1] != "-m"]
    assert scripts
    for words in scripts:
        text = (ROOT / words[1]).read_text(encoding="utf-8")
        for option in (word for word in words[2:] if word.startswith("--")):
            assert f'"{option}"' in text, " ".join(words)


def test_floors_are_those_of_the_package():
    project = (ROOT / "pyproject.toml").read_text()
    for package in ("torch", "timm"):
        floor = re.search(rf'"{package}>=([\d.]+)"', project)[1]
        assert f"{package} ≥ {floor}" in README.read_text(encoding="utf-8")
        if package == "torch":
            assert f"torch {floor}, the oldest supported" in (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")


def test_extras_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    shown = re.findall(
        r"^\| `([\w-]+)` \|", (ROOT / "docs" / "install.md").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    assert sorted(shown) == sorted(project)
