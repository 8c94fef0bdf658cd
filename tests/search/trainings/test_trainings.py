"""What a plan wants is trained, once each, and a training that fails is a row too."""

import math
import sys

import pytest
import search_driver
import trainings_driver as driver

from sase_attn.comparison.networks import PLAIN
from sase_attn.search.compare import compare, default_recipe
from sase_attn.search.trained import Trained, Training
from sase_attn.search.trainings import run
from sase_attn.search.trainings.ledger import Ledger
from sase_attn.search.trainings.recipe import training_recipe
from sase_attn.search.trainings.run import run_trainings
from sase_attn.search.trainings.storage import Storage
from sase_attn.training import Recipe
from sase_attn.training.data import DataIdentity

CONFIG = search_driver.tiny("nowhere", model_kwargs={"layers": [1, 1, 1]}, without=["gsop"])
RECIPE = default_recipe(CONFIG, 1)


class Numbers:
    """Takes the place of `train`: each training's number as its accuracy, or an error where its number is listed."""

    def __init__(self, errors=()):
        self.errors, self.folders = dict(errors), []

    def __call__(self, recipe, output, **options):
        self.folders.append(output.name)
        error = self.errors.get(len(self.folders) - 1)
        if error is not None:
            raise error
        return driver.result(float(len(self.folders)), 1.0)


@pytest.fixture
def training(monkeypatch):
    """Trainings that compute nothing."""

    def replace(errors=()):
        made = Numbers(errors)
        monkeypatch.setattr(run, "train", made)
        return made

    monkeypatch.setattr(run, "check_start", lambda recipes, device: DataIdentity())
    return replace


def trained(folder, count, config=CONFIG, recipe=RECIPE, **options):
    options = {"device": "cpu", "echo": lambda line: None} | options
    return run_trainings(driver.Pairs(config, count), config, recipe, folder, **options)


def test_it_goes_on_where_it_was(training, tmp_path):
    made, lines = training(), []
    first = trained(tmp_path / "s", 2)
    more = trained(tmp_path / "s", 3, echo=lines.append)
    assert [row.top1 for row in more] == [1, 2, 3] and more[:2] == first and len(lines) == len(set(made.folders)) - 2
    assert [row.training for row in more] == driver.Pairs(CONFIG, 3).wanted([])
    assert trained(tmp_path / "s", 3) == more and len(made.folders) == 3
    assert "seed 1: top-1 3.00 %" in lines[0]


def test_a_training_is_that_of_the_comparison_at_the_end(tmp_path, monkeypatch):
    """So that its row may stand beside those of the verdict."""
    runs = {}

    def keep(found, **options):
        runs.update({folder.name: recipe for recipe, folder in found})
        raise KeyboardInterrupt

    monkeypatch.setattr("sase_attn.comparison.run.train_all", keep)
    monkeypatch.setattr("sase_attn.comparison.run.check_start", lambda recipes, device: None)
    genotype = CONFIG.search_space().random(0)
    (tmp_path / "s").mkdir()
    with pytest.raises(KeyboardInterrupt):
        compare(tmp_path / "s", CONFIG, {"found": genotype}, RECIPE, seeds=[3], device="cpu")
    made = training_recipe(CONFIG, RECIPE, Training(genotype, 3))
    assert made == runs["found-seed3"] and made.model_kwargs["gain"] == "unit"
    assert made.start_as == {"model": runs[f"{PLAIN}-seed3"].model, **runs[f"{PLAIN}-seed3"].model_kwargs}


def test_one_that_fails_is_a_row(training, tmp_path):
    errors = {0: FloatingPointError("loss is nan\nat epoch 1"), 2: MemoryError(), 3: RuntimeError("no kernel")}
    made, lines = training(errors), []
    rows = trained(tmp_path / "s", 5, echo=lines.append)
    assert [row.failed for row in rows] == [True, False, True, True, False] and len(made.folders) == 5
    assert rows[0] == Trained(rows[0].training, 0.0, math.inf)
    assert lines[0].endswith("seed 0: failed: FloatingPointError: loss is nan at epoch 1")
    ledger = Ledger(tmp_path / "s", Storage(tmp_path / "s"), CONFIG.search_space())
    failed = {trial.number: trial.user_attrs["error"] for trial in ledger.trials() if trial.state.name == "FAIL"}
    assert failed == {0: "FloatingPointError: loss is nan at epoch 1", 2: "MemoryError", 3: "no kernel"}
    assert trained(tmp_path / "s", 5) == rows and len(made.folders) == 5  # nothing is left to do


def test_a_loss_that_is_no_number_is_a_failure(training, tmp_path, monkeypatch):
    training()
    monkeypatch.setattr(run, "train", lambda recipe, folder, **options: driver.result(50.0, math.nan))
    assert [row.failed for row in trained(tmp_path / "s", 1)] == [True]


@pytest.mark.parametrize("stopped", [KeyboardInterrupt(), OSError(28, "No space left on device", "checkpoint.pt")])
def test_one_that_was_stopped_goes_on_in_its_folder(training, tmp_path, stopped):
    made, lines = training({0: stopped}), []
    with pytest.raises(type(stopped)):
        trained(tmp_path / "s", 1)
    assert [row.top1 for row in trained(tmp_path / "s", 1, echo=lines.append)] == [2]
    assert len(set(made.folders)) == 1 and lines[0].endswith("goes on, as it was stopped")


def test_a_worker_of_which_nothing_comes_ends(training, tmp_path):
    made = training(dict.fromkeys(range(1, 9), RuntimeError("broken")))
    with pytest.raises(RuntimeError, match="broken"):
        trained(tmp_path / "s", 9)
    assert len(made.folders) == 4
    training(dict.fromkeys(range(9), FloatingPointError("diverged")))  # each is one of its own
    assert [row.failed for row in trained(tmp_path / "t", 5)] == [True] * 5


def test_no_more_run_at_a_time_than_are_wanted(training, tmp_path, monkeypatch):
    """What others train counts, though it is wanted no longer: the budget of a plan would be exceeded."""
    made, space = training(), CONFIG.search_space()
    (tmp_path / "s").mkdir()
    other = Ledger(tmp_path / "s", Storage(tmp_path / "s"), space)
    theirs = Training(space.random(7), 0)
    trial = other.claim(theirs, worker="elsewhere", lease=60.0)

    def end(seconds):
        assert not made.folders and other.finish(trial, 7.0, 1.0)

    monkeypatch.setattr("sase_attn.search.trainings.desk.time.sleep", end)
    lines = []
    rows = trained(tmp_path / "s", 1, echo=lines.append)
    assert lines[0] == "waiting for 1 training of other workers" and [row.training for row in rows][0] == theirs
    assert len(made.folders) == 1


def test_another_search_is_refused(training, tmp_path, monkeypatch):
    training()
    trained(tmp_path / "s", 0)
    with pytest.raises(ValueError, match="has another space: name another folder"):
        trained(tmp_path / "s", 1, CONFIG.override(without=[]))
    with pytest.raises(ValueError, match=r"another recipe: epochs \(saved 1, now 2\); name another output folder"):
        trained(tmp_path / "s", 1, recipe=RECIPE.override(epochs=2))
    with pytest.raises(ValueError, match="another recipe: model_kwargs "):
        trained(tmp_path / "s", 1, CONFIG.override(after=["layer1.*.bn2"]))
    assert trained(tmp_path / "s", 0, recipe=RECIPE.override(workers=1)) == []
    monkeypatch.setattr(run, "check_start", lambda recipes, device: DataIdentity(train_count=25))
    with pytest.raises(ValueError, match="s has other data: 25 training images, .*; name another folder"):
        trained(tmp_path / "s", 1)


@pytest.mark.parametrize(
    "content", [b"x\n", b'{"op_code": 99}\n', b"[]\n", b"\xff\x00\n", b'{"op_code": 0}\n', b"null\n"]
)
def test_a_damaged_journal_is_one_line(training, tmp_path, content):
    training()
    (tmp_path / "journal.log").write_bytes(content)
    with pytest.raises(ValueError, match=r"journal\.log is no whole journal of a search: .+"):
        trained(tmp_path, 1)


@pytest.mark.parametrize(
    ("url", "kind", "message"),
    [
        ("journal", ValueError, "storage: wanted a URL as postgresql://user@host/database or .*, got 'journal'"),
        ("postgres://localhost/s", ValueError, "storage: wanted a URL as postgresql://.*got 'postgres://localhost/s'"),
        ("sqlite:///no/such/folder/s.db", OSError, "s.db does not answer: unable to open database file"),
        ("mysql+nodriver://me:secret@host/s", ValueError, r"got 'mysql\+nodriver://me:\*\*\*@host/s'"),
    ],
)
def test_a_storage_that_cannot_be_is_one_line(training, tmp_path, url, kind, message):
    training()
    with pytest.raises(kind, match=message) as raised:
        trained(tmp_path / "s", 1, storage=url)
    assert "\n" not in str(raised.value)


def test_a_driver_that_is_missing_is_named(training, tmp_path, monkeypatch):
    training()
    for name in ("psycopg", "psycopg2"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr("sase_attn.search.trainings.storage.find_spec", lambda name: name == "optuna")
    with pytest.raises(ImportError, match=r'localhost/s needs psycopg2: pip install "sase-attn\[postgresql\]"$'):
        trained(tmp_path / "s", 1, storage="postgresql://me:secret@localhost/s")


def test_a_database_holds_several_searches(training, tmp_path):
    training()
    url = f"sqlite:///{tmp_path / 'all.db'}"
    first, second = (trained(tmp_path / name, count, storage=url) for name, count in (("one", 2), ("two", 3)))
    assert len(first) == 2 and len(second) == 3 and not list(tmp_path.glob("*/journal.log"))
    assert trained(tmp_path / "one", 2, storage=url) == first


def test_a_recipe_from_weights_keeps_the_gain(tmp_path):
    made = training_recipe(CONFIG, Recipe(init_from="pretrained"), Training(CONFIG.search_space().random(0), 0))
    assert "gain" not in made.model_kwargs
