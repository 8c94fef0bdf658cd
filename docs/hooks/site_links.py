"""Warn of each dead link in the built site, and of all that its pages would load from another host.

`mkdocs build --strict` fails on a warning. MkDocs itself looks at links between Markdown files only.
"""

import logging
import posixpath
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig

LOG = logging.getLogger("mkdocs.hooks.site_links")
LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}


class _Page(HTMLParser):
    """The anchors of a page, its links, and the addresses of what it loads."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the tag names."""
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            if name in ("href", "src") and value:
                self.links.add(value)
            if (tag, name) in LOADED and value and dict(attrs).get("rel") != "canonical":
                self.loaded.add(value)


def problems(site: Path) -> list[str]:
    """A line for each fault of the site in a folder."""
    pages = {
        path.relative_to(site).as_posix(): _Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")
    }
    found = []
    for name, page in sorted(pages.items()):
        found += [f"{name} loads {address} of another host" for address in page.loaded if urlsplit(address).netloc]
        for link in sorted(page.links):
            address = urlsplit(link)
            if address.scheme or address.netloc or name == "404.html":
                continue
            path = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(address.path)))
            target = name if not address.path else path
            if (site / target).is_dir():
                target = posixpath.normpath(posixpath.join(target, "index.html"))
            anchor = unquote(address.fragment)
            if not (site / target).is_file():
                found.append(f"{name} links to {link}, which is not there")
            elif anchor and target in pages and not anchor.startswith("__") and anchor not in pages[target].anchors:
                found.append(f"{name} links to {link}, where there is no such part")
    return found


def on_post_build(config: "MkDocsConfig") -> None:
    """Look at the whole site."""
    for problem in problems(Path(config.site_dir)):
        LOG.warning(problem)
