"""Text that people chose, such as a folder's name, written so that Markdown, YAML, Python or a shell takes it as is."""

import json
import re
import shlex
from collections.abc import Iterable

_YAML_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
# An underscore between letters emphasises nothing.
_MARKDOWN = re.compile(r"[\\`*\[\]<>&~|#$]|(?<![^\W_])_|_(?![^\W_])")
_STARTS_A_LIST = re.compile(r"^(\d*)([-+=.)])")


def one_line(text: object) -> str:
    """Without line breaks and other characters that cannot be shown; each run of them, and of spaces, is one space."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def enumerated(items: Iterable[object], word: str = "and") -> str:
    """One thing or more as a list in a sentence: "a", "a and b", "a, b and c"; or with another `word`."""
    *before, last = map(str, items)
    return f"{', '.join(before)} {word} {last}" if before else last


def counted(count: int, noun: str) -> str:
    """A number of things, as in "1 epoch" and "2 epochs"."""
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
    """The text as a string of YAML: as it is where that is one, else in quotes."""
    plain = re.fullmatch(r"[a-z][a-z0-9.+-]*", text) and text not in _YAML_WORDS
    return text if plain else json.dumps(text)


def python(text: object) -> str:
    """The text as a string of Python in double quotes; what UTF-8 cannot hold is escaped too."""
    return json.dumps(str(text), ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def command(*words: object) -> str:
    """A command of this package, to be copied to a shell: `sase-attn` and its words, in quotes where they need them."""
    return shlex.join(["sase-attn", *map(str, words)])
