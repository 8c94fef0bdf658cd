"""Configurations in the reference: a field of `setting(default, help)` is an argument with its default and its help."""

import ast
from typing import Any

import griffe


class SettingsExtension(griffe.Extension):
    """Reads what `sase_attn.settings.setting` is called with, without importing anything."""

    def on_class_members(self, *, node: Any, cls: griffe.Class, **kwargs: Any) -> None:
        """Give each field its default, and the docstring of the class a line for it."""
        lines = []
        for statement in getattr(node, "body", ()):
            if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.value, ast.Call):
                continue
            name, call = ast.unparse(statement.target), statement.value
            if ast.unparse(call.func) == "setting":
                given = dict(zip(("default", "help"), call.args, strict=False))
                given |= {keyword.arg: keyword.value for keyword in call.keywords}
                cls.attributes[name].value = ast.unparse(given["default"])
                lines.append(f"    {name}: {_words(given['help'])}")
        if lines and cls.docstring:
            cls.docstring.value += "\n\nArgs:\n" + "\n".join(lines)


def _words(text: ast.expr) -> str:
    """A string of a source file; what it would take in when it runs is left open."""
    parts = text.values if isinstance(text, ast.JoinedStr) else [text]
    whole = "".join(str(ast.literal_eval(part)) if isinstance(part, ast.Constant) else "…" for part in parts)
    return " ".join(whole.split()).replace("*", r"\*")  # no emphasis
