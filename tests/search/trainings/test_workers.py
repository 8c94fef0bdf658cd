"""Several workers on one search: one is killed, one stands still, two want the same."""

import json
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import search_driver
import trainings_driver as driver
import warm
from checkout import ROOT

from sase_attn.search.compare import default_recipe
from sase_attn.search.trained import Training
from sase_attn.search.trainings.journal_lock import JournalLock
from sase_attn.search.trainings.ledger import Ledger
from sase_attn.search.trainings.recipe import training_recipe
from sase_attn.search.trainings.storage import Storage
from sase_attn.search.trainings.worker import Watch
from sase_attn.training import train

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return str(search_driver.image_folder(tmp_path_factory.mktemp("data") / "corners"))


def worker(data, folder, count, **options):
    options |= {"data": data, "folder": str(folder), "count": count}
    return warm.Process([driver.__file__, json.dumps(options)], warm.environment())


def ended(process):
    """The rows that a worker has at its end, and its lines."""
    out, err = process.communicate(60)
    assert process.returncode == 0, err
    *lines, last = out.splitlines()
    return json.loads(last), lines


def expected(config, recipe, count):
    """What one worker alone gets."""
    found = []
    for training in driver.Pairs(config, count).wanted([]):
        train = driver.Counting()
        folder = Path(recipe) / f"{len(found)}"
        made = train(SimpleNamespace(model_kwargs={"attn": str(training.genotype)}, seed=training.seed, epochs=3),
                     folder, resume=False, echo=lambda line: None)  # fmt: skip
        found.append([str(training.genotype), training.seed, made.top1, made.loss])
    return found


def folders(folder):
    return sorted(path.name for path in (folder / "trainings").iterdir())


def test_a_killed_worker_loses_nothing(data, tmp_path):
    """By the real `train`: another worker takes the training over at once, and its numbers are those of one."""
    folder = tmp_path / "s"
    killed = worker(data, folder, 1, real=True, signal="kill", after=2)
    assert killed.wait(60) == -signal.SIGKILL
    log = (folder / "trainings").glob("*/log.jsonl")
    assert [len(path.read_text().splitlines()) > 1 for path in log] == [True]
    [row], lines = ended(worker(data, folder, 1, real=True))
    assert "goes on, as its worker died" in lines[0]
    config = search_driver.tiny(data, model_kwargs={"layers": [1, 1, 1]}, without=["gsop"])
    recipe = default_recipe(config, 3).override(batch_size=36)
    [training] = driver.Pairs(config, 1).wanted([])
    alone = train(training_recipe(config, recipe, training), tmp_path / "one", device="cpu", echo=lambda line: None)
    assert row == [str(training.genotype), 0, alone.top1, alone.loss]
    [name] = folders(folder)
    kept, whole = (path / "log.jsonl" for path in (folder / "trainings" / name, tmp_path / "one"))
    epochs = [[json.loads(line).get("test_loss") for line in file.read_text().splitlines()] for file in (kept, whole)]
    assert epochs[0] == epochs[1]


def test_a_worker_that_stands_still_is_overtaken_and_says_so(data, tmp_path):
    """Its training goes on in another folder, as it may write to its own when it wakes."""
    folder = tmp_path / "s"
    still = worker(data, folder, 1, signal="stop", after=1, lease=1.0)
    wait_for(lambda: list(folder.glob("trainings/*/checkpoint.pt")))
    rows, lines = ended(worker(data, folder, 1, lease=1.0))
    assert "goes on, as its lease ran out" in "".join(lines)
    still.send_signal(signal.SIGCONT)
    again, said = ended(still)
    config = search_driver.tiny(data, without=["gsop"])
    assert rows == again == expected(config, tmp_path / "alone", 1)
    assert "dropped, as this worker showed no life for its lease" in said[0]
    first, second = folders(folder)
    assert second == f"{first}-again1"
    epochs = [(folder / "trainings" / name / "log.jsonl").read_text().split() for name in (first, second)]
    assert len(epochs[1]) == 3 * 3 and epochs[1][:3] == epochs[0][:3]  # it went on from the other's checkpoint


def wait_for(what, seconds=60):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_workers_share_the_work_and_one_is_killed(data, tmp_path):
    folder = tmp_path / "s"
    killed = worker(data, folder, 6, seconds=0.05, signal="kill", after=5)
    others = [worker(data, folder, 6, seconds=0.05) for _ in range(2)]
    results = [ended(other) for other in others]
    assert killed.wait(60) == -signal.SIGKILL
    config = search_driver.tiny(data, without=["gsop"])
    wanted = sorted(expected(config, tmp_path / "alone", 6))
    assert [sorted(rows) for rows, _ in results] == [wanted, wanted]
    assert all(any("top-1" in line for line in lines) for _, lines in results)
    assert len(folders(folder)) == 6


def test_ranks_are_one_worker(data, tmp_path):
    options = {"data": data, "folder": str(tmp_path / "s"), "count": 3}
    done = warm.run_ranks(2, driver.__file__, json.dumps(options))
    assert [process.returncode for process in done] == [0, 0], done[0].stderr + done[1].stderr
    first, second = (json.loads(process.stdout.splitlines()[-1]) for process in done)
    assert first == second and len(first) == 3
    assert done[0].stdout.count("top-1") == 3 and "top-1" not in done[1].stdout


def test_of_two_trials_of_one_training_the_first_is_done(tmp_path, data):
    space = search_driver.tiny(data).search_space()
    first, second = (Ledger(tmp_path, Storage(tmp_path), space) for _ in range(2))
    training = Training(space.random(0), 0)
    claims = []

    def late(method, *arguments, **options):  # the other worker claims when this one has looked
        if method == "create_new_trial":
            first._storage.use = use
            claims.append(second.claim(training))
        return use(method, *arguments, **options)

    use, first._storage.use = first._storage.use, late
    assert first.claim(training) is None and claims == [0]
    assert [trial.state.name for trial in first.trials()] == ["RUNNING", "FAIL"]
    assert second.finish(0, 50.0, 1.0) and not first.finish(0, 60.0, 1.0)
    assert [row.top1 for row in first.rows(first.trials())] == [50.0]
    assert first.claim(training) is None  # it has ended


def running(trial, beat, lease=10.0):
    return SimpleNamespace(_trial_id=trial, user_attrs={"beat": beat, "lease": lease})


def test_a_lease_runs_from_the_last_beat_by_the_watchers_clock():
    watch, over = Watch(), []
    for second in range(0, 40, 2):
        beats = [running(0, second), running(1, 7), running(2, min(second, 20)), running(3, 0, lease=30.0)]
        over.append(watch.look(beats, 1000.0 + second))
    assert over[:6] == [set()] * 6 and over[6] == {1} and over[15] == {1} and over[16] == {1, 2, 3}


def test_a_watch_that_was_away_gives_leases_anew():
    watch = Watch()
    assert watch.look([running(0, 1)], 0.0) == watch.look([running(0, 1)], 4.0) == set()
    assert watch.look([running(0, 1)], 100.0) == set()  # stopped itself: the others were, perhaps
    assert [bool(watch.look([running(0, 1)], 100.0 + n)) for n in (4.0, 8.0, 11.0)] == [False, False, True]


def test_a_journal_whose_lock_stands_still_goes_on(tmp_path):
    holder, other = JournalLock(tmp_path), JournalLock(tmp_path, patience=0.1)
    assert holder.acquire() and other.acquire()
    holder.release()
    assert (tmp_path / "journal.lock").exists()  # it is the other's
    other.release()
    assert not (tmp_path / "journal.lock").exists()


def test_a_worker_killed_while_it_writes_the_journal_does_not_stop_others(data, tmp_path):
    options = json.dumps({"data": data, "folder": str(tmp_path / "s"), "count": 0})
    start = f"import runpy, sys; sys.argv = ['', {options!r}]; runpy.run_path({driver.__file__!r}, run_name='__main__')"
    support = warm.environment(PYTHONPATH=os.pathsep.join([str(ROOT), str(Path(driver.__file__).parent)]))
    killed = warm.run("-c", f"import os; os.fsync = lambda file: os.kill(os.getpid(), 9); {start}", env=support)
    assert killed.returncode == -signal.SIGKILL and (tmp_path / "s" / "journal.log").exists()
    assert ended(worker(data, tmp_path / "s", 0)) == ([], [])
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["journal.log", "workers"]
