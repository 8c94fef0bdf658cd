"""The reference's lines for fields of configurations, read from their source. The site's builder is not needed here."""

import ast
import importlib.util
import sys
from dataclasses import fields
from types import SimpleNamespace

import pytest
from checkout import ROOT

from sase_attn.training import Recipe

SOURCE = '''
class Made(Settings):
    """Docs."""

    KIND: ClassVar[str] = "made"
    steps: int = setting(3, "how *many*")
    kind: str = setting("a", f"one of {', '.join(KINDS)}, {{as}} " "named")
    rate: float = setting(help="by name", default=-0.5)
    other: int = field(default=2)
    note = setting(1, "no annotation, so no field")
'''


@pytest.fixture
def extension(monkeypatch):
    """The extension, of a stand-in for what reads the source of the reference."""
    monkeypatch.setitem(sys.modules, "griffe", SimpleNamespace(Extension=object, Class=object))
    spec = importlib.util.spec_from_file_location("settings_extension", ROOT / "docs/hooks/settings_extension.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SettingsExtension()


def read(extension, node, docstring="Docs."):
    names = [ast.unparse(statement.target) for statement in node.body if isinstance(statement, ast.AnnAssign)]
    cls = SimpleNamespace(
        attributes={name: SimpleNamespace(value=None) for name in names},
        docstring=None if docstring is None else SimpleNamespace(value=docstring),
    )
    extension.on_class_members(node=node, cls=cls, agent=None)
    return cls


def test_defaults_and_help(extension):
    cls = read(extension, ast.parse(SOURCE).body[0])
    assert cls.docstring.value == (
        "Docs.\n\nArgs:\n    steps: how \\*many\\*\n    kind: one of …, {as} named\n    rate: by name"
    )
    values = {name: attribute.value for name, attribute in cls.attributes.items()}
    assert values == {"KIND": None, "steps": "3", "kind": "'a'", "rate": "-0.5", "other": None}


def test_classes_without_a_docstring_or_without_source(extension):
    assert read(extension, ast.parse(SOURCE).body[0], docstring=None).attributes["steps"].value == "3"
    extension.on_class_members(node=SimpleNamespace(), cls=SimpleNamespace(docstring=None), agent=None)


def test_every_field_of_a_recipe_has_its_line(extension):
    tree = ast.parse((ROOT / "sase_attn" / "training" / "recipes.py").read_text(encoding="utf-8"))
    node = next(one for one in tree.body if isinstance(one, ast.ClassDef) and one.name == "Recipe")
    lines = read(extension, node).docstring.value.partition("Args:\n")[2].splitlines()
    assert [line.partition(":")[0].strip() for line in lines] == [item.name for item in fields(Recipe)]
    assert all(line.partition(": ")[2] for line in lines)
