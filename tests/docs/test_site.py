"""The documentation's site: its pages, its reference, and its links. `.ci/run` builds it."""

import ast
import json
import posixpath
import re
import sys
from collections import Counter

import pytest
from checkout import ROOT
from pages import PAGES, blocks, name

DOCS, PACKAGE = ROOT / "docs", ROOT / "sase_attn"
sys.path.insert(0, str(DOCS / "hooks"))
from site_links import problems  # noqa: E402
from site_pages import for_site, place, repository_url, unbroken  # noqa: E402

REFERENCE = sorted((DOCS / "reference").glob("*.md"))
NAV = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2].partition("\n\n")[0]


def test_site_and_index_list_the_same_pages():
    """In the same order and under the same headings."""
    tabs = re.findall(r"^  - ([\w ]+):$|^      - (?:Home: )?(\S+\.md)$", NAV, flags=re.MULTILINE)
    index = re.findall(r"^## (.+)$|^\| \[[^\]]*\]\(([^)]+)\) \|", (DOCS / "README.md").read_text(), flags=re.MULTILINE)
    start = [("Start", ""), ("", "index.md"), ("", "install.md"), ("", "pages.md")]
    on_site = [(heading, page and place(posixpath.normpath(f"docs/{page}"))) for heading, page in index]
    assert tabs == start + on_site


def module_path(module):
    path = ROOT / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def exports(module):
    """What a room offers: names that it imports as themselves or lists, and its own, with where they come from."""
    tree = ast.parse(module_path(module).read_text(encoding="utf-8"))
    listed = [ast.literal_eval(n.value) for n in tree.body if ast.unparse(n).startswith("__all__ =")]
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if alias.asname == alias.name or alias.name in sum(listed, []):
                    yield alias.name, f"{node.module}.{alias.name}"
        elif isinstance(node, ast.AnnAssign):
            yield node.target.id, f"{module}.{node.target.id}"


def defined_at(dotted):
    """Where the object is defined that a dotted name leads to."""
    module, _, last = dotted.rpartition(".")
    in_room = module_path(module).name == "__init__.py"
    source = dict(exports(module)).get(last, dotted) if in_room else dotted
    return dotted if source == dotted else defined_at(source)


def imported_by_readers():
    """The names that code of pages, of examples and of the notebook imports from the package."""
    codes = [code for page in PAGES for kind in ("python", "python no-run") for code in blocks(page, kind)]
    codes += [path.read_text(encoding="utf-8") for path in (ROOT / "examples").glob("*.py")]
    cells = json.loads((ROOT / "examples" / "tour.ipynb").read_text(encoding="utf-8"))["cells"]
    codes += ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    for node in (node for code in codes for node in ast.walk(ast.parse(code))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "sase_attn":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_reference_has_every_public_name_once():
    """Public is what the `__init__.py` of a room offers, and what pages and examples import."""
    rooms = [".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")]
    public = {defined_at(source) for room in rooms for _, source in exports(room)} - {"sase_attn.models"}
    public |= {defined_at(name) for name in imported_by_readers()}
    public = {name for name in public if not name.rpartition(".")[2].startswith("__")}
    shown = [re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE) for page in REFERENCE]
    counted = Counter(defined_at(name) for names in shown for name in names)
    assert len(public) > 150
    assert public - set(counted) == set(), "add these to docs/reference"
    assert set(counted) - public == set(), "these are not public"
    assert [name for name, times in counted.items() if times > 1] == []


def documented_arguments(node):
    """The names that the part `Args:` of a docstring describes."""
    text = ast.get_docstring(node) or ""
    part = re.search(r"^Args:\n((?:    .*\n?|\n)*)", text, flags=re.MULTILINE)
    lines = re.findall(r"^    (\S[^:]*):", part[1], flags=re.MULTILINE) if part else []
    return [argument.strip().lstrip("*") for line in lines for argument in line.split(",")]


def test_documented_arguments_exist():
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                inside = {n.name: n for n in node.body if isinstance(n, ast.FunctionDef)}
                fields = {n.target.id for n in node.body if isinstance(n, ast.AnnAssign)}
                makers = [inside[n] for n in ("__init__", "__new__", "__call__") if n in inside]
                if not fields and not makers:
                    continue  # arguments of the class that it is derived from
            elif isinstance(node, ast.FunctionDef):
                fields, makers = set(), [node]
            else:
                continue
            for maker in makers:
                every = maker.args
                fields |= {a.arg for a in every.posonlyargs + every.args + every.kwonlyargs}
                fields |= {a.arg for a in (every.vararg, every.kwarg) if a}
            wrong += [f"{path.name} {node.name}: {a}" for a in documented_arguments(node) if a not in fields]
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_work_on_the_site(page):
    """Pages lead to pages and pictures of the site, whatever they lead to in the repository."""
    places = {place(name(other)) for other in [*PAGES, ROOT / "CHANGELOG.md"]}
    places |= {f"images/{picture.name}" for picture in (DOCS / "images").iterdir()}
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", for_site(text, name(page), url="")):
        if not target.startswith("#") and "://" not in target:
            here = posixpath.dirname(place(name(page)))
            assert posixpath.normpath(posixpath.join(here, target.partition("#")[0])) in places, target


def test_links_that_leave_the_pages():
    """They wait for an address. Pages that stand elsewhere on the site, and code, are taken care of."""
    text = "[`rows`](../benchmarks/rows.py#L3) and [front](../README.md#cite)\n```md\n[a](../b)\n```\n<details>"
    without = "`rows` and [front](index.md#cite)\n```md\n[a](../b)\n```\n<details markdown>"
    assert for_site(text, "docs/block.md", "") == without
    there = without.replace("`rows`", "[`rows`](https://example.org/sase/blob/main/benchmarks/rows.py#L3)")
    assert for_site(text, "docs/block.md", "https://example.org/sase") == there
    assert for_site("```python no-run\na b\n```", "README.md", "") == "```python\na b\n```"
    assert for_site("![b](docs/images/a.svg)", "README.md", "") == "[![b](images/a.svg)](images/a.svg)"
    assert for_site("[b](../block.md)", "docs/reference/ops.md", "") == "[b](../block.md)"


def test_flags_do_not_break_between_lines():
    """In code of a sentence; code blocks have marks of their own, and words with hyphens stay."""
    flag = '<span class="flag">--val-order</span>'
    assert unbroken("<code>--val-order a-b</code>") == f"<code>{flag} a-b</code>"
    assert unbroken("<p>--a</p><code>x--y</code>") == "<p>--a</p><code>x--y</code>"


def test_the_address_is_read_from_the_project(tmp_path):
    project = tmp_path / "pyproject.toml"
    project.write_text('[project.urls]\nRepository = "https://example.org/sase/"\n')
    assert repository_url(project) == "https://example.org/sase"
    project.write_text('[project.urls]\nPaper = "https://example.org/paper"\n')
    assert repository_url(project) == ""


@pytest.mark.parametrize(
    "html, words",
    [
        ('<h2 id="b"></h2><a href="../a/#b">', None),
        ('<a href="#b">', "no such part"),
        ('<a href="../c/">', "which is not there"),
        ('<img src="images/x.svg">', "which is not there"),
        ('<script src="https://example.org/x.js">', "of another host"),
        ('<a href="https://example.org/">', None),
    ],
)
def test_dead_links_are_found(html, words, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "index.html").write_text(html)
    assert [words in line for line in problems(tmp_path)] == ([True] if words else [])
