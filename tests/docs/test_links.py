"""Every relative link and picture leads to a file, every `#part` to a heading; the front page is short."""

import pkgutil
import re

import pytest
from checkout import ROOT
from pages import PAGES, README, name, prose

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def headings(page):
    """The anchors that GitHub gives the headings of a page."""
    titles = re.findall(r"^#+ (.*)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for target in LINK.findall(prose(page)):
        if target.startswith(("http://", "https://")):
            continue
        path, _, part = target.partition("#")
        leads_to = page.parent / path if path else page
        assert leads_to.exists(), target
        assert ROOT in leads_to.resolve().parents, target
        if part:
            assert part in headings(leads_to), target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_names_in_running_text_exist(page):
    """Files by their paths, and what `sase_attn.…` names."""
    text = prose(page)
    for path in re.findall(r"`((?:benchmarks|docs|examples|sase_attn|tests)/[\w./-]+)", text):
        assert (ROOT / path).exists(), path
    for dotted in re.findall(r"`(sase_attn\.[\w.]+)", text):
        assert pkgutil.resolve_name(dotted) is not None, dotted


def test_every_page_is_reached_from_the_index():
    index = ROOT / "docs" / "README.md"
    reached = {(index.parent / target.partition("#")[0]).resolve() for target in LINK.findall(prose(index))}
    assert reached >= {page for page in PAGES if page.parent == index.parent and page != index}


def test_the_front_page_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 200


def test_source_distributions_hold_what_is_linked():
    include = re.search(r"sdist\]\ninclude = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), flags=re.DOTALL)[1]
    for target in LINK.findall(prose(README)):
        if not target.startswith("http"):
            assert f'"/{target.partition("#")[0].partition("/")[0]}"' in include, target
