"""Files are written as a whole, and JSON files are read with checks whose errors name the file."""

import errno
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from sase_attn.commands.flags import summary
from sase_attn.errors import UnknownNameError, unknown_name
from sase_attn.files import (
    read_json,
    read_json_lines,
    remove_temporaries,
    temporary_beside,
    write_atomically,
    write_json,
)
from sase_attn.records import read_record, record_from, value_as
from sase_attn.training import Recipe
from sase_attn.training.log import Log


def write_to_handle(file):
    file.write(b"new")


@pytest.mark.parametrize("content", ["new", b"new", write_to_handle])
def test_a_file_is_replaced_as_a_whole(tmp_path, content):
    path = tmp_path / "file"
    for target in (path, str(path)):
        write_atomically(target, content)
        assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["file"]
    (tmp_path / "plain").write_text("")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode  # others may read it as they may any file


class FullDisk:
    """An open file on a disk with so many bytes left."""

    def __init__(self, file, left):
        self.file, self.left = file, left

    def write(self, data):
        self.left -= len(data)
        if self.left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(data)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()


@pytest.mark.parametrize("left", [0, 100, 5000])
def test_a_full_disk_is_said_with_the_file(tmp_path, monkeypatch, left):
    """Also by `torch.save`, which makes a RuntimeError without the reason of it."""
    path, opened = tmp_path / "checkpoint.pt", Path.open
    write_atomically(path, "old")
    monkeypatch.setattr(Path, "open", lambda self, *arguments: FullDisk(opened(self, *arguments), left))
    for content in (lambda file: torch.save({"w": torch.zeros(3000)}, file), b"x" * 6000):
        with pytest.raises(OSError, match="No space left on device") as error:
            write_atomically(path, content)
        assert error.value.filename == str(path) and error.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["checkpoint.pt"]


def test_a_folder_in_the_place_of_a_file_is_named_as_it_is(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError) as raised:
        write_atomically(tmp_path / "taken", "new")
    assert raised.value.filename == str(tmp_path / "taken") and [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_lines_of_json_are_read_up_to_the_whole_ones(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": 2}\n{"a": ')
    assert read_json_lines(path, lambda value: value["a"]) == [1, 2]
    path.write_bytes(b'{"a": 1}\n{"a"\n{"a": 3}\n')
    with pytest.raises(ValueError, match=r"log\.jsonl, line 2: Expecting"):
        read_json_lines(path, lambda value: value["a"])
    path.write_bytes(b"")
    assert read_json_lines(path, str) == []


def test_a_log_that_lost_its_end_goes_on_at_its_last_whole_line(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": 2')
    log = Log(tmp_path, 100)
    log.write(a=3)
    log.close()
    assert path.read_bytes() == b'{"a": 1}\n{"a": 3}\n'


def test_what_a_killed_process_left_is_known_by_its_name(tmp_path):
    kept = [".hidden", "a.0123abcd.tmp", ".a.0123abcd", ".a.0123abcx.tmp", "a.tmp"]
    for name in kept:
        (tmp_path / name).touch()
    temporary_beside(tmp_path / "checkpoint.pt").touch()
    temporary_beside(tmp_path / "model").mkdir()
    temporary_beside(tmp_path / "other").touch()
    remove_temporaries(tmp_path, "model")
    assert len(os.listdir(tmp_path)) == len(kept) + 2
    remove_temporaries(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(kept)
    remove_temporaries(tmp_path / "none")


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_alone(tmp_path, monkeypatch, broken):
    def full(*arguments):
        raise OSError("no space left")

    path = tmp_path / "file"
    write_atomically(path, "old")
    monkeypatch.setattr(os, broken, full)
    with pytest.raises(OSError, match="no space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]


def test_a_function_that_fails_leaves_the_old_file_alone(tmp_path):
    def half(file):
        file.write(b"ha")
        raise ValueError("not to be written")

    path = tmp_path / "file"
    write_atomically(path, "old")
    with pytest.raises(ValueError, match="not to be written"):
        write_atomically(path, half)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]


def test_file_and_folder_are_forced_to_disk_in_this_order(tmp_path, monkeypatch):
    done, (fsync, replace) = [], (os.fsync, os.replace)
    kinds = {True: "folder", False: "file"}
    monkeypatch.setattr(
        os, "fsync", lambda number: (done.append(kinds[os.path.isdir(f"/proc/self/fd/{number}")]), fsync(number))
    )
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("rename"), replace(*paths)))
    write_atomically(tmp_path / "file", "new")
    assert done == ["file", "rename", "folder"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Expecting value"),
        (b'{"a": 1', "Expecting ',' delimiter"),
        (b"\xff", "can't decode byte 0xff"),
        (b"[" * 100_000, "wanted JSON of at most 50 levels, got more"),
        (b"[" * 51 + b"]" * 51, "wanted JSON of at most 50 levels, got more"),
        (b'"x"', "wanted a JSON object, got str"),
    ],
)
def test_errors_of_json_files_are_one_line_with_the_name(tmp_path, content, message):
    path = tmp_path / "values.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_record(path, Measured)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


def test_letters_of_all_scripts_stay_and_halves_of_letters_are_escaped(tmp_path):
    value = {"cellules ü": "細胞 \udcff"}
    write_json(tmp_path / "values.json", value)
    text = (tmp_path / "values.json").read_text("utf-8")
    assert "cellules ü" in text and "細胞 \\udcff" in text
    assert read_json(tmp_path / "values.json", lambda read: read) == value
    recipe = Recipe(data="données/細胞")
    assert "données/細胞" in recipe.to_json() and Recipe.from_json(recipe.to_json()) == recipe
    assert "data=données/細胞" in summary(recipe, "recipe")


def test_unknown_names_and_missing_files_keep_their_kind(tmp_path):
    def refuse(value):
        raise unknown_name("fruit", value, ["apple"])

    write_json(tmp_path / "values.json", "aple")
    with pytest.raises(UnknownNameError, match=r"values\.json: unknown fruit 'aple'; did you mean apple\?"):
        read_json(tmp_path / "values.json", refuse)
    with pytest.raises(FileNotFoundError, match="none.json"):
        read_json(tmp_path / "none.json", refuse)


@dataclass(frozen=True)
class Measured:
    label: str
    value: float
    pairs: list[tuple[str, int]]
    parts: "list[Measured]" = field(default_factory=list)
    note: str | None = None
    of_seed: dict[str, float] = field(default_factory=dict)


GOOD = {"label": "a", "value": 1, "pairs": [["x", 2]]}


def test_records_are_read_with_their_types(tmp_path):
    nested = GOOD | {"parts": [GOOD], "note": "n", "of_seed": {"0": 2}}
    write_json(tmp_path / "values.json", nested | {"of_a_newer_version": [1]})
    plain = Measured("a", 1.0, [("x", 2)])
    found = read_record(tmp_path / "values.json", Measured)
    assert found == Measured("a", 1.0, [("x", 2)], [plain], "n", {"0": 2.0})
    assert type(found.value) is float and type(found.of_seed["0"]) is float


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 3}, "field label: wanted str, got 3"),
        ({"value": True}, "field value: wanted float, got True"),
        ({"value": "1"}, "field value: wanted float, got '1'"),
        ({"pairs": [["x", 2, 3]]}, r"field pairs: wanted tuple\[str, int\], got \['x', 2, 3\]"),
        ({"pairs": "x"}, r"field pairs: wanted list\[tuple\[str, int\]\], got 'x'"),
        ({"parts": [{"label": "b"}]}, "field parts: wanted a field value, got label"),
        ({"note": 1}, r"field note: wanted str \| None, got 1"),
        ({"of_seed": [1]}, r"field of_seed: wanted dict\[str, float\], got \[1\]"),
        ({"of_seed": {"0": None}}, "field of_seed: wanted float, got None"),
    ],
)
def test_wrong_values_are_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        record_from(Measured, GOOD | change)


def test_missing_fields_are_refused_and_unions_take_the_first_that_fits():
    with pytest.raises(ValueError, match="wanted a field value, got label"):
        record_from(Measured, {"label": "a"})
    assert value_as(int | float, 1) == 1 and type(value_as(float | int, 1)) is float


def test_a_recipe_of_a_newer_version_is_read_and_a_typing_error_refused(tmp_path):
    newer = json.loads(Recipe.get("embedded").to_json()) | {"epocs": 3}
    with pytest.warns(UserWarning, match="ignored unknown recipe fields: epocs"):
        assert Recipe.from_json(json.dumps(newer)) == Recipe.get("embedded")
    write_json(tmp_path / "mine.json", newer)
    with pytest.raises(UnknownNameError, match=r"mine\.json: unknown recipe field 'epocs'; did you mean epochs"):
        Recipe.get(str(tmp_path / "mine.json"))
    write_json(tmp_path / "mine.json", {"epochs": "3"})
    with pytest.raises(ValueError, match=r"mine\.json: recipe field epochs: wanted int, got '3'"):
        Recipe.get(str(tmp_path / "mine.json"))


def test_a_folder_that_cannot_be_written_is_said_without_the_temporary_name(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write_atomically(tmp_path / "none" / "file.json", "text")
    assert caught.value.filename == str(tmp_path / "none" / "file.json")
