"""The learning rate, by hand and by mmdetection's formulas; and what is said of it."""

import pytest
import torch

from sase_attn.detection import DETECTION_RECIPES, DetectionConfig
from sase_attn.detection.training.schedule import DetectionSchedule, lr_factor, lr_lines


def test_the_papers_schedule_by_hand():
    config, steps = DetectionConfig(), 1000
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = DetectionSchedule(config, optimizer, steps)
    expected = {0: 1e-5, 250: 0.005005, 499: 0.01 * (0.001 + 0.999 * 499 / 500), 500: 0.01, 7999: 0.01}
    expected |= {8000: 0.001, 10999: 0.001, 11000: 0.0001, 11999: 0.0001}
    for step, lr in expected.items():
        schedule(step)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(lr, rel=1e-9)


@pytest.mark.parametrize("steps_per_epoch", [1, 7, 100])
def test_as_mmdetection_has_it(steps_per_epoch):
    """Its linear warm-up: (1 − (1 − k/n)(1 − ratio)) of the step policy's rate, drops in the warm-up included."""
    config = DetectionConfig(lr_drops=(2, 3), warmup_steps=250, warmup_factor=0.1, epochs=4)
    for step in range(4 * steps_per_epoch):
        regular = 0.1 ** sum(step // steps_per_epoch >= epoch for epoch in config.lr_drops)
        cold = (1 - step / 250) * (1 - 0.1) if step < 250 else 0.0
        assert lr_factor(config, step, steps_per_epoch) == pytest.approx(regular * (1 - cold), rel=1e-9)


def test_no_warm_up():
    config = DetectionConfig(warmup_steps=0, lr_drops=())
    assert {lr_factor(config, step, 2) for step in range(30)} == {1.0}


def test_what_is_said():
    config = DetectionConfig(batch_size=2)
    assert config.scaled_lr == 0.0025
    assert list(lr_lines(config, 1000)) == [
        "learning rate 0.0025 for 2 images a step, scaled linearly from 0.01 for 8; 1000 steps an epoch"
    ]
    assert list(lr_lines(DetectionConfig(), 1000)) == ["learning rate 0.01 for 8 images a step; 1000 steps an epoch"]
    assert "scaled" not in next(iter(lr_lines(config.override(lr_batch_size=None), 1000)))
    _, warning = lr_lines(DetectionConfig(), 25)
    assert warning == ("the warm-up of 500 steps is most of this training, which has 300: set warmup_steps to about 15")
    assert len(list(lr_lines(DETECTION_RECIPES["faster-rcnn-small"], 103))) == 1
    assert list(lr_lines(config.override(batch_size=1, lr_batch_size=1, warmup_steps=1, epochs=1), 1)) == [
        "learning rate 0.01 for 1 image a step; 1 step an epoch"
    ]


@pytest.mark.parametrize(
    "epochs, expected",
    [
        (20, ["falls for the last time after epoch 7 of 20", "--lr-drops 13 18"]),
        (4, ["of 4 epochs none comes after a drop of the learning rate at 5 and 7", "--lr-drops 3"]),
        (7, ["at 7:", "--lr-drops 5 6"]),
        (8, []),
        (11, []),
        (1, []),
    ],
)
def test_drops_for_another_number_of_epochs_are_said(epochs, expected):
    config = DETECTION_RECIPES["faster-rcnn-small"].override(epochs=epochs)
    lines = list(lr_lines(config, 1000))[1:]
    assert len(lines) == bool(expected) and all(part in lines[0] for part in expected)
    assert not list(lr_lines(config.override(lr_drops=()), 1000))[1:]
