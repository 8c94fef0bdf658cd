"""A training of images: killed runs go on to the same numbers, the best is kept, and the commands show it all."""

import json
import re
import signal

import pytest
import synthesis_driver as driver
import torch
import warm
from checkout import BENCHMARKS
from safetensors import safe_open

from sase_attn.commands.main import main
from sase_attn.spatially_adaptive.synthesis import load_generator, train_synthesis
from sase_attn.spatially_adaptive.synthesis.checkpoint import load_synthesis
from sase_attn.spatially_adaptive.synthesis.result import read_result
from sase_attn.training.log import TIMED

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return driver.image_folder(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def run(images, tmp_path_factory):
    """A folder with a finished run, and the lines that it printed."""
    folder, lines = tmp_path_factory.mktemp("runs") / "whole", []
    train_synthesis(driver.tiny(images), folder, device="cpu", echo=lines.append)
    return folder, lines


def rows(folder):
    found = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in TIMED} for row in found]


def contents(path):
    """Metadata and tensors of a safetensors file."""
    with safe_open(path, "pt") as file:
        return file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def flat(state, name=""):
    """Tensors and numbers by their place."""
    items = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list | tuple) else None
    if items is None:
        return {name: state}
    return {place: value for key, inner in items for place, value in flat(inner, f"{name}.{key}").items()}


def test_estimate_comes_first(run):
    _, lines = run
    assert re.match(
        r"memory: about [\d.]+ [GM]iB: [\d.]+ [GM]iB by now, \d+ MiB for networks and optimizers, \d+ MiB for a step",
        lines[0],
    )
    assert re.match(r"time: about \d+ seconds for 4 steps of [\d.]+ s", lines[1])
    assert [line.split()[1] for line in lines[2:]] == ["2/4", "4/4"]


def test_folder_has_the_best_beside_the_last(run):
    folder, _ = run
    assert {path.name for path in folder.iterdir()} == {
        "best.safetensors", "checkpoint.pt", "config.json", "generator.safetensors", "log.jsonl", "result.json",
        "samples", "snapshots",
    }  # fmt: skip
    sheets = [row for row in rows(folder) if row["kind"] == "sheet"]
    kids = [row["scores"]["kid"] for row in sheets]
    result = read_result(folder)
    assert result.best_kid == min(kids) and result.scores.kid == kids[-1] and result.steps == 4
    assert result.scores.extractor == "own" and result.scores.made == 10 and result.scores.images == 8
    assert sheets[0]["raw_scores"]["kid"] != kids[0]
    assert result.machine and result.versions["torch"] and result.data.train_count == 8
    made = load_generator(folder / "snapshots" / "step-000004.safetensors")
    assert torch.equal(made.sample(1), load_generator(folder, "last").sample(1))
    exec(result.load_lines, namespace := {})
    assert namespace["images"].shape == (16, 3, 64, 64)


def test_killed_run_goes_on_to_the_same_numbers(run, images, tmp_path):
    folder = tmp_path / "killed"
    options = {"images": str(images), "output": str(folder), "kill_at": 4, "config": {"checkpoint_every": 1}}
    killed = warm.run(driver.__file__, json.dumps(options))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert main(["synthesize", "train", "--output", str(folder), "--resume", "--device", "cpu"]) == 0
    assert rows(folder) == rows(run[0])
    whole, resumed = (flat(load_synthesis(place).state) for place in (run[0], folder))
    assert whole.keys() == resumed.keys()
    for key, value in whole.items():
        same = torch.equal(value, resumed[key]) if isinstance(value, torch.Tensor) else value == resumed[key]
        assert same, key
    best, best_resumed = (contents(place / "best.safetensors") for place in (run[0], folder))
    assert best[0] == best_resumed[0]  # the metadata, whose order in the file is not fixed
    assert best[1].keys() == best_resumed[1].keys()
    assert all(torch.equal(value, best_resumed[1][key]) for key, value in best[1].items())


def test_snapshots_are_few_and_a_finished_run_goes_on_to_more_steps(images, tmp_path):
    config, folder = driver.tiny(images, steps=2, sample_every=1, keep_snapshots=1, score_images=0), tmp_path / "few"
    result = train_synthesis(config, folder, device="cpu", echo=lambda line: None)
    assert [path.name for path in (folder / "snapshots").iterdir()] == ["step-000002.safetensors"]
    assert result.scores is None and not (folder / "best.safetensors").exists()
    more = train_synthesis(config.override(steps=3), folder, resume=True, device="cpu", echo=lambda line: None)
    assert more.steps == 3 and (folder / "samples" / "step-000003.png").is_file()


def test_another_configuration_is_refused(run, images, tmp_path):
    folder, _ = run
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for values, words in (
        ({"skip": "sle"}, "skip (saved 'spatial', now 'sle')"),
        ({"steps": 2}, "at least the 4 that are done"),
        ({"images": str(driver.image_folder(tmp_path / "other", 5)), "steps": 6}, "5 training images, saved with 8"),
    ):
        with pytest.raises(ValueError) as error:
            train_synthesis(driver.tiny(images).override(**values), folder, resume=True, device="cpu")
        assert words in str(error.value)
    with pytest.raises(FileExistsError, match="in use"):
        train_synthesis(driver.tiny(images), folder, device="cpu")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_nan_stops_before_the_checkpoint(images, tmp_path, monkeypatch):
    from sase_attn.spatially_adaptive.synthesis import trainer

    monkeypatch.setattr(trainer, "generator_loss", lambda logits: logits.mean() * float("nan"))
    with pytest.raises(FloatingPointError, match="the loss generator is nan at step 1; .* is from before"):
        train_synthesis(driver.tiny(images), tmp_path / "nan", device="cpu", echo=lambda line: None)
    assert load_synthesis(tmp_path / "nan").progress.step == 0


def test_sample_and_evaluate(run, capsys, tmp_path):
    folder, _ = run
    own = ["--import", str(driver.EXTRACTOR), "--device", "cpu"]
    made = tmp_path / "made"
    assert (
        main(["synthesize", "sample", str(folder), "--count", "3", "--interpolate", "2", "--output", str(made), *own])
        == 0
    )
    assert {path.name for path in made.iterdir()} == {
        "00000.png", "00001.png", "00002.png", "sheet.png", "interpolation.png",
    }  # fmt: skip
    evaluate = ["synthesize", "evaluate", str(folder), "--count", "12", "--extractor", "own", *own]
    evaluate += ["--output", str(tmp_path / "neighbours.png")]
    assert main(evaluate) == 0
    text = capsys.readouterr().out
    assert text.index("KID") < text.index("FID") and "other training images get" in text
    assert (tmp_path / "neighbours.png").is_file()
    assert main([*evaluate, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["made"] == 12 and found["fid_floor"] is not None and found["extractor"] == "own"


def test_row_of_the_benchmark_and_its_table(run, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import synthesis
    import synthesis_table

    monkeypatch.setattr(synthesis, "COUNT", 12)
    folder, _ = run
    row = json.loads(json.dumps(synthesis.row_of(folder, 2, tmp_path / "sheets")))
    sheets = [line for line in rows(folder) if line["kind"] == "sheet"]
    assert row["early_raw"] == sheets[0]["raw_scores"] and row["scores"] == sheets[1]["scores"]
    assert row["kids"] == {"2": sheets[0]["scores"]["kid"], "4": sheets[1]["scores"]["kid"]} and row["finite"]
    assert {path.name for path in (tmp_path / "sheets").iterdir()} == {"whole.png", "whole-neighbours.png"}
    table = synthesis_table.syntheses([row], "a machine").splitlines()
    assert {line.count("|") for line in table[:3]} == {13} and table[2].startswith("| spatial | 0 |")
    assert "against the 8 training images, by own" in table[4] and table[4].endswith("a machine.")
    with pytest.raises(ValueError, match="wanted scores at the steps 3 and 4, got those at 2, 4"):
        synthesis.row_of(folder, 3, None)


def test_train_command_prints_what_comes_next(images, tmp_path, capsys):
    flags = [
        "--size",
        "64",
        "--width",
        "1",
        "--latent",
        "8",
        "--batch-size",
        "1",
        "--steps",
        "1",
        "--score-images",
        "0",
    ]
    command = ["synthesize", "train", "--images", str(images), "--output", str(tmp_path / "one"), "--device", "cpu"]
    assert main([*command, *flags]) == 0
    assert "load_generator(" in capsys.readouterr().out
    assert load_generator(tmp_path / "one").style_norm is False
    assert main([*command, *flags, "--show"]) == 0
    assert json.loads(capsys.readouterr().out)["batch_size"] == 1
    assert main(["synthesize", "train", "--resume"]) == 2
