"""Progress is shown on terminals only, and leaves nothing behind."""

import io
import sys

import pytest

from sase_attn.commands.progress import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_sees_a_line_that_goes_away(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    assert list(progress(iter("abc"), 3, "letters")) == ["a", "b", "c"]
    assert terminal.getvalue().split("\r") == [
        "letters: 0 of 3", "letters: 1 of 3", "letters: 2 of 3", "letters: 3 of 3", "\033[K",
    ]  # fmt: skip


def test_an_error_clears_the_line_too(monkeypatch):
    def broken():
        yield 1
        raise ValueError("broken")

    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with pytest.raises(ValueError, match="broken"):
        list(progress(broken(), 2, "numbers"))
    assert terminal.getvalue().endswith("\r\033[K")


def test_a_file_sees_nothing(capsys):
    assert list(progress(range(3), 3, "numbers")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")
