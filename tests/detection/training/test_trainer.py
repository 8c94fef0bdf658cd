"""One step of a detector: by hand on several ranks, with unused weights; in bfloat16; without a single object."""

import copy
import json

import detection_driver as driver
import pytest
import timm
import torch
import warm
from safetensors.torch import save_file
from tiny_detector import images_and_targets, tiny_config

from sase_attn.detection.network import create_detector
from sase_attn.detection.training.trainer import DetectionTrainer
from sase_attn.training.distributed import Ranks
from sase_attn.weights.genotypes import attentions_of

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = Ranks(0, 1, torch.device("cpu"))


def test_ranks_with_unequal_shares_take_the_step_of_one_process():
    """Weights that no loss needs are not waited for."""
    alone = driver.step(driver.step_config())
    first, second = (0.1 + 0.5 + 0.9) / 3, (0.01 + 0.25 + 0.81) / 3
    assert alone["images"] == 3 and not alone["stop"]
    assert alone["values"] == pytest.approx({"loss": first + 2 * second, "first": first, "second": 2 * second})
    assert alone["weight"] == pytest.approx([1 - 0.5 * first, 2 - 0.5 * second])
    ends = warm.run_ranks(2, driver.__file__, "step")
    assert all(end.returncode == 0 for end in ends), ends[0].stderr
    for end in ends:
        found = json.loads(end.stdout)
        assert found["images"] == 3 and found["stop"]  # asked of the second
        assert found["values"] == pytest.approx(alone["values"], rel=1e-6)
        assert found["weight"] == pytest.approx(alone["weight"], rel=1e-6)


@pytest.mark.parametrize("detector", ["faster_rcnn", "mask_rcnn"])
def test_steps_learn_and_those_without_objects_are_finite(detector):
    config = tiny_config(detector=detector, warmup_steps=0, lr=0.02)
    trainer = DetectionTrainer(config, create_detector(config, 3), CPU, 100)
    images, targets = images_and_targets(masks=config.has_masks)
    losses = [trainer.step(images, targets).values["loss"] for _ in range(8)]
    assert min(losses[-3:]) < losses[0]
    empty = trainer.step(images[1:], targets[1:])
    assert empty.images == 1 and trainer.is_finite()
    assert empty.values["loss_box_reg"] == 0 and all(0 <= value < 100 for value in empty.values.values())
    assert ("loss_mask" in empty.values) == config.has_masks
    assert trainer.lr == pytest.approx(0.02)


def test_bfloat16_is_near_float32():
    images, targets = images_and_targets(masks=True)
    found = []
    for amp in ("none", "bfloat16"):
        config = tiny_config(detector="mask_rcnn", amp=amp)
        trainer = DetectionTrainer(config, create_detector(config, 3), CPU, 100)
        found.append(trainer.step(images, targets).values)
        assert trainer.is_finite() and {p.dtype for p in trainer.model.parameters()} == {torch.float32}
    assert found[0] != found[1]  # autocast was on
    assert found[1]["loss_objectness"] == pytest.approx(found[0]["loss_objectness"], rel=0.05)
    assert found[1]["loss"] == pytest.approx(found[0]["loss"], rel=0.2)


def test_what_cannot_be_trained_is_refused():
    config = tiny_config()
    model = create_detector(config, 3)
    with pytest.raises(ValueError, match=r'^amp "float16" needs CUDA, got cpu; use "bfloat16"$'):
        DetectionTrainer(config.override(amp="float16"), model, CPU, 1)
    with pytest.raises(ValueError, match=r"^batch_size: wanted a multiple of 3 processes, got 2$"):
        DetectionTrainer(config, model, Ranks(0, 3, torch.device("cpu")), 1)


def test_biases_and_norms_decay_as_the_recipe_says():
    for decay_all in (True, False):
        config = tiny_config(decay_all=decay_all)
        model = create_detector(config, 3)
        trainer = DetectionTrainer(config, model, CPU, 1)
        state = trainer.state_dict()["optimizer"]["param_groups"]
        decayed = sum(len(group["params"]) for group in state if group["weight_decay"])
        several = [parameter for parameter in model.parameters() if decay_all or parameter.ndim > 1]
        assert decayed == len(several)


def test_it_goes_on_with_the_gain_of_weights_that_it_started_from(tmp_path):
    """A backbone that was warm-started has its gain in its norms: resumed, it takes that of the checkpoint."""
    plain = timm.create_model("resnet18", layers=[1, 1, 1, 1], channels=[8, 8, 16, 16], num_classes=0)
    save_file(plain.state_dict(), tmp_path / "plain.safetensors")
    config = tiny_config(init_from=str(tmp_path / "plain.safetensors"))
    images, targets = images_and_targets()

    def started() -> DetectionTrainer:
        return DetectionTrainer(config, create_detector(config, 3, echo=lambda line: None), CPU, 10)

    trainer = started()
    for _ in range(2):
        trainer.step(images, targets)
    state = copy.deepcopy(trainer.state_dict())
    expected = trainer.step(images, targets)
    resumed = started()
    for block in attentions_of(resumed.model).values():
        block[1].scale = 0.5  # as if the network had been made with another gain
    resumed.load_state_dict(state)
    assert resumed.step(images, targets) == expected
    assert all(torch.equal(a, b) for a, b in zip(resumed.model.parameters(), trainer.model.parameters(), strict=True))
