"""`add_flags`: flags of a command from the fields of a `Settings` class; `summary`: settings as text."""

import argparse
import textwrap
from collections.abc import Container, Iterable, Mapping
from dataclasses import asdict
from types import MappingProxyType, NoneType, UnionType
from typing import Any, get_args, get_origin

from sase_attn.commands.arguments import key_value
from sase_attn.files import json_text
from sase_attn.settings import Settings, settings_fields


def add_flags(
    group: Any,
    cls: type[Settings],
    names: Iterable[str] | None = None,
    helps: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Add a flag for each field, or for the named ones. The namespace has no attribute for a flag that is not given.

    Args:
        group: the group of the parser that gets the flags.
        cls: the settings.
        names: the fields; by default all.
        helps: what `--help` says of a field in place of its own line, by name.
    """
    for item, hint in settings_fields(cls):
        if item.name != "imports" and (names is None or item.name in names):  # every command has this flag
            flag, text = f"--{item.name.replace('_', '-')}", helps.get(item.name, item.metadata["help"])
            group.add_argument(flag, default=argparse.SUPPRESS, help=text, **_parsed_as(hint))


def given_flags(args: argparse.Namespace, cls: type[Settings]) -> dict[str, Any]:
    """The fields that were given as flags, with their values."""
    return {item.name: getattr(args, item.name) for item, _ in settings_fields(cls) if hasattr(args, item.name)}


def summary(settings: Settings, title: str, without: Container[str] = ()) -> str:
    """All values except those of the fields `without`, as text under a title."""
    shown = {key: value for key, value in asdict(settings).items() if key not in without}
    values = [f"{key}={json_text(value, indent=None)}".replace('"', "") for key, value in shown.items()]
    return "\n".join([f"{title}:", *textwrap.wrap(", ".join(values), 110, initial_indent="  ", subsequent_indent="  ")])


def _parsed_as(hint: Any) -> dict[str, Any]:
    """The arguments of `add_argument` for a field of this type."""
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    kind = kinds[0]
    metavar = {int: "N", float: "X", str: "NAME"}
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    if get_origin(kind) is dict:
        return {"type": key_value, "action": _Dict, "nargs": "*", "metavar": "KEY=VALUE"}
    if get_origin(kind) is tuple:
        inner = get_args(kind)[0]
        return {"type": inner, "nargs": "*", "metavar": metavar[inner]}
    if NoneType not in kinds:
        return {"type": kind, "metavar": metavar[kind]}

    def optional(text: str) -> Any:
        return None if text == "none" else kind(text)

    optional.__name__ = kind.__name__  # argparse names the type by it in errors
    return {"type": optional, "metavar": f"{metavar[kind]}|none"}


class _Dict(argparse.Action):
    """Collects key=value pairs into a dictionary, over one flag or several."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        setattr(namespace, self.dest, getattr(namespace, self.dest, {}) | dict(values))
