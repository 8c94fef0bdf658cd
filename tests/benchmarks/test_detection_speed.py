"""The benchmark of detectors at a tiny size, and its table."""

import sys

import pytest
from checkout import BENCHMARKS
from tiny_detector import tiny_config

sys.path.insert(0, str(BENCHMARKS))
import detection_speed  # noqa: E402
import rows  # noqa: E402
import speed_timing  # noqa: E402
import tables  # noqa: E402

from sase_attn.training.provenance import machine  # noqa: E402


@pytest.mark.usefixtures("one_thread")
def test_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "RESULTS", tmp_path)
    monkeypatch.setattr(speed_timing, "SAMPLE_MS", 0.01)
    monkeypatch.setattr(detection_speed, "VARIANTS", [("plain", False), ("plain", True), ("SASE", True)])
    monkeypatch.setitem(detection_speed.DETECTION_RECIPES, "tiny", tiny_config(detector="mask_rcnn"))
    monkeypatch.setattr(sys, "argv", ["detection_speed.py", "--recipe", "tiny", "--rounds", "1"])
    same = {"recipe": "tiny", "resnet": "resnet18", "machine": machine(), "device": "cpu"}
    rows.put_rows(
        "detection_speed", [{"label": "old", **same}, {"label": "kept", **same, "resnet": "x"}], lambda row: False
    )
    detection_speed.main()
    found = rows.read_rows("detection_speed")
    assert [row["label"] for row in found] == ["plain", "SASE, fused", "plain, fused", "kept"]
    assert all(row["inference_ms"] > 0 and row["device"] == "cpu" for row in found[:3])
    assert [("step_ms" in row) for row in found] == [True, True, False, False]


def test_table():
    place = {"recipe": "tiny", "resnet": "resnet18", "machine": "M", "device": "cpu", "size": 64}
    place |= {"versions": {"torch": "2"}, "commit": "1234567890", "step_images": 2, "inference_images": 1}
    times = {"plain": (500.0, 250.0), "SE": (600.0, 250.0), "SASE, fused": (625.0, 300.0)}
    made = [
        {"label": label, "step_ms": step, "inference_ms": inference, "all_step_ms": [step] * 5, **place}
        for label, (step, inference) in times.items()
    ]
    made.append({"label": "plain, fused", "inference_ms": 200.0, **place})
    assert tables.table("detection_speed", made).splitlines()[2:] == [
        "| plain | 4 | 1.00 | 4 | 1.00 |",
        "| SE | 3.33 | 0.83 | 4 | 1.00 |",
        "| SASE, fused | 3.2 | 0.80 | 3.33 | 0.83 |",
        "| plain, fused |  |  | 5 | 1.25 |",
        "",
        "Recipe `tiny` on resnet18, images of 64 pixels with ten objects each, 2 a step; all in one run, "
        "in turns, medians of 5 rounds; M; torch 2; commit 1234567.",
    ]
