"""Names that people chose, as Markdown, YAML, Python and a shell read them."""

import ast
import re
import shlex
from pathlib import Path

import pytest
import yaml

import sase_attn
from sase_attn import quoting

NAMES = [
    "plain name",
    'quo"te',
    "back\\slash",
    "line\nbreak: 1\n---",
    "`code` and ``` fences",
    "<script>alert(1)</script>",
    "[a](http://b) ![c](d) *e* _f_ ~~g~~",
    "名前 é 😀",
    "not \udcff UTF-8",
    "'single' {brace} $x$ a|b",
]


def test_lists_are_written_as_people_write_them():
    assert [quoting.enumerated("abc"[:count]) for count in (1, 2, 3)] == ["a", "a and b", "a, b and c"]
    assert quoting.enumerated([240, 960, 3840], "or") == "240, 960 or 3840"
    assert [quoting.counted(count, "thread") for count in (0, 1, 2)] == ["0 threads", "1 thread", "2 threads"]


@pytest.mark.parametrize("name", NAMES)
def test_python_reads_the_name_back(name):
    text = quoting.python(name)
    assert ast.literal_eval(text) == name and "\n" not in text
    text.encode()


@pytest.mark.parametrize("name", NAMES)
def test_markdown_is_one_line_that_shows_the_name(name):
    for text in (quoting.markdown(name), quoting.markdown_code(name)):
        assert len(text.splitlines()) == 1
        text.encode()
    fence = len(quoting.markdown_code(name)) - len(quoting.markdown_code(name).lstrip("`"))
    assert "`" * fence not in quoting.one_line(name)
    shown = quoting.markdown(name)
    unescaped = shown.replace("\\\\", "\0").replace("\\", "").replace("\0", "\\")
    assert unescaped == quoting.one_line(name)


def test_what_markdown_would_read_as_marks_is_escaped():
    assert quoting.markdown("<b> [a](b) *c* `d` _e_ f_g # & 5 | $") == (
        r"\<b\> \[a\](b) \*c\* \`d\` \_e\_ f_g \# \& 5 \| \$"
    )
    assert quoting.markdown("- a") == r"\- a" and quoting.markdown("1. a") == r"1\. a"
    assert quoting.markdown("CIFAR-10 top-1 (%)") == "CIFAR-10 top-1 (%)"


def test_yaml_is_plain_where_it_can_be():
    assert [quoting.yaml(text) for text in ("mit", "apache-2.0", "cc-by-4.0")] == ["mit", "apache-2.0", "cc-by-4.0"]
    for text, wanted in {"no": '"no"', "a: b": '"a: b"', "1.0": '"1.0"', "x\ny: z": '"x\\ny: z"', "": '""'}.items():
        assert quoting.yaml(text) == wanted


@pytest.mark.parametrize("name", NAMES)
def test_yaml_reads_the_name_back(name):
    assert yaml.safe_load(quoting.yaml(name)) == name


def test_counted():
    assert [quoting.counted(count, "epoch") for count in (0, 1, 2)] == ["0 epochs", "1 epoch", "2 epochs"]


def test_commands_can_be_copied_to_a_shell():
    for name in ("runs/a run", "it's", "$HOME; ls", "plain/run-1"):
        line = quoting.command("detect", "train", "--output", Path(name), "--resume")
        assert shlex.split(line) == ["sase-attn", "detect", "train", "--output", name, "--resume"]
    assert quoting.command("search", "--resume", "runs/x") == "sase-attn search --resume runs/x"


def test_no_command_is_put_together_by_hand():
    """A value in a command that people copy, such as a folder with a space, needs the quotes of `command`."""
    found = []
    for path in sorted(Path(sase_attn.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values]
                if re.search(r"sase-attn [a-z-]+ [^\n`]*\0", "".join(parts)):
                    found.append(f"{path.name}:{node.lineno}")
    assert not found, f"use quoting.command: {', '.join(found)}"
