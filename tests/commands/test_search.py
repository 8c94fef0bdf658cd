"""`sase-attn search` as people call it, on a tiny folder of images."""

import json

import pytest
import search_driver as driver

from sase_attn.commands.main import main
from sase_attn.commands.search import quick_note
from sase_attn.search import SEARCHES, SearchConfig, SearchResult
from sase_attn.search.begun import begin

pytestmark = pytest.mark.usefixtures("one_thread")
TINY = ["--model-kwargs", "layers=[1,1,1]", "--images", "32", "--batch-size", "8", "--epochs", "1", "--order", "1"]
TINY += ["--warmup-epochs", "0", "--method", "darts", "--signal", "0"]


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
    assert result.warnings() and all(f"  warning: {line}\n" in out for line in result.warnings())
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
        "This is the quick recipe: resnet20_cifar, 16×16 images, 32 trainings of 1 epoch, to show"
    )
    changed = dict(method="darts", epochs=7, alpha_lr=0.5, size=None, model="resnet18", model_kwargs={}, trainings=9)
    assert quick_note(SEARCHES["quick"].override(**changed)).startswith(
        "This is the quick recipe, with other method, model, model_kwargs, size, epochs and alpha_lr: resnet18, the "
        "data's own size, 7 epochs and an alpha learning rate of 0.5, to show"
    )
    by_trainings = quick_note(SEARCHES["quick"].override(method="race", trainings=40, train_epochs=2, epochs=7))
    assert "with other method, trainings and train_epochs: " in by_trainings
    assert "images, 40 trainings of 2 epochs, to show" in by_trainings and by_trainings.endswith(
        "search with --recipe standard on your own data, and ask sase-attn signal before."
    )
    assert "16×16 images, 4 epochs, to show" in quick_note(SEARCHES["quick"].override(method="single-path"))


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
        (["--model", "resnet20_cifr"], 2, "model 'resnet20_cifr'; did you mean resnet20_cifar"),
        (["--model", "sase_resnet20", "--method", "darts", "--signal", "0"], 1, "has SASE blocks already"),
        (["--without", "gapp"], 2, "unknown operation of the space 'gapp'"),
        (["--epochs", "3", "--images", "64"], 2, "--epochs and --images: no effect with the method additive"),
        (["--method", "single-path", "--alpha-lr", "0.1"], 2, "--alpha-lr: no effect with the method single-path"),
        (["--method", "darts", "--trainings", "9"], 2, "--trainings: no effect with the method darts"),
        (["--order", "3"], 1, "search field order: wanted 1 or 2, got 3"),
        (["--data", "nowhere/at/all"], 1, "no such image folder"),
        (["--resume", "nowhere"], 1, "nothing to resume"),
        (["--seeds", "2"], 2, "--seeds: wanted 1 with additive, which trains with several itself, got 2"),
        (["--resume", "nowhere", "--seeds", "2"], 2, "leave out --recipe, --output and --seeds"),
        (["--seeds", "0"], 2, "expected at least 1"),
        (["--compare-seeds", "0"], 2, "--compare-seeds: expected at least 1, got 0"),
        (
            ["--method", "darts", "--images", "7000", "--signal", "0"],
            1,
            "images: wanted at most the 6000 training images of embedded",
        ),
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


def test_fewer_epochs_than_the_recipe_waits_for_alpha(capsys):
    for epochs, waits in ((1, 0), (2, 1), (9, 1)):
        assert main(["search", "--method", "darts", "--epochs", str(epochs), "--show"]) == 0
        assert SearchConfig.from_json(capsys.readouterr().out).warmup_epochs == waits
    assert main(["search", "--method", "darts", "--epochs", "1", "--warmup-epochs", "1", "--show"]) == 1
    assert "warmup_epochs: wanted fewer than 1 epochs, got 1" in capsys.readouterr().err


def test_arguments_of_one_model_are_not_those_of_another(capsys):
    assert main(["search", "--model", "resnet18", "--show"]) == 0
    config = SearchConfig.from_json(capsys.readouterr().out)
    assert config.model == "resnet18" and config.model_kwargs == {} and SEARCHES["quick"].model_kwargs


@pytest.mark.parametrize("command", ["search", "signal"])
def test_a_storage_that_does_not_answer_is_not_written_down(command, data, tmp_path, capsys):
    """So that the same line with the right address works."""
    output, right = tmp_path / "new" / "run", f"sqlite:///{tmp_path / 'x.db'}"
    start = [command, "--data", data, "--device", "cpu", "--output", str(output), "--storage"]
    assert main([*start, f"sqlite:///{tmp_path / 'nowhere' / 'x.db'}"]) == 1
    assert "does not answer: unable to open database file" in capsys.readouterr().err and not list(tmp_path.iterdir())
    if command == "search":
        begin(output, SearchConfig(), right, {})
        with pytest.raises(ValueError, match=r"wanted --storage sqlite.*x\.db, got no --storage"):
            begin(output, SearchConfig(), None, {})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--data", "nowhere/at/all"], "no such image folder"),
        (["--model", "resnet20_cifr"], "did you mean resnet20_cifar"),
        (["--model-kwargs", "nonsense=1"], "unexpected keyword argument 'nonsense'"),
        (["--after", "nowhere.*"], "nowhere"),
    ],
)
@pytest.mark.parametrize("command", ["train", "search", "signal", "search by trainings"])
def test_a_start_that_fails_leaves_no_folder(command, change, message, data, tmp_path, capsys):
    if command == "train" and change[0] == "--after":
        change, message = ["--freeze", "nowhere.*"], "nowhere"
    before = ["--data", data, "--device", "cpu", "--output", str(tmp_path / "new" / "run")]
    more = {
        "search": ["--method", "darts", "--images", "32", "--batch-size", "8"],
        "search by trainings": ["--method", "random"],
    }
    assert main([command.split()[0], *before, *more.get(command, []), *change]) in (1, 2)
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and message in err
    assert not list(tmp_path.iterdir())
