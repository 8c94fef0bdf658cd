"""The commit that results record."""

import subprocess

import pytest

from sase_attn.training.provenance import commit


@pytest.fixture
def file(tmp_path):
    """A source file in a repository of its own, with a page and results."""

    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "package").mkdir()
    (tmp_path / "results").mkdir()
    for name in ("package/source.py", "README.md", "results/rows.jsonl"):
        (tmp_path / name).write_text("1\n")
    git("init")
    git("add", ".")
    git("commit", "-m", "all")
    return tmp_path / "package" / "source.py"


def test_only_changed_code_is_dirty(file):
    clean = commit(file)
    assert len(clean) == 40 and int(clean, 16)
    for name in ("README.md", "results/rows.jsonl"):
        (file.parent.parent / name).write_text("2\n")
        assert commit(file) == clean
    (file.parent / "new.py").write_text("")  # git does not know it
    assert commit(file) == clean
    file.write_text("2\n")
    assert commit(file) == f"{clean}-dirty"
    file.write_text("1\n")
    assert commit(file) == clean


def test_outside_of_a_repository_there_is_none(file, monkeypatch):
    (file.parent / "new.py").write_text("")
    assert commit(file.parent / "new.py") is None
    monkeypatch.setenv("PATH", "")
    assert commit(file) is None
