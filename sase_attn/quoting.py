"""Quoting of arbitrary text, such as a folder's name, for Markdown, YAML, Python and shells."""

import json
import re
import shlex
from collections.abc import Iterable

_YAML_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
# In Markdown, an underscore between letters does not mark emphasis.
_MARKDOWN = re.compile(r"[\\`*\[\]<>&~|#$]|(?<![^\W_])_|_(?![^\W_])")
_STARTS_A_LIST = re.compile(r"^(\d*)([-+=.)])")


def one_line(text: object) -> str:
    """The text with each run of spaces, line breaks and other unprintable characters replaced by one space."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def enumerated(items: Iterable[object], word: str = "and") -> str:
    """At least one item as a list in a sentence: "a", "a and b", "a, b and c"; or with another `word`."""
    *before, last = map(str, items)
    return f"{', '.join(before)} {word} {last}" if before else last


def counted(count: int, noun: str) -> str:
    """A number with its noun in singular or plural: "1 epoch", "2 epochs"."""
    return f"{count} {noun}{'s' * (count != 1)}"


def markdown(text: object) -> str:
    """One line of Markdown that shows the text."""
    return _STARTS_A_LIST.sub(r"\1\\\2", _MARKDOWN.sub(r"\\\g<0>", one_line(text)))


def markdown_code(text: object) -> str:
    """One line of Markdown that shows the text as code."""
    line = one_line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    space = " " if line[:1] == "`" or line[-1:] == "`" or not line else ""
    return f"{fence}{space}{line}{space}{fence}"


def yaml(text: str) -> str:
    """The text as a YAML string, in quotes only where YAML needs them."""
    if re.fullmatch(r"[a-z][a-z0-9.+-]*", text) and text not in _YAML_WORDS:
        return text
    # YAML does not join the two halves by which JSON escapes a character beyond U+FFFF.
    escaped = (json.dumps(c)[1:-1] if c <= "\uffff" else f"\\U{ord(c):08x}" for c in text)
    return f'"{"".join(escaped)}"'


def python(text: object) -> str:
    """The text as a Python string in double quotes; characters that UTF-8 cannot encode are escaped too."""
    return json.dumps(str(text), ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def command(*words: object) -> str:
    """A command of this package, to be copied to a shell: `sase-attn` and its words, in quotes where they need them."""
    return shlex.join(["sase-attn", *map(str, words)])
