"""Pages that are written for GitHub as the documentation's site takes them. `mkdocs.yml` names this file.

Four pages stand elsewhere in the repository than on the site. Links between pages stay links. A link to any other file
of the repository leads to its public address, or is plain text as long as pyproject.toml names no address.
"""

import posixpath
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
MOVED = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "docs/README.md": "pages.md",
}
"""Files of the repository, and their places on the site."""
_FENCE = re.compile(r"(^```.*?^```$)", flags=re.DOTALL | re.MULTILINE)
_FLAG = re.compile(r"(?<![\w-])--[\w-]+")
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def repository_url(project: Path = ROOT / "pyproject.toml") -> str:
    """Where the files of the repository can be seen, or nothing."""
    return tomllib.loads(project.read_text(encoding="utf-8"))["project"]["urls"].get("Repository", "").rstrip("/")


def place(path: str) -> str:
    """The place on the site of a file of the repository."""
    return MOVED.get(path, path.removeprefix("docs/"))


def for_site(text: str, path: str, url: str) -> str:
    """The text of the page that is `path` in the repository, with links that work on the site."""

    def link(found: re.Match[str]) -> str:
        mark, words, target = found.groups()
        if target.startswith(("http://", "https://", "mailto:", "#")):
            return found[0]
        file, hash_mark, part = target.partition("#")
        file = posixpath.normpath(posixpath.join(posixpath.dirname(path), file))
        if file in MOVED or file.startswith("docs/"):
            here = posixpath.dirname(place(path)) or "."
            there = f"{posixpath.relpath(place(file), here)}{hash_mark}{part}"
            return f"[![{words}]({there})]({there})" if mark else f"[{words}]({there})"  # phones show pictures small
        return f"[{words}]({url}/blob/main/{file}{hash_mark}{part})" if url else words

    pieces = _FENCE.split(text)
    pieces[::2] = [_LINK.sub(link, piece).replace("<details>", "<details markdown>") for piece in pieces[::2]]
    pieces[1::2] = [re.sub(r"^```(\w+) .*", r"```\1", piece) for piece in pieces[1::2]]  # words for our tests
    return "".join(pieces)


def unbroken(html: str) -> str:
    """A page on which no flag in code, such as `--data`, breaks after one of its hyphens; on a phone many would."""
    return re.sub(r"<code>[^<]*</code>", lambda code: _FLAG.sub(r'<span class="flag">\g<0></span>', code[0]), html)


def on_config(config: "MkDocsConfig") -> "MkDocsConfig":
    """Link the repository in the footer. By `repo_url` each page would ask its host for the number of stars."""
    if url := repository_url():
        config.extra["social"] = [{"icon": "fontawesome/brands/git-alt", "link": url, "name": "the repository"}]
    return config


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Put the pages that stand elsewhere at their places."""
    from mkdocs.structure.files import File

    for path, moved in MOVED.items():
        old = files.get_file_from_path(path.removeprefix("docs/"))
        if old is not None:
            files.remove(old)
        files.append(File.generated(config, moved, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: "Page", config: "MkDocsConfig", files: "Files") -> str:
    """Lead links to where they lead on the site."""
    there = {moved: path for path, moved in MOVED.items()}
    return for_site(markdown, there.get(page.file.src_uri, f"docs/{page.file.src_uri}"), repository_url())


def on_page_content(html: str, page: "Page", config: "MkDocsConfig", files: "Files") -> str:
    """Keep flags whole."""
    return unbroken(html)
