"""The progress bar of every training says its losses, its memory and when the whole run ends."""

import io
import re
import sys

import pytest
import training_driver as driver

from sase_attn.training import train
from sase_attn.training.pace import losses_text, pace_text

pytestmark = pytest.mark.usefixtures("one_thread")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_sees_losses_memory_and_the_time_left(tmp_path, monkeypatch):
    recipe = driver.TINY.override(epochs=1, warmup_epochs=0, ema_decay=None, log_every=0)
    data = driver.data(recipe, seconds=0.11)  # tqdm writes ten times a second
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("COLUMNS", "120")
    train(recipe, tmp_path / "run", data=data, device="cpu", echo=lambda line: None)
    shown = terminal.getvalue()
    assert re.search(r"epoch 1/1: .* left 0:0\d  \d+ MiB  loss \d\.?\d*\]", shown), shown


def test_what_is_no_number_is_not_shown():
    values = {"loss": 1.23456, "alpha": [1.0], "count": 3, "norm": float("nan"), "loss_box": 0.00012}
    assert losses_text(values) == "loss 1.23 box 0.00012"
    assert len(losses_text({str(name): 1.0 for name in range(9)}).split()) == 12


def test_slow_trainings_have_a_speed_too():
    row = {"images_per_second": 1.26, "peak_memory_mb": 1150.4, "eta_seconds": 723.0}
    assert pace_text(row) == "1.3 images/s  1150 MiB  left 12:03"
    assert pace_text(row | {"images_per_second": 1260.4}).startswith("1260 images/s")
