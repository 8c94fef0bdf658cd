"""What is published says one thing: versions, addresses, classifiers and what the workflows run."""

import importlib.util
import os
import re
import sys
import tomllib
import types
from fnmatch import fnmatch

import pytest
import yaml
from checkout import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
REPOSITORY = PROJECT["urls"].get("Repository")
WORKFLOWS = {path.name: yaml.safe_load(path.read_text()) for path in (ROOT / ".github" / "workflows").glob("*.yml")}
VERSION = re.search(r'^__version__ = "(.+)"$', (ROOT / "sase_attn" / "__init__.py").read_text(), flags=re.MULTILINE)[1]
README, INSTALL, CHANGELOG = (
    (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/install.md", "CHANGELOG.md")
)
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
RELEASED = re.findall(r"^## \[(\d[\d.]*)\] - \d{4}-\d\d-\d\d$", CHANGELOG, flags=re.MULTILINE)


def loaded(name, path):
    """A module by its file."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def following(repository):
    """The addresses that follow from that of a repository on GitHub."""
    owner, name = repository.removeprefix("https://github.com/").split("/")
    return {
        "Documentation": f"https://{owner.lower()}.github.io/{name}/",
        "Issues": f"{repository}/issues",
        "Changelog": f"{repository}/blob/main/CHANGELOG.md",
    }


def test_the_version_is_one():
    assert CITATION["version"] == VERSION
    assert PROJECT["dynamic"] == ["version", "readme"] and "version" not in PROJECT


def test_what_is_not_released_is_not_offered():
    """Before the first release the pages say so where they say how to install; after it they do not."""
    for page in (README, INSTALL):
        assert ("After the first release" in page) == (not RELEASED)
    assert re.search(r"^## \[Unreleased\]$", CHANGELOG, flags=re.MULTILINE) or RELEASED
    assert (
        f"## [{VERSION}] - {CITATION.get('date-released')}" in CHANGELOG
        or not RELEASED
        and "date-released" not in CITATION
    )


def test_all_addresses_follow_from_one():
    """That of the repository. While there is none, nothing else has one."""
    urls = dict(PROJECT["urls"])
    assert urls.pop("Paper") == "https://arxiv.org/abs/2411.08333"
    wanted = {"Repository": REPOSITORY, **following(REPOSITORY)} if REPOSITORY else {}
    assert urls == wanted
    assert CITATION.get("repository-code") == REPOSITORY
    assert following("https://github.com/Some/sase-attn")["Documentation"] == "https://some.github.io/sase-attn/"


@pytest.mark.skipif("SASE_ATTN_RELEASE" not in os.environ, reason="asked by the workflow that publishes a tag")
def test_a_tag_is_of_this_release():
    assert os.environ["SASE_ATTN_RELEASE"] == f"v{VERSION}" and RELEASED[:1] == [VERSION]
    assert REPOSITORY, 'wanted Repository = "https://github.com/OWNER/sase-attn" in [project.urls]'


@pytest.fixture
def hatch_build(monkeypatch):
    """The hook, without the build backend, which is there only while something is built."""
    name = "hatchling.metadata.plugin.interface"
    monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(MetadataHookInterface=object))
    for parent in ("hatchling", "hatchling.metadata", "hatchling.metadata.plugin"):
        monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    return loaded("hatch_build", ROOT / "hatch_build.py")


def test_links_of_the_front_page_work_on_pypi(hatch_build):
    page = (
        "![a](docs/a.svg) [b](docs/b.md#c) [d](#e) [f](https://g.org/h) [m](mailto:i@j.org)\n"
        '<img alt="x" src="docs/x.png"> <source srcset="docs/dark.svg"> <img src="https://y.org/z.png">'
    )
    raw, blob = "https://github.com/o/n/raw/v1.2.3", "https://github.com/o/n/blob/v1.2.3"
    assert hatch_build.absolute(page, "https://github.com/o/n", "1.2.3") == (
        f"![a]({raw}/docs/a.svg) [b]({blob}/docs/b.md#c) [d](#e) [f](https://g.org/h) [m](mailto:i@j.org)\n"
        f'<img alt="x" src="{raw}/docs/x.png"> <source srcset="{raw}/docs/dark.svg"> <img src="https://y.org/z.png">'
    )
    left = re.findall(
        r"\]\((?!https?:|#)|src(?:set)?=\"(?!https?:)", hatch_build.absolute(README, "https://x.org", "1")
    )
    assert not left
    hook, metadata = hatch_build.FrontPage(), {"version": VERSION, "urls": {}}
    hook.root = str(ROOT)
    hook.update(metadata)
    assert metadata["readme"] == {"content-type": "text/markdown", "text": README}
    hook.update(metadata | {"urls": {"Repository": "https://github.com/o/n"}})


def test_pythons_are_those_that_workflows_run():
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    jobs = WORKFLOWS["tests.yml"]["jobs"]
    whole = [step["with"]["python-version"] for step in jobs["all"]["steps"] if "setup-python" in step.get("uses", "")]
    assert named == whole + jobs["pythons"]["strategy"]["matrix"]["python"]
    assert PROJECT["requires-python"] == f">={named[0]}"


def steps():
    return [
        (name, job, step)
        for name, workflow in WORKFLOWS.items()
        for job, description in workflow["jobs"].items()
        for step in description.get("steps", [])
    ]


def test_workflows_run_what_is_there_with_few_rights():
    for name, job, step in steps():
        assert re.fullmatch(r"[\w-]+/[\w-]+@v\d[\d.]*", step.get("uses", "a/b@v1")), (name, step)
        for script in re.findall(r"(?:tests|\.ci)/[\w./]+", step.get("run", "")):
            assert (ROOT / script).exists(), script
        assert "timeout-minutes" in WORKFLOWS[name]["jobs"][job], (name, job)
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        assert "secrets." not in path.read_text(), path
        assert WORKFLOWS[path.name]["permissions"] == {"contents": "read"}, path
    publish, tests = (WORKFLOWS["release.yml"]["jobs"][job] for job in ("publish", "tests"))
    assert tests == {"uses": "./.github/workflows/tests.yml"} and set(publish["needs"]) == {"tests", "build"}
    assert "workflow_call" in WORKFLOWS["tests.yml"][True]  # YAML reads the key `on` as true
    assert publish["permissions"] == {"id-token": "write"} and publish["environment"]["name"] == "pypi"
    assert "bash .ci/run" in [step.get("run") for _, _, step in steps()]


def test_forms_ask_for_something():
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text())
        assert form.keys() == {"blank_issues_enabled"} or form.keys() == {"name", "description", "labels", "body"}, path


def test_ruff_is_one_version():
    pinned = [line for line in PROJECT["optional-dependencies"]["test"] if line.startswith("ruff")]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert pinned == [f"ruff=={hooks[0]['rev'].removeprefix('v')}"]


def test_source_distributions_hold_the_repository():
    """So that its tests pass in one: all that is at the top and not ignored."""
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line]
    # The backend adds these two; an unpacked distribution has its metadata.
    known = {".git", ".gitignore", "pyproject.toml", "PKG-INFO"}
    top = {
        path.name
        for path in ROOT.iterdir()
        if path.name not in known and not any(fnmatch(path.name, line) for line in ignored)
    }
    held = {line.removeprefix("/") for line in PYPROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]}
    assert top == held
