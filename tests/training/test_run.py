"""The training loop: a killed run resumes to the same numbers, Ctrl-C saves, NaN stops, two ranks are one."""

import json
import signal
import time
from pathlib import Path

import pytest
import timm
import torch
import training_driver as driver
import warm
from safetensors.torch import load_file
from timm.data import resolve_model_data_config
from torch.testing import assert_close

from sase_attn.training import evaluate, train
from sase_attn.training.evaluate import Metrics
from sase_attn.training.log import TIMED

DRIVER = Path(driver.__file__)


def command(**options):
    return [str(DRIVER), json.dumps(options, default=str)]


def log_rows(folder):
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in TIMED} for row in rows]


def weights(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "uninterrupted"
    done = warm.run(*command(output=folder))
    assert done.returncode == 0, done.stderr
    return folder


def test_killed_run_resumes_to_the_same_bits(uninterrupted, tmp_path):
    folder = tmp_path / "killed"
    recipe = {"checkpoint_every": 2}
    killed = warm.run(*command(output=folder, recipe=recipe, kill=(1, 3)))
    assert killed.returncode == -signal.SIGKILL
    assert weights(folder)["progress"]["step"] == 2 and len(log_rows(folder)) == 4 + 1 + 3  # one step will be undone
    done = warm.run(*command(output=folder, recipe=recipe, resume=True))
    assert done.returncode == 0 and "resuming at epoch 2, step 2" in done.stdout, done.stderr
    assert log_rows(folder) == log_rows(uninterrupted)
    ours, theirs = weights(folder), weights(uninterrupted)
    assert ours["updates"] == 8 and ours["optimizer"]["state"]
    for part in ("model", "ema"):
        assert ours[part].keys() == theirs[part].keys()
        for key, tensor in ours[part].items():
            assert torch.equal(tensor, theirs[part][key]), key
    for key, state in ours["optimizer"]["state"].items():
        assert torch.equal(state["momentum_buffer"], theirs["optimizer"]["state"][key]["momentum_buffer"])
    for name in ("best.safetensors", "model/model.safetensors"):
        ours, theirs = load_file(folder / name), load_file(uninterrupted / name)
        assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())


def test_ctrl_c_saves_and_resumes(uninterrupted, tmp_path):
    folder = tmp_path / "interrupted"
    process = warm.Process(command(output=folder, seconds=0.5), warm.environment())
    deadline = time.monotonic() + 60
    log = folder / "log.jsonl"
    while not (log.exists() and log.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "stopping after this step" in err, err
    assert f"sase-attn train --output {folder} --resume" in out
    progress = weights(folder)["progress"]
    assert progress["epoch"] == 0 and 1 <= progress["step"] <= 4 and progress["log_bytes"] == log.stat().st_size
    assert warm.run(*command(output=folder, resume=True)).returncode == 0
    assert log_rows(folder) == log_rows(uninterrupted)


def test_two_ranks_give_the_numbers_of_one(tmp_path):
    recipe = {"ema_decay": None, "checkpoint_every": 3}
    one, two = tmp_path / "one", tmp_path / "two"
    assert warm.run(*command(output=one, recipe=recipe, group_norm=True)).returncode == 0
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = warm.run(*torchrun, *command(output=two, recipe=recipe, group_norm=True))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 2/2") == 1  # rank 0 alone speaks
    ours, theirs = log_rows(one), log_rows(two)
    assert [row["kind"] for row in ours] == [row["kind"] for row in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys() and a.get("top1") == b.get("top1")
        for key in a.keys() & {"loss", "test_loss", "lr"}:
            assert a[key] == pytest.approx(b[key], rel=1e-5)
    assert_close(weights(one)["model"], weights(two)["model"], rtol=1e-4, atol=1e-6)
    assert json.loads((two / "result.json").read_text())["processes"] == 2


def test_nan_stops_with_the_step_and_keeps_the_checkpoint(tmp_path):
    recipe = driver.TINY.override(checkpoint_every=1)
    with pytest.raises(FloatingPointError, match=r"loss is nan at epoch 2, step 3 \(last finite loss: \d"):
        train(recipe, tmp_path / "nan", data=driver.data(recipe, poison=2), device="cpu")
    saved = weights(tmp_path / "nan")
    assert (saved["progress"]["epoch"], saved["progress"]["step"]) == (1, 2)
    assert all(tensor.isfinite().all() for tensor in saved["model"].values())


def test_result_can_be_loaded_and_evaluates_to_the_same(uninterrupted):
    result = json.loads((uninterrupted / "result.json").read_text())
    assert result["count"] == 24 and result["versions"]["torch"] == torch.__version__ and result["machine"]
    model = timm.create_model(f"local-dir:{uninterrupted / 'model'}", pretrained=True)
    assert tuple(model.pretrained_cfg["mean"]) == driver.INFO.mean
    assert tuple(model.pretrained_cfg["input_size"]) == (3, 32, 32)
    assert tuple(model.pretrained_cfg["label_names"]) == driver.INFO.classes
    assert resolve_model_data_config(model, use_test_size=True) == {
        "input_size": (3, 32, 32),
        "interpolation": "bilinear",
        "mean": list(driver.INFO.mean),
        "std": list(driver.INFO.std),
        "crop_pct": 1.0,
        "crop_mode": "center",
    }
    _, tests, _ = driver.data(driver.TINY)
    metrics = evaluate(model.train(), tests.epoch(0))
    assert (metrics.top1, metrics.top5) == (result["top1"], result["top5"]) and model.training  # the average's
    assert metrics.loss == pytest.approx(result["loss"], rel=1e-6)
    assert log_rows(uninterrupted)[-1]["top1"] == result["top1"]


def test_of_equal_epochs_the_last_is_the_best(tmp_path, monkeypatch):
    monkeypatch.setattr("sase_attn.training.loop.evaluate", lambda *arguments: Metrics(0.0, 0.0, 1.0, 24))
    loader = driver.Synthetic(8, 8)
    data = (loader, driver.Synthetic(8, 8, shuffle=False), driver.INFO)
    result = train(driver.TINY, tmp_path / "run", data=data, device="cpu", echo=lambda line: None)
    assert (result.best_epoch, result.best_top1) == (1, 0.0)


def test_average_is_what_is_evaluated(uninterrupted):
    saved, model = weights(uninterrupted), load_file(uninterrupted / "model" / "model.safetensors")
    assert all(torch.equal(tensor, saved["ema"][key]) for key, tensor in model.items())
    assert not all(torch.equal(tensor, saved["model"][key]) for key, tensor in model.items())


def test_output_in_use_and_other_recipe_are_refused(uninterrupted):
    recipe = driver.TINY
    before = (uninterrupted / "log.jsonl").read_bytes()
    with pytest.raises(FileExistsError, match="wanted a new or empty folder"):
        train(recipe, uninterrupted, data=driver.data(recipe), device="cpu")
    other = recipe.override(lr=0.1, seed=3, workers=2)
    with pytest.raises(ValueError, match=r"another recipe: lr \(saved 0.05, now 0.1\), seed \(saved 0, now 3\);"):
        train(other, uninterrupted, resume=True, data=driver.data(other), device="cpu")
    assert (uninterrupted / "log.jsonl").read_bytes() == before
    again = train(recipe, uninterrupted, resume=True, data=driver.data(recipe), device="cpu")
    assert again.top1 == json.loads((uninterrupted / "result.json").read_text())["top1"]
    with pytest.raises(FileNotFoundError, match="nothing to resume"):
        train(recipe, uninterrupted / "none", resume=True, data=driver.data(recipe), device="cpu")


def test_bfloat16_and_layer_decay_train(tmp_path):
    recipe = driver.TINY.override(
        amp="bfloat16", layer_decay=0.5, freeze=["conv1.*", "bn1.*"], epochs=1, warmup_epochs=0
    )
    result = train(recipe, tmp_path / "amp", data=driver.data(recipe), device="cpu")
    assert 0 <= result.top1 <= result.top5 <= 100
    with pytest.raises(ValueError, match=r"float16.*needs CUDA"):
        train(recipe.override(amp="float16"), tmp_path / "half", data=driver.data(recipe), device="cpu")
