"""Searches by trainings from scratch: signal, method, verdict. Trainings compute nothing here."""

import errno
import html
import json
import signal
from types import SimpleNamespace

import pytest
import trainings_driver as driver
import warm
from simulated_trainings import hash_of, of_genotype, of_nothing, simulate_trainings

from sase_attn import Genotype, genotypes
from sase_attn.commands.main import main
from sase_attn.search import SearchConfig, SearchResult, Signal, search
from sase_attn.search.by_trainings import search_by_trainings
from sase_attn.search.config import BY_TRAININGS
from sase_attn.search.helpers import helpers
from sase_attn.search.methods import METHODS
from sase_attn.search.result import FRESH_SEED
from sase_attn.training import Recipe

pytestmark = pytest.mark.usefixtures("one_thread")
TINY = ["--model-kwargs", "layers=[1,1,1]", "--size", "12", "--device", "cpu", "--signal", "0", "--train-epochs", "4"]


@pytest.fixture
def values(monkeypatch):
    return simulate_trainings(monkeypatch)


def command(folder, *arguments):
    return main(["search", *TINY, "--output", str(folder), *arguments])


def test_every_method_has_its_name():
    assert set(METHODS) == set(BY_TRAININGS)


@pytest.mark.parametrize("method", ["race", "tpe"])
def test_a_search_from_the_command_line(values, tmp_path, capsys, method):
    folder = tmp_path / "run"
    assert command(folder, "--method", method, "--trainings", "16", "--compare-seeds", "5") == 0
    out = capsys.readouterr().out
    result = SearchResult.load(folder)
    assert len(result.trained) == 16 and result.config["method"] == method and result.select == method
    assert result.found.channel_excite != "fc" and Genotype.load(folder / "genotype.json") == result.found
    comparison = json.loads((folder / "retrained" / "comparison.json").read_text())
    assert not {row.seed for row in result.trained}.intersection(comparison["seeds"])
    assert comparison["seeds"] == list(range(FRESH_SEED, FRESH_SEED + 5)) and comparison["recipe"]["epochs"] == 4
    assert {network["label"] for network in comparison["networks"]} >= {"plain", "found", "random-0"}
    page = (folder / "report.html").read_text()
    assert "Trainings" in page and result.reason in page and result.reason in out and "seed by seed" in page
    assert "Is there anything to find?" not in page and page.count("<svg") == 3
    (folder / "report.html").unlink()
    before = (folder / "result.json").read_text()
    assert main(["search", "--resume", str(folder), "--device", "cpu"]) == 0
    again = SearchResult.load(folder)
    assert (folder / "report.html").exists() and again.trained == result.trained and again.seconds == result.seconds
    assert json.loads(before).keys() == json.loads((folder / "result.json").read_text()).keys()


def test_it_has_decided_if_found_is_above_random_by_fresh_seeds(values, tmp_path):
    values[0] = lambda genotype, seed: of_genotype(genotype, 0) + seed % 2 / 10
    folder = tmp_path / "run"
    options = ["--method", "random", "--trainings", "14", "--compare-random", "9", "--compare-seeds"]
    assert command(folder, *options, "4") == 0
    few = SearchResult.load(folder)
    assert not few.decided and few.reason == "the found block was not compared with random ones by 5 seeds or more"
    assert command(folder, *options, "5") == 0
    enough = SearchResult.load(folder)
    assert enough.decided and enough.reason.startswith("the found block is better than random ones: +")
    values[0] = lambda genotype, seed: 60.0 + (hash_of(genotype) + seed) % 3
    assert command(tmp_path / "luck", *options, "5") == 0
    assert not SearchResult.load(tmp_path / "luck").decided


def test_a_search_that_goes_on_may_find_another_block(values, tmp_path):
    """The comparison of the first one is set aside, and decides nothing any more."""
    folder = tmp_path / "run"
    values[0] = lambda genotype, seed: 60.0 + hash_of(genotype) % 97 / 10 + seed % 2 / 10
    options = ["--method", "random", "--compare-random", "9", "--compare-seeds", "5", "--trainings"]
    assert command(folder, *options, "1") == 0
    first = SearchResult.load(folder)
    recipe = folder / "retrained" / "found-seed1000" / "recipe.json"
    recipe.parent.mkdir()
    recipe.write_text(Recipe(model_kwargs={"attn": first.genotype}).to_json())
    assert command(folder, *options, "1", "--no-compare") == 0  # the verdict stays
    assert SearchResult.load(folder).reason == first.reason and "random" in first.reason
    assert command(folder, *options, "16", "--no-compare") == 0
    more = SearchResult.load(folder)
    assert more.found != first.found and "was not compared" in more.reason
    assert command(folder, *options, "16") == 0
    assert (folder / "retrained-before1" / "found-seed1000").exists() and SearchResult.load(folder).decided


def test_where_there_is_nothing_to_find_the_published_block_stays(values, tmp_path, capsys):
    values[0] = of_nothing
    folder = tmp_path / "run"
    assert command(folder, "--method", "race", "--signal", "28", "--trainings", "60", "--compare-seeds", "5") == 0
    result, saved = SearchResult.load(folder), json.loads((folder / "result.json").read_text())
    assert result.found == genotypes["sase"] == Genotype.load(folder / "genotype.json")
    assert saved["decided"] is False and saved["reason"].startswith("there is nothing to find in such trainings")
    assert len(result.trained) == 28 and json.loads((folder / "signal.json").read_text())["answer"] == "nothing to find"
    assert "not decided: there is nothing to find" in capsys.readouterr().out
    page, looked = (folder / "report.html").read_text(), Signal.load(folder)
    assert [html.escape(line) for line in looked.lines() if html.escape(line) not in page] == []
    headings = ("Is there anything to find?", "What each operation does", "The published block stays")
    assert all(f">{heading}<" in page for heading in headings)
    assert all(effect.operation in page for effect in looked.judged.effects) and "4 seeds" in page
    assert not (folder / "retrained").exists()
    options = ["--signal", "0", "--trainings", "32", "--compare-seeds", "5", "--device", "cpu"]
    assert main(["search", "--resume", str(folder), *options]) == 0  # asked to search all the same
    result = SearchResult.load(folder)
    assert len(result.trained) == 32 and not (folder / "signal.json").exists() and "of 1 random" in result.reason
    assert "The published block stays" not in (folder / "report.html").read_text()


def test_the_look_for_signal_is_the_first_rung(values, tmp_path):
    config = SearchConfig.get("quick").override(method="race", signal=28, trainings=40)
    result = search(config=config, output=tmp_path / "run", device="cpu", echo=lambda line: None)
    opening = [row for row in result.trained if row.seed == config.seed]
    assert len(result.trained) == 40 and len({row.genotype for row in opening}) == len(opening) < 28
    assert result.decided == (json.loads((tmp_path / "run" / "signal.json").read_text())["answer"] == "signal")


def test_a_storage_is_for_trainings(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["search", "--method", "darts", "--signal", "0", "--storage", "sqlite:///s.db"]) == 2
    assert "--storage: wanted a method that trains genotypes" in capsys.readouterr().err


def test_a_folder_belongs_to_its_search(values, tmp_path, capsys):
    folder = tmp_path / "run"
    assert command(folder, "--method", "random", "--trainings", "2", "--no-compare") == 0
    capsys.readouterr()
    for arguments, message in [
        (["--method", "race"], "another search: method (saved 'random', now 'race')"),
        (
            ["--method", "random", "--storage", f"sqlite:///{tmp_path}/s.db"],
            "wanted no --storage, got --storage sqlite:///",
        ),
        (["--method", "random", "--signal", "5"], "signal: budget: wanted 28 or more"),
        (["--method", "tpe", "--seeds", "2"], "--seeds: wanted 1 with tpe"),
        (["--method", "race", "--signal", "42"], "signal: wanted at most the 32 trainings in all, or 0"),
    ]:
        assert command(folder, *arguments, "--no-compare") in (1, 2)
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1
    assert command(folder, "--method", "random", "--trainings", "3", "--no-compare") == 0  # more, with those that are
    assert len(SearchResult.load(folder).trained) == 3
    with pytest.raises(ValueError, match="random trains networks by recipes: wanted no model"):
        search(space=object(), config=SearchConfig(method="random"), output=folder)
    with pytest.raises(ValueError, match="jobs: wanted 1 with a recipe of your own"):
        search_by_trainings(SearchConfig(method="random"), tmp_path / "new", recipe=Recipe(), jobs=2)
    with pytest.raises(FileNotFoundError, match="nothing to resume"):
        search(config=SearchConfig(method="random"), output=tmp_path / "new", resume=True)


def test_several_workers_are_started_at_once(values, tmp_path, monkeypatch, capsys):
    started = []

    class Process:
        returncode = 1

        def __init__(self, words, **more):
            assert (folder / "config.json").exists()
            started.append(words[3:])

        def wait(self):
            return self.returncode

    monkeypatch.setattr("sase_attn.search.helpers.subprocess", SimpleNamespace(Popen=Process, STDOUT=None))
    folder = tmp_path / "run"
    assert command(folder, "--method", "random", "--trainings", "2", "--no-compare", "--jobs", "3") == 0
    arguments = ["search", "--resume", str(folder), "--no-compare", "--device", "cpu"]
    assert started == [arguments] * 2
    assert f"a worker ended with code 1: see {folder / 'helper2.log'}" in capsys.readouterr().out


def test_where_a_worker_cannot_be_started_none_is_left(tmp_path, monkeypatch):
    done = []

    class Process:
        def __init__(self, words, **more):
            if done:
                raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
            done.append("started")

        def terminate(self):
            done.append("terminated")

        def wait(self):
            done.append("waited for")

    monkeypatch.setattr("sase_attn.search.helpers.subprocess", SimpleNamespace(Popen=Process, STDOUT=None))
    with (
        pytest.raises(OSError, match="temporarily unavailable"),
        helpers(tmp_path, 2, storage=None, device=None, echo=print),
    ):
        raise AssertionError("the context is not entered")
    assert done == ["started", "terminated", "waited for"]


def worker(folder, **options):
    return warm.Process([driver.__file__, json.dumps({"data": "embedded", "folder": str(folder)} | options)],
                        warm.environment())  # fmt: skip


@pytest.mark.parametrize("method", BY_TRAININGS)
def test_kill_and_resume(tmp_path, method):
    """A worker is killed in a training; the search that goes on ends with what an uninterrupted one has."""
    wanted = {"method": method, "trainings": 15, "signal": 0}
    killed = worker(tmp_path / "run", search=wanted, signal="kill", after=35)  # of 45 epochs
    assert killed.wait(60) == -signal.SIGKILL
    found = []
    for name in ("run", "alone"):
        process = worker(tmp_path / name, search=wanted)
        out, err = process.communicate(60)
        assert process.returncode == 0, err
        *lines, last = out.splitlines()
        found.append(json.loads(last))
        assert any("goes on, as its worker died" in line for line in lines) == (name == "run")
    assert found[0] == found[1] and len(found[0]["trained"]) == 15


def test_two_workers_have_one_result(tmp_path):
    wanted = {"method": "race", "trainings": 15, "signal": 0}
    both = [worker(tmp_path / "run", search=wanted, seconds=0.02) for _ in range(2)]
    ended = [process.communicate(60) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    first, second = (json.loads(out.splitlines()[-1]) for out, _ in ended)
    assert first == second and len(first["trained"]) == 15
    assert all("top-1" in out for out, _ in ended)
