"""`sase-attn search` and `sase-attn sweep` as people call them, on a tiny folder of images."""

import json
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import search_driver as driver
import torch
import warm
from optuna.distributions import CategoricalDistribution

from sase_attn import Genotype
from sase_attn.commands.main import main
from sase_attn.commands.search import quick_note
from sase_attn.errors import UnknownNameError
from sase_attn.lock import Lock
from sase_attn.search import SEARCHES, SearchConfig, SearchResult
from sase_attn.search.compare import default_recipe
from sase_attn.search.sweep import _open_study, sweep

pytestmark = pytest.mark.usefixtures("one_thread")
TINY = ["--model-kwargs", "layers=[1,1,1]", "--images", "32", "--batch-size", "8", "--epochs", "1", "--order", "1"]
TINY += ["--warmup-epochs", "0"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return str(driver.image_folder(tmp_path_factory.mktemp("data") / "corners"))


def command(data, *arguments):
    return ["search", "--data", data, *TINY, "--without", "gsop", "--device", "cpu", *arguments]


def test_a_search_from_the_command_line(data, tmp_path, capsys):
    output = tmp_path / "run"
    compare = ["--compare-seeds", "1", "--compare-epochs", "1", "--compare-random", "1"]
    assert main(command(data, "--output", str(output), *compare)) == 0
    out = capsys.readouterr().out
    result = SearchResult.load(output)
    assert (
        f"genotype: {result.genotype}" in out and "no ranking: fewer than 5 seeds" in out and "Trust it to run" in out
    )
    assert "1 epoch and an alpha learning rate" in out and "four epochs" not in out
    assert "four epochs" not in (output / "report.html").read_text()
    assert {path.name for path in output.iterdir()} >= {
        "genotype.json", "result.json", "config.json", "log.jsonl", "checkpoint.pt", "report.html",
    }  # fmt: skip
    line = out.splitlines()[-1]
    assert line.startswith("from sase_attn import Genotype") and "genotype.json" in line
    scope = {}
    exec(line, scope)
    assert scope["genotype"] == result.found
    before = (output / "log.jsonl").read_bytes()
    (output / "report.html").unlink()
    assert main(["search", "--resume", str(output), "--device", "cpu"]) == 0  # finished: what is missing is made
    assert (output / "report.html").exists() and (output / "log.jsonl").read_bytes() == before
    table = [line for line in out.splitlines() if line.startswith(("found  ", "plain  ", "random-0  "))]
    assert len(table) == 3 and set(table) <= set(capsys.readouterr().out.splitlines())


def test_the_note_of_the_quick_recipe_says_what_ran():
    assert quick_note(SEARCHES["quick"]).startswith(
        "This is the quick recipe: resnet20_cifar, 16×16 images, 4 epochs and an alpha learning rate of 0.02, to show"
    )
    changed = SEARCHES["quick"].override(epochs=7, alpha_lr=0.5, size=None, model="resnet18", model_kwargs={})
    assert quick_note(changed).startswith(
        "This is the quick recipe, with other model, model_kwargs, size, epochs and alpha_lr: resnet18, the data's own "
        "size, 7 epochs and an alpha learning rate of 0.5, to show"
    )


@pytest.mark.usefixtures("forked_runs")
def test_several_seeds_and_their_agreement(data, tmp_path, capsys):
    output = tmp_path / "seeds"
    assert main(command(data, "--output", str(output), "--seeds", "2", "--jobs", "2", "--no-compare")) == 0
    out = capsys.readouterr().out
    assert out.count("% of pairs of seeds agree") == 6
    found = [SearchResult.load(output / f"seed{seed}") for seed in (0, 1)]
    assert [result.config["seed"] for result in found] == [0, 1] and found[0].alpha != found[1].alpha
    saved = json.loads((output / "seeds.json").read_text())
    assert saved["genotypes"] == {"0": found[0].genotype, "1": found[1].genotype}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--recipe", "quik"], 2, "unknown search 'quik'; did you mean quick"),
        (["--model", "resnet20_cifr"], 2, "unknown model 'resnet20_cifr'; did you mean resnet20_cifar"),
        (["--model", "sase_resnet20"], 1, "has SASE blocks already"),
        (["--without", "gapp"], 2, "unknown operation of the space 'gapp'"),
        (["--order", "3"], 1, "search field order: wanted 1 or 2, got 3"),
        (["--data", "nowhere/at/all"], 1, "no such image folder"),
        (["--resume", "nowhere"], 1, "nothing to resume"),
        (["--resume", "nowhere", "--seeds", "2"], 2, "leave out --recipe, --output and --seeds"),
        (["--seeds", "0"], 2, "expected at least 1"),
        (["--compare-seeds", "0"], 2, "--compare-seeds: expected at least 1, got 0"),
        (["--images", "7000"], 1, "images: wanted at most the 6000 training images of embedded"),
    ],
)
def test_errors_are_one_line(arguments, code, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["search", "--device", "cpu", *arguments]) == code
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and message in err
    assert not list(tmp_path.glob("runs/*/checkpoint.pt"))


def test_missing_extras_are_named_before_the_search(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sase_attn.commands.search.find_spec", lambda name: None)
    assert main(command(data, "--output", str(tmp_path / "run"))) == 1
    assert 'needs scipy and matplotlib: pip install "sase-attn[search]"' in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_arguments_of_one_model_are_not_those_of_another(capsys):
    assert main(["search", "--model", "resnet18", "--show"]) == 0
    config = SearchConfig.from_json(capsys.readouterr().out)
    assert config.model == "resnet18" and config.model_kwargs == {} and SEARCHES["quick"].model_kwargs


@pytest.fixture(scope="module")
def swept(data):
    config = driver.tiny(data, model_kwargs={"layers": [1, 1, 1]}, without=["gsop"])
    return config, default_recipe(config, 1)


def test_a_sweep_goes_on_where_it_was(swept, tmp_path):
    config, recipe = swept
    first = sweep(config, recipe, tmp_path / "s", trials=2, sampler="random", device="cpu", echo=lambda line: None)
    assert len(first) == 2 and all(trial.genotype in config.search_space() for trial in first)
    lines = []
    more = sweep(config, recipe, tmp_path / "s", trials=3, device="cpu", echo=lines.append)
    assert len(more) == 3 and len(lines) == 1 and {t.number for t in more} == {0, 1, 2}
    assert [t.top1 for t in more] == sorted((t.top1 for t in more), reverse=True)
    for trial in more:
        result = json.loads((tmp_path / "s" / f"trial{trial.number}" / "result.json").read_text())
        assert result["top1"] == trial.top1 and result["recipe"]["model_kwargs"]["attn"] == str(trial.genotype)
    with pytest.raises(ValueError, match="has another space"):
        sweep(config.override(without=[]), recipe, tmp_path / "s", trials=4, device="cpu")
    with pytest.raises(UnknownNameError, match="unknown sampler 'tp'; did you mean tpe"):
        sweep(config, recipe, tmp_path / "s", trials=4, sampler="tp")


class Training:
    """Takes the place of `train`: a genotype's accuracy at once, or an error where its number is listed."""

    def __init__(self, errors):
        self.errors, self.folders = errors, []

    def __call__(self, recipe, output, **options):
        self.folders.append((output.name, options["resume"]))
        error = self.errors.get(len(self.folders) - 1)
        if error is not None:
            raise error
        return SimpleNamespace(top1=float(len(self.folders)))


def test_a_trial_that_fails_is_one_of_the_trials_and_the_sweep_goes_on(swept, tmp_path, monkeypatch):
    errors = {0: FloatingPointError("loss is nan\nat epoch 1"), 2: MemoryError(), 3: RuntimeError("no kernel")}
    training = Training(errors)
    monkeypatch.setattr("sase_attn.search.sweep.train", training)
    lines, options = [], {"trials": 5, "sampler": "random", "device": "cpu"}
    found = sweep(*swept, tmp_path / "s", **options, echo=lines.append)
    assert [trial.number for trial in found] == [4, 1] and len(training.folders) == 5
    assert lines[0] == "trial 0 failed: FloatingPointError: loss is nan at epoch 1"
    assert [line.split(":")[0] for line in lines[2:4]] == ["trial 2 failed", "trial 3 failed"]
    study = _open_study(tmp_path / "s", swept[0].search_space(), "random")
    assert {trial.number: trial.user_attrs for trial in study.trials if trial.state.name == "FAIL"} == {
        0: {"error": "FloatingPointError: loss is nan at epoch 1"}, 2: {"error": "MemoryError"},
        3: {"error": "no kernel"},
    }  # fmt: skip
    assert len(sweep(*swept, tmp_path / "s", **options)) == 2 and len(training.folders) == 5  # nothing is left to do


@pytest.mark.parametrize("stopped", [KeyboardInterrupt(), OSError(28, "No space left on device", "checkpoint.pt")])
def test_a_trial_that_was_stopped_is_resumed(swept, tmp_path, monkeypatch, stopped):
    training = Training({0: stopped})
    monkeypatch.setattr("sase_attn.search.sweep.train", training)
    with pytest.raises(type(stopped)):
        sweep(*swept, tmp_path / "s", trials=1, device="cpu")
    assert len(sweep(*swept, tmp_path / "s", trials=1, device="cpu", echo=lambda line: None)) == 1
    assert [name for name, _ in training.folders] == ["trial0", "trial0"]


@pytest.mark.parametrize(
    "content", [b"x\n", b'{"op_code": 99}\n', b"[]\n", b"\xff\x00\n", b'{"op_code": 0}\n', b"null\n"]
)
def test_a_damaged_journal_is_one_line(swept, tmp_path, content):
    (tmp_path / "journal.log").write_bytes(content)
    with pytest.raises(ValueError, match=r"journal\.log is no whole journal of a sweep: .+"):
        sweep(*swept, tmp_path, trials=1, device="cpu")


def test_a_trial_that_was_finished_meanwhile_is_not_resumed(swept, tmp_path, monkeypatch):
    """Its worker tells its result between a look at the trials and a look at its lock."""
    monkeypatch.setattr("sase_attn.search.sweep.train", Training({}))
    study = _open_study(tmp_path, swept[0].search_space(), "random")
    trial = study.ask({e: CategoricalDistribution(n) for e, n in swept[0].search_space().ops.items()})
    acquire = Lock.acquire

    def finish_first(self, *, wait):
        if self._path.name == "trial0.lock" and study.trials[0].state.name == "RUNNING":
            study.tell(trial, 7.0)
        return acquire(self, wait=wait)

    monkeypatch.setattr(Lock, "acquire", finish_first)
    found = sweep(*swept, tmp_path, trials=2, device="cpu", echo=lambda line: None)
    assert [(t.number, t.top1) for t in found] == [(0, 7.0), (1, 1.0)]


def test_a_sweep_of_which_nothing_comes_ends(swept, tmp_path, monkeypatch):
    training = Training(dict.fromkeys(range(1, 9), RuntimeError("broken")))
    monkeypatch.setattr("sase_attn.search.sweep.train", training)
    with pytest.raises(RuntimeError, match="broken"):
        sweep(*swept, tmp_path / "s", trials=9, device="cpu", echo=lambda line: None)
    assert len(training.folders) == 4
    training = Training(dict.fromkeys(range(9), FloatingPointError("diverged")))  # each is a trial of its own
    monkeypatch.setattr("sase_attn.search.sweep.train", training)
    assert sweep(*swept, tmp_path / "t", trials=5, device="cpu", echo=lambda line: None) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--data", "nowhere/at/all"], "no such image folder"),
        (["--model", "resnet20_cifr"], "did you mean resnet20_cifar"),
        (["--model-kwargs", "nonsense=1"], "unexpected keyword argument 'nonsense'"),
        (["--after", "nowhere.*"], "nowhere"),
    ],
)
@pytest.mark.parametrize("command", ["train", "search", "signal", "sweep"])
def test_a_start_that_fails_leaves_no_folder(command, change, message, data, tmp_path, capsys):
    if command == "train" and change[0] == "--after":
        change, message = ["--freeze", "nowhere.*"], "nowhere"
    before = ["--data", data, "--device", "cpu", "--output", str(tmp_path / "new" / "run")]
    images = ["--images", "32", "--batch-size", "8"] if command == "search" else []
    assert main([command, *before, *images, *change]) in (1, 2)
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and message in err
    assert not list(tmp_path.iterdir())


def worker(folder, data, trials):
    code = (
        "import sys, torch; torch.set_num_threads(1)\n"
        f"sys.path.insert(0, {str(Path(driver.__file__).parent)!r})\n"
        "import search_driver as driver\n"
        "from sase_attn.search.compare import default_recipe\n"
        "from sase_attn.search.sweep import sweep\n"
        f"config = driver.tiny({data!r}, model_kwargs={{'layers': [1, 1, 1]}}, without=['gsop'])\n"
        "recipe = default_recipe(config, 6).override(batch_size=8)\n"
        f"print('DONE', len(sweep(config, recipe, {str(folder)!r}, trials={trials}, device='cpu')), flush=True)\n"
    )
    return warm.Process(["-c", code], warm.environment())


def test_a_killed_worker_loses_nothing(data, tmp_path):
    folder = tmp_path / "sweep"
    killed = worker(folder, data, 2)
    log, deadline = folder / "trial0" / "log.jsonl", time.monotonic() + 90
    while not (log.exists() and log.read_text().count('"epoch",') >= 2) and time.monotonic() < deadline:
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait(60)
    epochs = torch.load(folder / "trial0" / "checkpoint.pt", weights_only=True)["progress"]["epoch"]
    rows = log.read_text().splitlines()
    assert 1 <= epochs < 6
    workers = [worker(folder, data, 2) for _ in range(2)]
    assert [w.communicate(timeout=300)[0].splitlines()[-1][:4] for w in workers] == ["DONE", "DONE"]
    assert {path.name for path in folder.glob("trial?")} == {"trial0", "trial1"}
    kept = [row for row in rows if json.loads(row)["epoch"] < epochs]
    assert log.read_text().splitlines()[: len(kept)] == kept  # it went on, it did not begin again
    for number in (0, 1):
        result = json.loads((folder / f"trial{number}" / "result.json").read_text())
        assert Genotype.parse(result["recipe"]["model_kwargs"]["attn"]) in driver.tiny(data).search_space()


def test_a_worker_killed_while_it_writes_the_journal_does_not_stop_others(data, tmp_path):
    start = (
        f"import sys; sys.path.insert(0, {str(Path(driver.__file__).parent)!r})\n"
        "import search_driver as driver\n"
        "from sase_attn.search.compare import default_recipe\n"
        "from sase_attn.search.sweep import sweep\n"
        f"config = driver.tiny({data!r}, model_kwargs={{'layers': [1, 1, 1]}}, without=['gsop'])\n"
        f"print(sweep(config, default_recipe(config, 1), {str(tmp_path / 's')!r}, trials=0, device='cpu'))\n"
    )
    killed = warm.run("-c", "import os; os.fsync = lambda file: os.kill(os.getpid(), 9)\n" + start)
    assert killed.returncode == -signal.SIGKILL and (tmp_path / "s" / "journal.log").exists()
    again = warm.run("-c", start, timeout=20)
    assert (again.returncode, again.stdout) == (0, "[]\n"), again.stderr
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["journal.log"]
