"""The look for signal before a super-network. Trainings from scratch compute nothing here; super-networks are tiny."""

import argparse
import html
import json
import signal
from types import SimpleNamespace

import pytest
import search_driver
import trainings_driver as driver
import warm
from simulated_trainings import of_nothing, simulate_trainings

from sase_attn import Genotype, genotypes
from sase_attn.commands.comparison import CompareOptions, compare_options
from sase_attn.commands.main import main
from sase_attn.search import SearchConfig, SearchResult, SearchSpace, Signal, search
from sase_attn.search.shared_weights.loop import Searcher
from sase_attn.search.trainings.ledger import Ledger
from sase_attn.search.trainings.storage import Storage

pytestmark = pytest.mark.usefixtures("one_thread")
TINY = [
    "--model-kwargs",
    "layers=[1,1,1]",
    "--without",
    "gsop",
    "--images",
    "32",
    "--batch-size",
    "8",
    "--device",
    "cpu",
]
TINY += ["--epochs", "1", "--warmup-epochs", "0", "--select-images", "16", "--candidates", "2"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return str(search_driver.image_folder(tmp_path_factory.mktemp("data") / "corners"))


@pytest.fixture
def values(monkeypatch):
    return simulate_trainings(monkeypatch)


def command(data, folder, *arguments):
    method = [] if "--method" in arguments else ["--method", "darts", "--order", "1"]
    return main(["search", "--data", data, *TINY, *method, "--output", str(folder), *arguments])


def test_where_there_is_nothing_to_find_no_super_network_is_trained(values, data, tmp_path, capsys):
    values[0] = of_nothing
    folder = tmp_path / "run"
    assert command(data, folder, "--signal", "28", "--compare-seeds", "5") == 0
    out, result = capsys.readouterr().out, SearchResult.load(folder)
    assert result.found == genotypes["sase"] == Genotype.load(folder / "genotype.json") and len(result.trained) == 28
    assert not result.decided and f"not decided: {result.reason}" in out and "nothing to find" in result.reason
    assert not {"checkpoint.pt", "log.jsonl", "retrained"}.intersection(path.name for path in folder.iterdir())
    page, looked = (folder / "report.html").read_text(), Signal.load(folder)
    assert looked.answer == "nothing to find" and looked.seeds == [0, 1, 2, 3] and looked.epochs == 1
    assert all(html.escape(line) in page for line in looked.lines())
    assert "The published block stays" in page and "which has ended the search" in page
    before = (folder / "result.json").read_bytes()
    assert main(["search", "--resume", str(folder), "--device", "cpu"]) == 0  # nothing is asked again
    assert (folder / "result.json").read_bytes() == before and "is there anything" not in capsys.readouterr().out
    values[0] = None  # the same search all the same: trainings are done with
    assert main(["search", "--resume", str(folder), "--signal", "0", "--no-compare", "--device", "cpu"]) == 0
    result = SearchResult.load(folder)
    assert (folder / "checkpoint.pt").exists() and not (folder / "signal.json").exists() and not result.trained
    assert result.alpha


def test_where_genotypes_differ_the_search_goes_on(values, data, tmp_path, capsys):
    """Its verdict needs the comparison: shared weights may choose what the look has seen to be bad."""
    folder = tmp_path / "run"
    assert command(data, folder, "--method", "single-path", "--signal", "28", "--compare-seeds", "2") == 0
    out, result, looked = capsys.readouterr().out, SearchResult.load(folder), Signal.load(folder)
    assert looked.answer == "signal" and not result.trained and result.epochs == 1
    assert not result.decided and "was not compared with random ones by 5 seeds" in result.reason
    assert out.index("is there anything to find?") < out.index("epoch 1/1") < out.index("no ranking")
    page = (folder / "report.html").read_text()
    assert all(html.escape(line) in page for line in looked.lines()) and "What was found" in page
    values[0] = None  # there is no second look
    again = ["search", "--resume", str(folder), "--device", "cpu", "--select-images", "8", "--no-compare"]
    assert main(again) == 0
    assert Signal.load(folder) == looked


def test_networks_of_ones_own_are_not_looked_at(tmp_path):
    message = r"^signal: wanted 0 with a model, space or data of your own, .* got 28$"
    for own in ({"space": SearchSpace.get("release")}, {"model": object()}, {"data": object()}):
        with pytest.raises(ValueError, match=message):
            search(**own, config=SearchConfig(signal=28), output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_a_super_network_fails_with_is_said_before_the_look(values, data, tmp_path, capsys):
    for arguments, message in [
        (["--images", "1000"], "images: wanted at most the 72 training images"),
        (["--split", "first"], 'take "drawn"'),
        (
            ["--signal", "5"],
            "signal: budget: wanted 28 or more (7 genotypes with 4 seeds), got 5; 0 is a search without",
        ),
        (["--signal", "0", "--storage", "sqlite:///s.db"], "or --signal, got darts alone"),
    ]:
        assert command(data, tmp_path / "new" / "run", "--signal", "28", *arguments) in (1, 2)
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def stop(*arguments):
    raise KeyboardInterrupt


def fails(*arguments):
    raise ValueError("out of something")


def test_a_first_step_that_fails_leaves_the_look(values, data, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    monkeypatch.setattr(Searcher, "step", fails)
    assert command(data, folder, "--signal", "28") == 1
    assert {path.name for path in folder.iterdir()} >= {"config.json", "compare.json", "journal.log", "signal.json"}
    values[0] = None  # the look is done with
    monkeypatch.setattr(Searcher, "step", stop)
    assert command(data, folder, "--signal", "28") == 130


@pytest.mark.parametrize("name", ["quick", "paper"])
def test_the_options_of_a_comparison_are_written_at_the_start(data, tmp_path, monkeypatch, name):
    """So that a search that is killed and resumed is compared as it was to be; a failed start leaves nothing."""
    folder = tmp_path / "run"
    flags = ["--recipe", name, "--signal", "0", "--compare-random", "7"]
    monkeypatch.setattr(Searcher, "step", fails)
    assert command(data, folder, *flags) == 1 and not folder.exists()
    monkeypatch.setattr(Searcher, "step", stop)
    assert command(data, folder, *flags) == 130
    seeds, epochs = (2, 4) if name == "quick" else (5, 10)
    wanted = CompareOptions(quick=name == "quick", random=7, seeds=seeds, epochs=epochs)
    args = argparse.Namespace(resume=folder, compare_random=None, compare_seeds=None, compare_epochs=None)
    assert compare_options(args, folder, quick=False) == wanted
    (folder / "compare.json").unlink()  # one that was started from Python
    asked = []
    monkeypatch.setattr(
        "sase_attn.commands.search.search", lambda **given: asked.append(given["extra_files"]) or stop()
    )
    assert main(["search", "--resume", str(folder), "--device", "cpu"]) == 130
    assert json.loads(asked[0]["compare.json"])["quick"] is False


def test_workers_of_the_look_are_started_at_once(values, data, tmp_path, monkeypatch):
    started = []

    class Process:
        returncode = 0

        def __init__(self, words, **more):
            assert not (folder / "checkpoint.pt").exists()
            started.append(words[3:])

        def wait(self):
            return self.returncode

    monkeypatch.setattr("sase_attn.search.helpers.subprocess", SimpleNamespace(Popen=Process, STDOUT=None))
    monkeypatch.setattr(Searcher, "run", stop)
    folder, storage = tmp_path / "run", f"sqlite:///{tmp_path}/s.db"
    assert command(data, folder, "--signal", "28", "--jobs", "3", "--storage", storage) == 130
    arguments = ["search", "--resume", str(folder), "--no-compare", "--storage", storage, "--device", "cpu"]
    assert started == [arguments] * 2
    space = SearchSpace.get("release").without("gsop")
    assert len(Ledger(folder, Storage(folder, storage), space).trials()) == 28 == len(Signal.load(folder).trained)


def test_one_look_is_enough_for_several_seeds(values, data, tmp_path, capsys, monkeypatch):
    searched = []

    def search_seeds(config, *arguments, **options):
        searched.append(config.signal)
        raise KeyboardInterrupt

    monkeypatch.setattr("sase_attn.commands.search.search_seeds", search_seeds)
    options = ["--signal", "28", "--seeds", "2"]
    assert command(data, tmp_path / "differ", *options) == 130
    assert searched == [0] and Signal.load(tmp_path / "differ").answer == "signal"
    values[0] = of_nothing
    assert command(data, tmp_path / "seeds", *options) == 0
    assert SearchResult.load(tmp_path / "seeds").found == genotypes["sase"] and len(searched) == 1
    assert "nothing to find" in (tmp_path / "seeds" / "report.html").read_text()
    assert capsys.readouterr().out.count("is there anything to find?") == 2


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A space of two genotypes."""
    path = tmp_path_factory.mktemp("space") / "space.json"
    one = SearchSpace.get("release")
    ops = {edge: names[-1:] for edge, names in one.ops.items()} | {"channel_gate": ("affine", "fc")}
    path.write_text(SearchSpace(ops).to_json())
    return str(path)


def wanted(two, method):
    return {"space": two, "without": [], "method": method, "signal": 4, "signal_seeds": 2, "order": 1}


def arguments(data, folder, **options):
    return [driver.__file__, json.dumps({"data": data, "folder": str(folder)} | options)]


def worker(data, folder, **options):
    return warm.Process(arguments(data, folder, **options), warm.environment())


def ended(process):
    out, err = process.communicate(60)
    assert process.returncode == 0, err
    *lines, last = out.splitlines()
    return json.loads(last), lines


@pytest.fixture(scope="module")
def alone(data, two, tmp_path_factory):
    """What an uninterrupted search ends with, by method."""
    folder = tmp_path_factory.mktemp("alone")
    methods = ("darts", "single-path")
    both = {method: worker(data, folder / method, search=wanted(two, method)) for method in methods}
    return {method: ended(process)[0] for method, process in both.items()}


@pytest.mark.parametrize("method", ["darts", "single-path"])
def test_kill_in_the_look_and_in_the_search_and_resume(data, two, tmp_path, alone, method):
    options = {"search": wanted(two, method)}
    folder = tmp_path / "run"
    first = worker(data, folder, signal="kill", after=5, **options)  # of 4 trainings of 3 epochs
    assert first.wait(60) == -signal.SIGKILL and not (folder / "signal.json").exists()
    second = worker(data, folder, kill_at=6, **options)  # of 10 steps
    assert second.wait(60) == -signal.SIGKILL and (folder / "signal.json").exists()
    found, lines = ended(worker(data, folder, resume=True, **options))
    assert found == alone[method] and any("resuming at epoch 2" in line for line in lines)
    assert not any("top-1" in line for line in lines) and not found["trained"]  # of the look nothing again


def test_of_two_workers_of_the_look_one_goes_on(data, two, tmp_path, alone):
    options = {"search": wanted(two, "darts"), "seconds": 0.1}
    both = [worker(data, tmp_path / "run", **options) for _ in range(2)]
    outs = [process.communicate(60) for process in both]
    assert [process.returncode for process in both] == [0, 0], outs
    (goes_on,) = (out for out, _ in outs if "epoch 2/2" in out)
    (other,) = (out for out, _ in outs if "epoch 2/2" not in out)
    assert json.loads(goes_on.splitlines()[-1]) == alone["darts"]
    assert f"the look for signal is done, and another worker goes on in {tmp_path / 'run'}" in other


def test_processes_of_one_worker(data, two, tmp_path):
    words = arguments(data, tmp_path / "run", search=wanted(two, "darts"))
    ranks = warm.run_ranks(2, *words)
    assert [done.returncode for done in ranks] == [0, 0], ranks
    assert [done.stdout.count("epoch 2/2") for done in ranks] == [1, 0]
    first, second = (json.loads(done.stdout.splitlines()[-1]) for done in ranks)
    assert first == second and SearchResult.load(tmp_path / "run").processes == 2
    assert len(Signal.load(tmp_path / "run").trained) == 4
