"""Workers that share no folder, on one PostgreSQL: one is killed, one stands still, and a server that goes away."""

import json
import os
import shutil
import signal
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import postgresql
import pytest
import search_driver
import trainings_driver as driver
import warm
from checkout import ROOT

from sase_attn.search import SearchConfig, SearchResult
from sase_attn.search.space import SearchSpace
from sase_attn.search.trainings.ledger import Ledger
from sase_attn.search.trainings.storage import Storage, StorageError

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(postgresql.programs() is None, reason="no PostgreSQL here"),
    pytest.mark.skipif(not find_spec("psycopg2"), reason="no psycopg2 here"),
]


@pytest.fixture(scope="module")
def url():
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # a short path: that of a socket has 107 characters
    os.chmod(folder, 0o755)
    try:
        with postgresql.server(folder) as url:
            yield url
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return str(search_driver.image_folder(tmp_path_factory.mktemp("data") / "corners"))


def machine(data, home, url, count, **options):
    """A worker whose folder no other one sees."""
    options |= {"data": data, "folder": str(home / "search"), "count": count, "storage": url}
    home.mkdir(exist_ok=True)
    (home / "search").mkdir(exist_ok=True)
    path = os.pathsep.join([str(ROOT), *sys.path])  # wherever the driver of the database is
    return warm.Process([driver.__file__, json.dumps(options)], warm.environment(PYTHONPATH=path))


def ended(process):
    out, err = process.communicate(90)
    assert process.returncode == 0, err
    *lines, last = out.splitlines()
    return json.loads(last), lines


def test_machines_that_share_a_server_only(data, tmp_path, url):
    """One is killed and one stands still, both in a training; two on a third machine do all that is left."""
    options = {"seconds": 0.1, "lease": 2.0}
    lost = machine(data, tmp_path / "lost", url, 6, signal="kill", after=2, **options)
    still = machine(data, tmp_path / "still", url, 6, signal="stop", after=2, **options)
    others = [machine(data, tmp_path / "third", url, 6, **options) for _ in range(2)]
    results = [ended(other) for other in others]
    assert lost.wait(60) == -signal.SIGKILL
    still.send_signal(signal.SIGCONT)
    rows, lines = ended(still)
    assert "dropped, as this worker showed no life for its lease" in "".join(lines)
    ended_rows = [row for row, _ in results] + [rows]
    assert all(len(found) == 6 and found == rows for found in ended_rows)
    said = "".join(line for _, lines in results for line in lines)
    assert said.count("goes on, as its lease ran out") == 2
    space = search_driver.tiny(data, without=["gsop"]).search_space()
    trials = Ledger(tmp_path / "search", Storage(tmp_path, url), space).trials()
    assert sorted(trial.state.name for trial in trials if trial.user_attrs.get("given_up") != "another worker was first"
                  ) == ["COMPLETE"] * 6 + ["FAIL"] * 2  # fmt: skip
    alone, _ = ended(machine(data, tmp_path / "alone", None, 6))
    assert sorted(alone) == sorted(rows)


COMMAND = """
import sys
from sase_attn.commands.main import main
from sase_attn.search.by_trainings import search_by_trainings
search_by_trainings.__kwdefaults__["lease"] = 3.0  # of a minute
sys.exit(main(sys.argv[1:]))
"""


def test_the_command_with_a_folder_each_on_one_server(data, tmp_path, url):
    """`sase-attn search --storage` with real trainings: a worker is killed in one, and joins again at the end."""
    options = ["--method", "additive", "--signal", "0", "--trainings", "5", "--train-epochs", "3", "--no-compare"]
    options += ["--device", "cpu", "--data", data, "--model-kwargs", "layers=[1,1,1]", "--size", "12", "--storage", url]

    def search(name):
        words = ["-c", COMMAND, "search", *options, "--output", tmp_path / name / "command"]
        return warm.Process(words, warm.environment(PYTHONPATH=os.pathsep.join([str(ROOT), *sys.path])))

    lost, other, deadline = search("lost"), search("other"), time.monotonic() + 90
    while not list(tmp_path.glob("lost/command/trainings/*/checkpoint.pt")) and time.monotonic() < deadline:
        time.sleep(0.005)
    lost.send_signal(signal.SIGKILL)
    assert lost.wait(60) == -signal.SIGKILL
    both = {"lost": search("lost"), "other": other}
    outs = {name: process.communicate(300) for name, process in both.items()}
    assert [process.returncode for process in both.values()] == [0, 0], outs
    assert "goes on, as" in outs["lost"][0] + outs["other"][0] and url not in outs["lost"][1]
    found = [SearchResult.load(tmp_path / name / "command") for name in both]
    assert found[0].trained == found[1].trained and found[0].genotype == found[1].genotype
    assert len(found[0].trained) == 5 and all(row.top1 is not None for row in found[0].trained)
    assert len(list(tmp_path.glob("*/command/trainings/*/result.json"))) >= 5  # in one folder or the other
    space = SearchConfig.get("quick").search_space()
    states = [trial.state.name for trial in Ledger(tmp_path / "command", Storage(tmp_path, url), space).trials()]
    assert states.count("COMPLETE") == 5 and "RUNNING" not in states


def test_a_server_that_goes_away_is_one_line(tmp_path):
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    os.chmod(folder, 0o755)
    try:
        with postgresql.server(folder) as url:
            ledger = Ledger(tmp_path, Storage(tmp_path, url, patience=0.0), SearchSpace.get("release"))
            assert ledger.trials() == []
        with pytest.raises(StorageError, match="postgres does not answer: .+") as raised:
            ledger.trials()
        assert "\n" not in str(raised.value)
        with pytest.raises(StorageError, match="does not answer: connection to server .* refused"):
            Storage(tmp_path, url)
    finally:
        shutil.rmtree(folder)
