"""The run of a detector: killed and resumed to the same numbers, stopped, on two ranks, refused, and what it leaves."""

import json
import signal
import time
from pathlib import Path

import detection_driver as driver
import pytest
import timm
import torch
import warm
from detection_data import draw_coco, edit
from safetensors.torch import load_file
from tiny_detector import TINY_BACKBONE

from sase_attn.detection import load_detector, train_detector
from sase_attn.detection.data import open_detection_data
from sase_attn.detection.evaluation.metrics import evaluate_detector
from sase_attn.detection.training.loop import DetectionLoop
from sase_attn.detection.training.trainer import DetectionTrainer
from sase_attn.training.distributed import Ranks
from sase_attn.training.log import TIMED
from sase_attn.weights import write_safetensors

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = Ranks(0, 1, torch.device("cpu"))


def quiet(line):
    pass


def command(**options):
    return [driver.__file__, json.dumps(options, default=str)]


def log_rows(folder):
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in TIMED} for row in rows]


def checkpoint(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def assert_same_run(folder, other):
    assert log_rows(folder) == log_rows(other)
    ours, theirs = checkpoint(folder), checkpoint(other)
    assert ours["model"].keys() == theirs["model"].keys() and ours["updates"] == theirs["updates"]
    assert all(torch.equal(tensor, theirs["model"][key]) for key, tensor in ours["model"].items())
    for key, state in ours["optimizer"]["state"].items():
        assert torch.equal(state["momentum_buffer"], theirs["optimizer"]["state"][key]["momentum_buffer"])
    for name in ("best.safetensors", "model.safetensors"):
        ours, theirs = load_file(folder / name), load_file(other / name)
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return draw_coco(tmp_path_factory.mktemp("coco"))


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    folder, said = tmp_path_factory.mktemp("run") / "uninterrupted", []
    train_detector(driver.tiny(data, detector="mask_rcnn"), folder, device="cpu", echo=said.append)
    return folder, said


def test_killed_run_resumes_to_the_same_bits(data, uninterrupted, tmp_path):
    """Sizes of images and regions to learn from are drawn anew, equally."""
    folder = tmp_path / "killed"
    options = {"data": data, "output": folder, "config": {"checkpoint_every": 1, "detector": "mask_rcnn"}}
    killed = warm.run(*command(**options, kill=[1, 2]))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (checkpoint(folder)["progress"]["epoch"], checkpoint(folder)["progress"]["step"]) == (1, 2)
    done = warm.run(*command(**options, resume=True))
    assert done.returncode == 0 and "resuming at epoch 2, step 2" in done.stdout, done.stderr
    rows = log_rows(folder)
    ours = json.loads((folder / "detection.json").read_text())
    assert ours.pop("checkpoint_every") == 1
    assert rows == log_rows(uninterrupted[0])
    one, two = checkpoint(folder), checkpoint(uninterrupted[0])
    assert all(torch.equal(tensor, two["model"][key]) for key, tensor in one["model"].items())
    for key, state in one["optimizer"]["state"].items():
        assert torch.equal(state["momentum_buffer"], two["optimizer"]["state"][key]["momentum_buffer"])
    for name in ("best.safetensors", "model.safetensors"):
        theirs = load_file(uninterrupted[0] / name)
        assert all(torch.equal(tensor, theirs[key]) for key, tensor in load_file(folder / name).items())


def test_ctrl_c_saves_and_resumes(data, tmp_path):
    folder, options = tmp_path / "interrupted", {"data": data, "config": {"epochs": 1}}
    process = warm.Process(command(**options, output=folder, seconds=0.4), warm.environment())
    deadline = time.monotonic() + 60
    log = folder / "log.jsonl"
    while not (log.exists() and log.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "stopping after this step" in err, err
    assert f"sase-attn detect train --output {folder} --resume" in out
    assert warm.run(*command(**options, output=folder, resume=True)).returncode == 0
    assert warm.run(*command(**options, output=tmp_path / "whole")).returncode == 0
    assert_same_run(folder, tmp_path / "whole")


def test_stopped_in_an_evaluation_and_given_more_epochs_it_is_the_same_run(data, uninterrupted, tmp_path, monkeypatch):
    """Which has taken long: the epoch before it is not lost. Two epochs after one are the two of one run."""
    folder, config = tmp_path / "stopped", driver.tiny(data, detector="mask_rcnn")
    with monkeypatch.context() as patched:
        patched.setattr(DetectionLoop, "_evaluate", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train_detector(config.override(epochs=1), folder, device="cpu", echo=quiet)
    assert (checkpoint(folder)["progress"]["epoch"], checkpoint(folder)["progress"]["step"]) == (0, 3)
    assert train_detector(config.override(epochs=1), folder, resume=True, device="cpu", echo=quiet).best_epoch == 0
    train_detector(config, folder, resume=True, device="cpu", echo=quiet)
    assert log_rows(folder) == log_rows(uninterrupted[0])
    ours, theirs = load_file(folder / "model.safetensors"), load_file(uninterrupted[0] / "model.safetensors")
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())
    with pytest.raises(ValueError, match=r"epochs: wanted at least the 2 that are done, got 1$"):
        train_detector(config.override(epochs=1), folder, resume=True, device="cpu", echo=quiet)


def test_two_ranks_train_together(data, tmp_path):
    """A rank of one image a step now and then has no object at all; and torch has nothing to warn of."""
    ends = warm.run_ranks(2, *command(data=data, output=tmp_path / "run", config={"detector": "mask_rcnn"}))
    assert all((end.returncode, end.stderr) == (0, "") for end in ends), ends[0].stderr + ends[1].stderr
    assert ends[0].stdout.count("epoch 2/2") == 1 and not ends[1].stdout  # rank 0 alone speaks
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["processes"] == 2 and result["metrics"]["images"] == 4
    loaded = load_detector(tmp_path / "run")
    opened = open_detection_data(driver.tiny(data, detector="mask_rcnn"), CPU)
    alone = evaluate_detector(loaded.model, opened.val.epoch(0), opened.val_set, masks=True)
    assert alone.to_dict()["boxes"]["ap"] == pytest.approx(result["metrics"]["boxes"]["ap"], abs=1e-6)


def test_two_killed_ranks_resume_to_the_same_bits(data, tmp_path):
    options = {"data": data, "config": {"checkpoint_every": 1}}
    whole = warm.run_ranks(2, *command(**options, output=tmp_path / "whole"))
    killed = warm.run_ranks(2, *command(**options, output=tmp_path / "killed", kill=[1, 1]))
    assert [end.returncode for end in whole + killed] == [0, 0, -signal.SIGKILL, -signal.SIGKILL]
    done = warm.run_ranks(2, *command(**options, output=tmp_path / "killed", resume=True))
    assert all(end.returncode == 0 for end in done), done[0].stderr + done[1].stderr
    assert "resuming at epoch 2, step 1" in done[0].stdout
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


def test_what_a_run_leaves(data, uninterrupted):
    folder, said = uninterrupted
    result = train_detector(driver.tiny(data, detector="mask_rcnn"), folder, resume=True, device="cpu", echo=quiet)
    assert result.metrics.images == 4 and result.metrics.masks is not None and result.category_ids == (3, 7)
    assert result.versions["torch"] == torch.__version__ and result.data.classes == ("square", "triangle")
    assert result.trained_parameters == result.parameters
    epochs = [row for row in log_rows(folder) if row["kind"] == "epoch"]
    assert epochs[-1]["metrics"]["boxes"]["ap"] == result.metrics.boxes.ap and epochs[-1]["loss"] > 0
    assert (folder / "curves.png").stat().st_size > 10_000
    space: dict = {}
    exec(result.load_line, space)
    opened = open_detection_data(driver.tiny(data, detector="mask_rcnn"), CPU)
    again = evaluate_detector(space["model"], opened.val.epoch(0), opened.val_set, masks=True)
    assert again == result.metrics
    assert any(line.startswith("training: 6 images") for line in said)
    assert any(line.startswith("validation: 4 images") and line.endswith(f"by {data / 'val.json'}") for line in said)
    assert any("scaled" in line or "learning rate 0.01 for 2 images a step" in line for line in said)
    assert any("parameters" in line for line in said)


def test_of_equal_epochs_the_last_is_the_best(tmp_path):
    """Without objects there is no average precision, and weights of the first epoch would be a trap."""
    data, said = draw_coco(tmp_path / "data", train=2, val=1), []
    edit(data / "val.json", lambda value: value["annotations"].clear())
    config = driver.tiny(data, batch_size=1)
    result = train_detector(config, tmp_path / "run", device="cpu", echo=said.append)
    assert (result.best_epoch, result.best_ap, result.metrics.boxes.ap) == (1, 0.0, None)
    best, last = (load_file(tmp_path / "run" / name) for name in ("best.safetensors", "model.safetensors"))
    assert all(torch.equal(tensor, last[key]) for key, tensor in best.items())
    assert sum("so there is no average precision" in line and "val.json" in line for line in said) == 1


def test_it_resumes_though_the_weights_that_it_started_from_are_gone(data, tmp_path, monkeypatch):
    """With their normalisation of images, and the gain that they gave its attention."""
    network = timm.create_model("resnet18", num_classes=0, **TINY_BACKBONE)
    told = '{"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]}'
    write_safetensors(network.state_dict(), tmp_path / "a.safetensors", metadata={"data_config": told})
    config = driver.tiny(data, init_from=str(tmp_path / "a.safetensors"))
    train_detector(config, tmp_path / "whole", device="cpu", echo=quiet)
    with monkeypatch.context() as patched:
        patched.setattr(DetectionLoop, "_evaluate", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train_detector(config, tmp_path / "stopped", device="cpu", echo=quiet)
    (tmp_path / "a.safetensors").unlink()
    train_detector(config, tmp_path / "stopped", resume=True, device="cpu", echo=quiet)
    assert log_rows(tmp_path / "stopped") == log_rows(tmp_path / "whole")
    assert load_detector(tmp_path / "stopped").model.transform.image_std == [0.5, 0.6, 0.7]


def test_another_configuration_or_other_data_are_refused(data, uninterrupted, tmp_path):
    folder, before = uninterrupted[0], (uninterrupted[0] / "log.jsonl").read_bytes()
    config = driver.tiny(data, detector="mask_rcnn")
    with pytest.raises(FileExistsError, match="resume its training, or name another"):
        train_detector(config, folder, device="cpu", echo=quiet)
    with pytest.raises(
        ValueError, match=r"another detection recipe: lr \(saved 0.01, now 0.1\), seed \(saved 0, now 3\);"
    ):
        train_detector(config.override(lr=0.1, seed=3, workers=2), folder, resume=True, device="cpu", echo=quiet)
    other = draw_coco(tmp_path / "other", seed=5)
    with pytest.raises(ValueError, match=r"^cannot resume with other data: files changed"):
        train_detector(config.override(data=str(other)), folder, resume=True, device="cpu", echo=quiet)
    moved = draw_coco(tmp_path / "moved")
    assert train_detector(config.override(data=str(moved)), folder, resume=True, device="cpu", echo=quiet)
    with pytest.raises(FileNotFoundError, match="nothing to resume"):
        train_detector(config, tmp_path / "none", resume=True, device="cpu", echo=quiet)
    assert (folder / "log.jsonl").read_bytes() == before


def test_nan_stops_with_its_losses_and_keeps_the_checkpoint(data, tmp_path, monkeypatch):
    """The parts are named: which of them went is what people ask first."""
    config, step, taken = driver.tiny(data, checkpoint_every=1), DetectionTrainer.step, []

    def poisoned(self, images, targets, **options):
        taken.append(1)
        return step(self, [image + (float("nan") if len(taken) == 5 else 0) for image in images], targets, **options)

    monkeypatch.setattr(DetectionTrainer, "step", poisoned)
    with pytest.raises(FloatingPointError, match=r"loss_classifier .* at epoch 2, step 2 \(last finite loss: \d"):
        train_detector(config, tmp_path / "run", device="cpu", echo=quiet)
    saved = checkpoint(tmp_path / "run")
    assert (saved["progress"]["epoch"], saved["progress"]["step"]) == (1, 1)
    assert all(tensor.isfinite().all() for tensor in saved["model"].values() if tensor.is_floating_point())


def test_a_start_that_fails_leaves_no_folder(data, tmp_path):
    with pytest.raises(ValueError, match="num_blocks|layers|cannot make"):
        train_detector(driver.tiny(data, backbone_kwargs={"layers": 3}), tmp_path / "run", device="cpu", echo=quiet)
    assert not list((tmp_path / "run").glob("*.json"))


def test_missing_evaluation_is_said_before_the_first_epoch(data, tmp_path, monkeypatch):
    monkeypatch.setattr("sase_attn.detection.evaluation.coco_numbers.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install \"sase-attn\[detection\]\""):
        train_detector(driver.tiny(data), Path(tmp_path, "run"), device="cpu", echo=quiet)
    assert not (tmp_path / "run").exists()
