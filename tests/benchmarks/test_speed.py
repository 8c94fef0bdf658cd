"""The benchmark of speed: what is compared computes the same, its rows and tables, and that it goes on where it was."""

import json
import sys
import time
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from checkout import BENCHMARKS
from torch import nn

sys.path.insert(0, str(BENCHMARKS))
import rows  # noqa: E402
import speed  # noqa: E402
import speed_check  # noqa: E402
import speed_groups  # noqa: E402
import speed_release  # noqa: E402
import speed_timing  # noqa: E402
import speed_variants  # noqa: E402
import tables  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Small shapes and a small network, nothing compiled."""
    monkeypatch.setattr(rows, "RESULTS", tmp_path / "results")
    monkeypatch.setitem(speed_groups.SHAPES, "cpu", [(2, 32, 6, 5)])
    monkeypatch.setitem(speed_groups.IMAGES, "cpu", (2, 3, 32, 32))
    monkeypatch.setattr(speed_check, "SHAPES", [(2, 8, 5, 3)])
    small = {"layers": (1, 1, 1, 1), "channels": (16, 16, 32, 32), "num_classes": 4}
    monkeypatch.setattr(speed_variants, "NETWORK", speed_variants.NETWORK | small)
    monkeypatch.setattr(torch, "compile", lambda module, dynamic: module)
    monkeypatch.setattr(speed_timing, "SAMPLE_MS", 0.01)

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["speed.py", *arguments])
        speed.main()

    return command


@pytest.mark.parametrize("training", [True, False])
def test_the_release_formula_is_that_of_the_block(training):
    torch.manual_seed(0)
    block = speed_variants.searched(32).double().train(training)
    block.norm.running_mean.fill_(0.3)
    plain = speed_release.ReleaseBlock(block)
    names = ["mixer.weight", "fc1.weight", "fc2.weight", "scale", "shift", "first.weight", "second.weight"]
    same = [plain.get_parameter(name) for name in [*names, "mix.weight", "norm.weight", "norm.bias"]]
    results = []
    for module, parameters in ((block, list(block.parameters())), (plain, same)):
        x = torch.randn(3, 32, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
        y = module(x)
        cotangent = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
        results.append([y.detach(), *torch.autograd.grad(y, [x, *parameters], cotangent)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)
    assert results[0][0].std() > 0 and all(gradient.abs().max() > 0 for gradient in results[0][1:])


def test_every_variant_has_a_row_and_a_second_run_none_to_make(tiny, capsys, monkeypatch):
    tiny("--rounds", "2")
    shown = capsys.readouterr().out
    found = rows.read_rows("speed")
    assert not [row for row in found if "error" in row], shown
    levels = {level: [row for row in found if row["level"] == level] for level in ("block", "tail", "model")}
    for level, mine in levels.items():
        labels = {row["variant"] for row in mine}
        wanted = {"SASE", "SASE, definition", "SASE, release's formula", "SASE, compiled", "SE", "ECA", "CBAM"}
        wanted |= {"SE, compiled"}
        wanted |= (
            set()
            if level == "block"
            else {"plain", "plain, compiled", "SASE, fused", "SASE, fused, compiled", "SE, fused"}
        )
        assert wanted <= labels
        # Of the networks three families are fused for inference, eager and compiled, and two for training, eager.
        missing = 2 * 4 if level == "model" else 0
        assert len(mine) == 4 * len(labels) - missing == len({row["label"] for row in mine})
    for row in found:
        assert 0 < row["ms_low"] <= row["ms"] <= row["ms_high"] and row["copies"] > 0 and row["rounds"] == 2
        assert row["difference"] < 1e-4 and row["peak_maps"] > 0
        assert ("saved_maps" in row) == (row["mode"] != "forward")
        assert ("percent_of_copy" in row) == (row["level"] != "model")
        assert ("passes" in row) == (row["level"] != "block")
        assert row["machine"] and row["allocator"] and row["dtype"] == "float32" and row["versions"]["timm"]
    text = tables.table("speed", found)
    assert text.count("| SASE, definition |") == 3 and text.count("| plain |") == 2 and "fails" not in text
    assert text.splitlines()[0] == "**Block, 2×32×6×5**"
    assert text.splitlines()[2].split(" | ")[:2] == ["| variant", "forward, NCHW"]

    tiny()
    assert "--again" in capsys.readouterr().out
    before = (rows.RESULTS / "speed.jsonl").read_text()
    monkeypatch.setattr(speed, "commit", lambda: "another")
    tiny("--only", "block NCHW forward", "--rounds", "1")
    after = rows.read_rows("speed")
    assert [row["label"] for row in after] == [row["label"] for row in found]
    changed = {row["label"].partition(":")[0] for row in after if row["commit"] == "another"}
    assert changed == {"cpu block 2×32×6×5 NCHW forward"} and (rows.RESULTS / "speed.jsonl").read_text() != before


def test_it_stops_at_the_limit_and_goes_on(tiny, capsys, monkeypatch):
    tiny("--only", "block", "--seconds", "0")
    assert "4 of 4 groups are left" in capsys.readouterr().out and not rows.read_rows("speed")
    times = iter([0.0, 0.0])  # two variants are made ready, then the time is over
    monkeypatch.setattr(speed_groups, "time", SimpleNamespace(monotonic=lambda: next(times, 1e12)))
    only = ("--only", "block NCHW forward", "--rounds", "1")
    tiny(*only)
    first = rows.read_rows("speed")
    assert len(first) == 2 and all("ms" in row and not row["complete"] for row in first)
    monkeypatch.setattr(speed_groups, "time", time)
    tiny(*only)
    assert len(rows.read_rows("speed")) > 2 and all(row["complete"] for row in rows.read_rows("speed"))


def test_what_fails_or_differs_gets_no_time(tiny, capsys, monkeypatch):
    class Wrong(nn.Module):
        def forward(self, x):
            return 1.01 * x

    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("no such thing\nat all")

    def made(*arguments):
        identity = nn.Identity()
        parts = [("right", identity), ("wrong", Wrong()), ("broken", Broken()), ("again", identity)]
        return [speed_variants.Variant(label, "same", module, module) for label, module in parts]

    monkeypatch.setattr(speed_groups, "variants", made)
    tiny("--only", "block NCHW forward", "--rounds", "1")
    found = {row["variant"]: row for row in rows.read_rows("speed")}
    assert "differs" in found["wrong"]["error"] and found["broken"]["error"] == "RuntimeError: no such thing"
    assert [name for name, row in found.items() if "ms" in row] == ["right", "again"]
    text = tables.table("speed", list(found.values()))
    assert "| wrong | fails |" in text and "no such thing" in text
    assert "no such thing" in capsys.readouterr().out


def test_ratios_are_taken_round_by_round():
    class Bench:
        group = speed_groups.Group("cpu", "tail", (1, 1, 1, 1), "NCHW", "forward")
        map_bytes, source = 4_000_000, torch.empty(500_000)

    ms, copies, plain = (torch.tensor(values).double() for values in ([4.0, 40.0, 6.0], [1, 10, 1], [2, 20, 2]))
    row = speed_groups._times(ms, copies, Bench, plain)
    assert row["ms"] == 6 and row["copies"] == 4 and row["of_plain"] == 2
    assert row["gb_per_s"] == pytest.approx(3 * 4e6 / 6e-3 / 1e9) and row["percent_of_copy"] == pytest.approx(37.5)
    assert row["passes"] == pytest.approx(2.0)  # (4 - 2) ms, a pass over 4 MB takes as long as a copy of 2 MB: 1 ms


def test_memory_of_a_call():
    x = torch.randn(1000, 100, requires_grad=True)
    layer = nn.Linear(100, 100)
    size = x.numel() * 4
    assert speed_timing.saved_bytes(lambda: layer(x).exp().exp(), layer) == 3 * size  # x and both results, no weights
    peak = speed_timing.peak_bytes(lambda: x.detach().exp().add(1).add(1), "cpu")
    assert size * 2 <= peak < size * 2.1


def test_rows_are_replaced_in_their_place(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "RESULTS", tmp_path / "results")

    def labelled(name, row):
        return row["label"] == name

    for name in "abc":
        rows.put_rows("made", [{"label": name, "value": 0}, {"label": name, "value": 1}], partial(labelled, name))
    rows.put_rows("made", [{"label": "b", "value": 2}], partial(labelled, "b"))
    assert [(row["label"], row["value"]) for row in rows.read_rows("made")] == [
        ("a", 0), ("a", 1), ("b", 2), ("c", 0), ("c", 1)
    ]  # fmt: skip


def test_the_gate_closes_on_a_wrong_implementation(monkeypatch):
    monkeypatch.setattr(speed_check, "SHAPES", [(2, 8, 5, 3)])
    speed_check.check("cpu", "auto")
    monkeypatch.setitem(speed_check.LIMITS, torch.float32, 0.0)
    with pytest.raises(AssertionError, match="relative error"):
        speed_check.check("cpu", "auto", (torch.float32,))


@pytest.mark.parametrize(
    "arguments, code, said",
    [
        (["--help"], 0, "benchmarks/speed.py --device cuda"),
        (["--only", "blok"], 2, "the words are"),
        (
            ["--device", "cuda"],
            "--device cuda needs a CUDA device, and torch finds none; without it the CPU is measured",
            "",
        ),
    ],
)
def test_command(arguments, code, said, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["speed.py", *arguments])
    with pytest.raises(SystemExit) as exit:
        speed.main()
    assert exit.value.code == code  # words are what Python prints before it ends with 1
    assert said in "".join(capsys.readouterr())


@pytest.mark.slow
def test_compiled_variants_run(monkeypatch):
    """By Inductor: block and tail in every mode and layout."""
    monkeypatch.setitem(speed_groups.SHAPES, "cpu", [(2, 32, 6, 5)])
    for group in speed_groups.groups("cpu")[:8]:
        found = speed_groups.measure(group, 1, time.monotonic() + 600)
        assert all("ms" in row for row in found), json.dumps(found)
