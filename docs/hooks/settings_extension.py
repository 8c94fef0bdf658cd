"""Configurations in the reference: a field of `setting(default, help)` is an argument with its default and its help."""

import ast
import re
from typing import Any

import griffe


class SettingsExtension(griffe.Extension):
    """Reads what `sase_attn.settings.setting` is called with, without importing anything."""

    def on_class_members(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        """Give each field its default, and the docstring of the class a line for it."""
        lines = []
        for attribute in cls.attributes.values():
            call = attribute.value
            if isinstance(call, griffe.ExprCall) and str(call.function) == "setting":
                attribute.value, text = call.arguments
                lines.append(f"    {attribute.name}: {_words(str(text))}")
        if lines and cls.docstring:
            cls.docstring.value += "\n\nArgs:\n" + "\n".join(lines)


def _words(source: str) -> str:
    """The text of a string in a source file; what it would take in when it runs is left open."""
    if source.startswith(("f'", 'f"')):
        source = re.sub(r"\{[^}]*\}", "…", source[1:])
    return " ".join(ast.literal_eval(source).split()).replace("*", r"\*")  # no emphasis
