"""Dataclasses from JSON values, checked: a missing field or a value of the wrong type is an error that names it.

Fields that the class does not have are ignored: a newer version may have written them.
"""

import os
import reprlib
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from sase_attn.files import read_json

T = TypeVar("T")


def read_record(path: str | os.PathLike[str], cls: type[T]) -> T:
    """An instance of a dataclass from a JSON file.

    Raises:
        OSError: the file cannot be read.
        UnknownNameError, ValueError: it does not hold such an object; the message begins with the file's name.
    """
    return read_json(path, lambda values: record_from(cls, values))


def record_from(cls: type[T], values: object) -> T:
    """An instance of a dataclass from a JSON object.

    Raises:
        ValueError: the value is no object, lacks a required field, or has a value of another type than the field's.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"wanted a JSON object, got {type(values).__name__}")
    hints, found = get_type_hints(cls), {}
    for item in fields(cls):  # type: ignore[arg-type]
        if item.name in values:
            try:
                found[item.name] = value_as(hints[item.name], values[item.name])
            except ValueError as error:
                raise ValueError(f"field {item.name}: {error}") from None
        elif item.default is MISSING and item.default_factory is MISSING:
            raise ValueError(f"wanted a field {item.name}, got {', '.join(map(str, values)) or 'none'}")
    return cls(**found)


def value_as(hint: Any, value: object) -> Any:
    """A JSON value as a type: a list becomes a tuple and an object a dataclass where the type is one.

    Raises:
        ValueError: the value is not of that type.
    """
    kind, options = get_origin(hint) or hint, get_args(hint)
    if hint is Any:
        return value
    if kind in (UnionType, Union):
        return _first_that_fits(options, hint, value)
    if kind is NoneType and value is None:
        return None
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise _mismatch(hint, value) from None
    if kind is list and isinstance(value, list | tuple):
        return [value_as(options[0], item) for item in value]
    if kind is tuple and isinstance(value, list | tuple):
        return _tuple_of(options, hint, value)
    if isinstance(kind, type) and issubclass(kind, Mapping) and isinstance(value, Mapping):
        return {value_as(options[0], key): value_as(options[1], item) for key, item in value.items()}
    if is_dataclass(kind) and isinstance(kind, type):
        return record_from(kind, value)
    if type(value) is kind:
        return value
    raise _mismatch(hint, value)


def _first_that_fits(options: tuple[Any, ...], hint: Any, value: object) -> Any:
    for option in options:
        try:
            return value_as(option, value)
        except ValueError:
            continue
    raise _mismatch(hint, value)


def _tuple_of(options: tuple[Any, ...], hint: Any, values: list[Any] | tuple[Any, ...]) -> tuple[Any, ...]:
    if options[-1] is Ellipsis:
        options = options[:1] * len(values)
    if len(options) != len(values):
        raise _mismatch(hint, values)
    return tuple(value_as(option, value) for option, value in zip(options, values, strict=True))


def _mismatch(hint: Any, value: object) -> ValueError:
    name = hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
    return ValueError(f"wanted {name}, got {reprlib.repr(value)}")
