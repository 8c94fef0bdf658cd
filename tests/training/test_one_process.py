"""One process a run folder: a second one is refused at once, and what a dead one left is taken over."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import search_driver
import training_driver as driver
import warm

from sase_attn import lock, system_lock
from sase_attn.commands.failures import report
from sase_attn.commands.main import main
from sase_attn.lock import InUseError, NoLocksError, one_process, one_writer
from sase_attn.search import SearchConfig
from sase_attn.search.begun import begin
from sase_attn.search.trainings.journal_lock import JournalLock
from sase_attn.search.trainings.worker import Worker
from sase_attn.training import train

pytestmark = pytest.mark.usefixtures("one_thread")
DRIVER = str(Path(driver.__file__))
quiet = {"device": "cpu", "echo": lambda line: None}


def command(**options):
    return [DRIVER, json.dumps(options, default=str)]


def wait_for(path, timeout=60):
    deadline = time.monotonic() + timeout
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert path.exists()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def running(tmp_path):
    """(process, folder) of a training that takes its time."""
    folder = tmp_path / "run"
    process = warm.Process(command(output=folder, seconds=0.5), warm.environment())
    wait_for(folder / "recipe.json")
    yield process, folder
    if process.returncode is None:
        process.send_signal(signal.SIGKILL)
        process.wait(60)


def test_a_second_process_is_refused_at_once_and_a_dead_ones_lock_is_taken_over(running, tmp_path, capsys):
    process, folder = running
    (tmp_path / "link").symlink_to(folder)
    refused = rf"is in use by process {process.pid} on .*: wait for it, or name another"
    before = {name: (folder / name).read_bytes() for name in ("checkpoint.pt", "recipe.json")}
    for path in (folder, tmp_path / "link"):
        for resume in (False, True):
            with pytest.raises(InUseError, match=refused):
                train(driver.TINY, path, resume=resume, data=driver.data(driver.TINY), **quiet)
    assert main(["train", "--resume", "--output", str(folder), "--device", "cpu"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and f"{folder} is in use by process {process.pid}" in err
    assert {name: (folder / name).read_bytes() for name in before} == before
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    assert lock.NAME in names(folder)
    result = train(driver.TINY, folder, resume=True, data=driver.data(driver.TINY), **quiet)
    assert result.count == 24 and lock.NAME not in names(folder)


def test_of_many_that_start_at_once_on_a_fresh_folder_one_runs(tmp_path):
    folder = tmp_path / "new" / "run"
    started = [warm.Process(command(output=folder), warm.environment()) for _ in range(4)]
    ends = [(process.communicate(120), process.returncode) for process in started]
    assert sorted(code for _, code in ends) == [0, 1, 1, 1], ends
    for (_, err), code in ends:
        assert not code or "in use" in err.splitlines()[-1]
    assert {"result.json", "model"} <= set(names(folder)) and lock.NAME not in names(folder)


def test_searches_and_comparisons_have_their_folder_alone(running, tmp_path):
    from sase_attn.search import search
    from sase_attn.search.compare import compare

    _, folder = running
    data = search_driver.image_folder(tmp_path / "data")
    config = search_driver.tiny(data)
    for resume in (False, True):
        with pytest.raises(InUseError):
            search(config=config, output=folder, resume=resume, **quiet)
    space = config.search_space()
    with pytest.raises(InUseError):
        compare(folder, config, {"a": space.random(0)}, driver.TINY, seeds=[0], **quiet)
    several = ["search", "--recipe", "mended", "--data", str(data), "--seeds", "2", "--output", str(folder)]
    assert main([*several, "--device", "cpu"]) == 1


def test_ranks_fail_together_with_one_line(running):
    _, folder = running
    ranks = warm.run_ranks(2, "-m", "sase_attn", "train", "--output", folder, "--device", "cpu")
    assert [done.returncode for done in ranks] == [1, 1]
    said = [line for done in ranks for line in done.stderr.splitlines() if line.startswith("sase-attn: ")]
    assert len(said) == 1 and "is in use by process" in said[0]


def test_ranks_share_the_lock_of_one(tmp_path):
    recipe = {"epochs": 1, "warmup_epochs": 0}
    ranks = warm.run_ranks(2, *command(output=tmp_path / "run", recipe=recipe, group_norm=True))
    assert [done.returncode for done in ranks] == [0, 0], ranks
    assert lock.NAME not in names(tmp_path / "run")


def test_a_thread_may_enter_again_and_another_may_not(tmp_path):
    caught = []

    def enter():
        try:
            with one_process(tmp_path / "a"):
                caught.append(None)
        except InUseError as error:
            caught.append(str(error))

    with one_process(tmp_path / "a"):
        with one_process(tmp_path / "a"):
            pass
        assert names(tmp_path / "a") == [lock.NAME]
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        assert "in use by another thread" in caught[0]
    assert not (tmp_path / "a").exists()
    enter()
    assert caught[1] is None


def test_a_forked_child_does_not_keep_the_lock(tmp_path):
    """As worker processes that load images outlive a killed run for some seconds."""
    code = (
        "import os, pathlib, time; from sase_attn.lock import one_process\n"
        f"with one_process(pathlib.Path({str(tmp_path)!r})):\n"
        " child = os.fork()\n"
        " if not child: time.sleep(20); os._exit(0)\n"
        " print(child, flush=True); os.kill(os.getpid(), 9)"
    )
    done = warm.run("-c", code)
    assert done.returncode == -signal.SIGKILL and names(tmp_path) == [lock.NAME]
    child = int(done.stdout)
    try:
        os.kill(child, 0)  # it lives
        with one_process(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_where_nothing_may_be_written_there_is_no_lock(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(13, "Permission denied", str(arguments[0]))

    with monkeypatch.context() as patch:
        patch.setattr(lock.os, "open", refuse)
        with one_process(tmp_path), one_process(tmp_path):
            assert not names(tmp_path)


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(lock.errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(system_lock.fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match="this file system has no locks"), one_process(tmp_path):
        assert not names(tmp_path)


def test_several_workers_on_a_file_system_without_locks_are_told_in_one_line(tmp_path, monkeypatch, capsys):
    def refuse(*arguments):
        raise OSError(lock.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(system_lock.fcntl, "flock", refuse)
    users = {
        tmp_path: lambda: begin(tmp_path / "run", SearchConfig(), None, {}),
        tmp_path / "journal": JournalLock(tmp_path / "journal").acquire,
        tmp_path / "workers": Worker(None, tmp_path, 60.0).__enter__,
    }
    (tmp_path / "journal").mkdir()
    for folder, user in users.items():
        with pytest.raises(NoLocksError) as raised:
            user()
        report(raised.value)
        wanted = f"sase-attn: error: {folder}: this file system has no locks, which several processes need: wanted a "
        assert capsys.readouterr().err == f"{wanted}folder on another one\n"
        assert not [path for path in folder.iterdir() if path.is_file()]


def test_what_is_published_is_written_by_one(tmp_path, capsys):
    target = tmp_path / "tiled"
    code = (
        "import sys, time, pathlib; from sase_attn.lock import one_writer\n"
        f"with one_writer(pathlib.Path({str(target)!r})): print('held', flush=True); time.sleep(60)"
    )
    process = warm.Process(["-c", code], warm.environment())
    wait_for(tmp_path / ".tiled.lock")
    while "held" not in process.out.read_text():
        time.sleep(0.01)
    flags = ["--no-pretrained", "-o", str(target)]
    assert main(["tile", "seresnet18", *flags]) == 1
    assert f"{target} is in use by process {process.pid}" in capsys.readouterr().err
    assert main(["push", "x", "--model", "sase_resnet20", "--save-to", str(target)]) == 1
    assert "in use by process" in capsys.readouterr().err
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    with one_writer(target):
        pass
    assert not names(tmp_path)


class NoFirstBatch(driver.Synthetic):
    def epoch(self, epoch, start=0):
        raise MemoryError("a batch of 10 GB")


def test_a_run_that_fails_before_its_first_step_leaves_nothing(tmp_path):
    _, test_batches, info = driver.data(driver.TINY)
    broken = (NoFirstBatch(32, 8), test_batches, info)
    with pytest.raises(MemoryError):
        train(driver.TINY, tmp_path / "new" / "run", data=broken, **quiet)
    assert not names(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MemoryError):
        train(driver.TINY, tmp_path / "empty", data=broken, **quiet)
    assert names(tmp_path) == ["empty"] and not names(tmp_path / "empty")


@pytest.mark.parametrize(("layers", "words"), [([], "AttributeError: .*'layer1'"), ([0, 0, 0], "mat1 and mat2 shapes")])
def test_a_network_that_does_not_fit_the_images_is_one_line(layers, words, tmp_path):
    recipe = driver.TINY.override(model_kwargs={"layers": layers})
    with pytest.raises(ValueError, match=rf"cannot take its first step .*: {words}"):
        train(recipe, tmp_path / "run", data=driver.data(recipe), **quiet)
    assert not names(tmp_path)


def test_what_a_killed_start_left_is_no_run(tmp_path):
    (tmp_path / ".lock").write_text("process 1 on nowhere")
    (tmp_path / "log.jsonl").touch()
    (tmp_path / ".checkpoint.pt.0123abcd.tmp").write_bytes(b"half")
    recipe = driver.TINY.override(epochs=1, warmup_epochs=0)
    assert train(recipe, tmp_path, data=driver.data(recipe), **quiet).count == 24
    assert not [name for name in names(tmp_path) if name.startswith(".")]


@pytest.mark.parametrize("written", ["checkpoint.pt", "model"])
def test_a_resume_removes_what_a_kill_during_a_write_left(written, tmp_path):
    kill = {
        "checkpoint.pt": "written = []\ndef killed(file):\n"
        " written.extend(['checkpoint.pt'] * ('.checkpoint.pt.' in os.readlink(f'/proc/self/fd/{file}')))\n"
        " if len(written) == 2: os.kill(os.getpid(), 9)\nfiles.os.fsync = killed\n",
        "model": "share.folder.write_model = lambda *arguments: os.kill(os.getpid(), 9)\n",
    }
    code = (
        "import os, sys\n"
        f"sys.path.insert(0, {str(Path(DRIVER).parent)!r})\n"
        "import training_driver as driver\nfrom sase_attn import files, share\n"
        "import sase_attn.share.folder\nfrom sase_attn.training import train\n"
        + kill[written]
        + "recipe = driver.TINY\n"
        f"train(recipe, {str(tmp_path / 'run')!r}, data=driver.data(recipe), device='cpu')"
    )
    killed = warm.run("-c", code)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = [name for name in names(tmp_path / "run") if name.endswith(".tmp")]
    assert len(left) == 1 and left[0].startswith(f".{written}."), names(tmp_path / "run")
    train(driver.TINY, tmp_path / "run", resume=True, data=driver.data(driver.TINY), **quiet)
    assert not [name for name in names(tmp_path / "run") if name.startswith(".")]


def test_a_link_to_nowhere_is_no_folder_of_a_run(tmp_path):
    (tmp_path / "run").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"run is a link to .*nowhere, which does not exist: make it"):
        train(driver.TINY, tmp_path / "run", data=driver.data(driver.TINY), **quiet)
    assert names(tmp_path) == ["run"]


def test_a_run_begun_by_a_link_goes_on_by_its_folder_and_the_other_way_round(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    killed = warm.run(*command(output=tmp_path / "link", kill=(1, 1), recipe={"checkpoint_every": 1}))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    recipe = driver.TINY.override(checkpoint_every=1)
    result = train(recipe, tmp_path / "folder", resume=True, data=driver.data(driver.TINY), **quiet)
    by_link = train(recipe, tmp_path / "link", resume=True, data=driver.data(driver.TINY), **quiet)
    assert (by_link.top1, by_link.loss) == (result.top1, result.loss)
    assert (tmp_path / "link").is_symlink() and names(tmp_path) == ["folder", "link"]
    assert not [name for name in names(tmp_path / "folder") if name.startswith(".")]
