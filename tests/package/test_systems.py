"""No module of the package needs what only some systems have, just to be imported."""

import ast

import pytest
from checkout import ROOT

FILES = sorted((ROOT / "sase_attn").rglob("*.py"))
SOMEWHERE = {"crypt", "fcntl", "grp", "msvcrt", "pty", "pwd", "resource", "termios", "tty", "winreg"}


def unconditional(tree):
    """Modules that are imported on every system at once."""
    names = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            names.add(node.module)
        if isinstance(node, ast.ClassDef):
            names |= unconditional(node)
    return names


def test_modules_of_one_system_are_imported_on_it_only():
    assert len(FILES) > 400
    for path in FILES:
        assert not unconditional(ast.parse(path.read_text(encoding="utf-8"))) & SOMEWHERE, path


@pytest.mark.parametrize("code", ["import fcntl", "from pwd import getpwuid", "class A:\n import resource"])
def test_the_rule_itself(code):
    assert unconditional(ast.parse(code)) & SOMEWHERE
    assert not unconditional(ast.parse(f"if sys.platform != 'win32':\n {code.replace(chr(10), chr(10) + ' ')}"))
