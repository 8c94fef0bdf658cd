"""Shared by the tests of the documentation: the pages, and the code blocks in them."""

import re

from checkout import ROOT

README, CONTRIBUTING = ROOT / "README.md", ROOT / "CONTRIBUTING.md"
PAGES = [README, CONTRIBUTING, *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)


def name(page):
    return page.relative_to(ROOT).as_posix()


def blocks(page, language):
    """The code blocks of a page whose opening line is exactly this language."""
    found = [code for opening, code in _BLOCK.findall(page.read_text(encoding="utf-8")) if opening == language]
    return [re.sub(r"\\\n *", "", code) for code in found] if language == "sh" else found


def prose(page):
    """A page without its code blocks."""
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def script(page):
    """The Python blocks of a page as one script, with every line at the same line number as in the page."""
    lines, running = [], False
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            running = line == "```python"
            line = ""
        lines.append(line if running else "")
    return "\n".join(lines)


def commands():
    """Every documented command line of `sase-attn`, in code blocks and in running text."""
    found = []
    for page in PAGES:
        lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
        lines += re.findall(r"`(sase-attn \w[^`]*)`", prose(page))
        lines = [line.split("#")[0] for line in lines]
        found += [line for line in lines if re.search(r"sase-attn \w|-m sase_attn ", line)]
    return list(dict.fromkeys(found))
