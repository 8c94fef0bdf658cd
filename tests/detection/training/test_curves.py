"""The picture of a training: drawn from its log, and no reason to lose the result where that is damaged."""

from PIL import Image

from sase_attn.detection.training.curves import draw_curves

STEP = '{"kind": "step", "epoch": 0, "step": 1, "lr": 0.1, "loss": 2.0, "loss_mask": 1.0}\n'


def test_a_log_of_steps_is_drawn(tmp_path):
    (tmp_path / "log.jsonl").write_text(STEP)
    assert draw_curves(tmp_path) is None
    assert Image.open(tmp_path / "curves.png").size == (1800, 680)


def test_a_damaged_log_is_said(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"kind": "epoch", "epoch": 0, "step": 1, "metrics": {"boxes": 3}}\n' + STEP)
    assert draw_curves(tmp_path).startswith(f"no curves.png: {tmp_path / 'log.jsonl'}")
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]
