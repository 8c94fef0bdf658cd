"""`Settings`: a frozen dataclass of checked values, which command-line flags can change and JSON files can hold."""

import json
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, asdict, dataclass, field, fields, replace
from typing import Any, ClassVar, Self, get_type_hints

from sase_attn.errors import unknown_name
from sase_attn.files import json_text, parse_json, read_json
from sase_attn.records import value_as

# Names of fields, the test that their values must pass (None always passes), and the words for it in an error message.
Ranges = tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...]


def setting(default: Any, help: str) -> Any:
    """Define a field of settings: its default, and the line that `--help` shows."""
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata={"help": help})
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Settings:
    """Base of `Recipe` and of the search's configuration: types and ranges of all fields are checked.

    A subclass names itself in messages by `KIND`, and lists the ranges of its fields in `RANGES`.

    Raises:
        ValueError: a value of the wrong type or outside its range; the message names the field.
    """

    KIND: ClassVar[str] = "setting"
    RANGES: ClassVar[Ranges] = ()

    def __post_init__(self) -> None:
        for item, hint in settings_fields(type(self)):
            object.__setattr__(self, item.name, self._checked(item.name, hint, getattr(self, item.name)))
        for names, fits, wanted in self.RANGES:
            for name in names:
                value = getattr(self, name)
                if value is not None and not fits(value):
                    raise self.wrong(name, wanted, value)

    def wrong(self, name: str, wanted: str, got: object) -> ValueError:
        """The error to raise for the value of a field."""
        return ValueError(f"{self.KIND} field {name}: wanted {wanted}, got {got!r}")

    def check_name(self, name: str, kind: str, known: Iterable[str]) -> None:
        """Raise UnknownNameError if the value of a field is not a known name."""
        if getattr(self, name) not in known:
            raise unknown_name(kind, getattr(self, name), known)

    def override(self, **values: Any) -> Self:
        """A copy with other values. Raises UnknownNameError for a name that is no field."""
        known = [item.name for item in fields(self)]
        for name in values:
            if name not in known:
                raise unknown_name(f"{self.KIND} field", name, known)
        return replace(self, **values)

    def to_json(self) -> str:
        """A JSON object with one line per field."""
        return json_text(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote. Missing fields take their defaults; those of a newer version give a warning."""
        values = parse_json(text)
        if isinstance(values, dict):
            known = {item.name for item in fields(cls)}
            if unknown := [name for name in values if name not in known]:
                warnings.warn(f"ignored unknown {cls.KIND} fields: {', '.join(unknown)}", stacklevel=2)
            values = {name: value for name, value in values.items() if name in known}
        return cls.from_dict(values)

    @classmethod
    def from_dict(cls, values: object) -> Self:
        """Build from names and values, as a person writes them in a JSON file; missing fields take their defaults.

        Raises:
            ValueError: `values` is no mapping, or a value is invalid. UnknownNameError: a name is no field.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"wanted a {cls.KIND} as a JSON object, got {type(values).__name__}")
        if wrong := [name for name in values if not isinstance(name, str)]:
            raise ValueError(f"wanted names of {cls.KIND} fields, got {wrong[0]!r}")
        return cls().override(**values)

    @classmethod
    def read(cls, name: str | os.PathLike[str], known: Mapping[str, Self]) -> Self:
        """The known settings of this name, or those in a `.json` file.

        Raises:
            UnknownNameError, FileNotFoundError, ValueError: there are none, or the file does not hold such settings.
        """
        if str(name).endswith(".json"):
            return read_json(name, cls.from_dict)
        if name not in known:
            raise unknown_name(cls.KIND, name, known)
        return known[str(name)]

    def differences(self, other: Self) -> list[str]:
        """Names of the fields in which two records differ."""
        return [item.name for item in fields(self) if getattr(self, item.name) != getattr(other, item.name)]

    def _checked(self, name: str, hint: Any, value: Any) -> Any:
        try:
            checked = value_as(hint, value)
        except ValueError as error:
            raise ValueError(f"{self.KIND} field {name}: {error}") from None
        if not isinstance(checked, dict):
            return checked
        try:
            return parse_json(json.dumps(checked))
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{self.KIND} field {name}: wanted values that JSON can hold: {error}") from None


def settings_fields(cls: type[Settings]) -> list[tuple[Field[Any], Any]]:
    """The fields of settings in order, each with its type; annotations given as strings are resolved."""
    hints = get_type_hints(cls)
    return [(item, hints[item.name]) for item in fields(cls)]


def at_most(limit: float) -> tuple[Callable[[Any], bool], str]:
    """The test that a number is not above a limit, and the words for it in an error message."""
    return lambda v: v <= limit, f"at most {limit:,}"


MANY = 1_000_000_000  # above any realistic count, and small enough for arithmetic with it
LARGEST_SEED = 2**32 - 1  # the largest seed that every random generator accepts
LARGEST_SIZE = 16_384  # pixels along one side of an image
LARGEST_NUMBER = 1e30  # leaves room in float32 for products
AT_LEAST_1 = (lambda v: v >= 1, "at least 1")
AT_LEAST_0 = (lambda v: v >= 0, "at least 0")
ABOVE_0 = (lambda v: 0 < v < float("inf"), "a number above 0")
NOT_NEGATIVE = (lambda v: 0 <= v < float("inf"), "a number of at least 0")
FRACTION = (lambda v: 0 <= v < 1, "a number from 0 to below 1")
