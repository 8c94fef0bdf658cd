"""A configuration of mmdetection, which is Python text: its values, read without running it."""

import ast
from collections.abc import Mapping
from typing import Any


def values_of(text: str) -> dict[str, Any]:
    """The values assigned to names in a Python text: numbers, strings, lists and dictionaries; None for any other.

    Tuples become lists. A text that is no Python has no values.
    """
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError):
        return {}
    return {
        target.id: _value(statement.value)
        for statement in statements
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }


def value_at(config: Mapping[str, Any], place: str) -> Any:
    """The value at a place such as `model.neck.type`; None if there is none."""
    value: Any = config
    for name in place.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        return {item.arg: _value(item.value) for item in node.keywords if item.arg is not None}
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {key.value: _value(value) for key, value in pairs if isinstance(key, ast.Constant)}
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(each) for each in node.elts]
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None
