"""A run and a search go on with their own data only: where they lie does not matter."""

import json
import os
import shutil
import signal
from types import SimpleNamespace

import pytest
import search_driver
import torch
import warm
from PIL import Image
from safetensors import safe_open

from sase_attn.comparison import compare
from sase_attn.search import SearchResult, search
from sase_attn.search.compare import default_recipe
from sase_attn.search.seeds import search_seeds
from sase_attn.search.shared_weights.checkpoint import SearchProgress
from sase_attn.search.trainings.run import run_trainings
from sase_attn.training import Recipe, train
from sase_attn.training.checkpoint import Checkpoint, save_checkpoint
from sase_attn.training.data.folder import scan

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = Recipe(model="resnet20_cifar", model_kwargs={"layers": [1, 1, 1]}, epochs=2, batch_size=16, augment="none")


def quiet(line):
    pass


def rename_a_class(folder):
    for split in ("train", "val"):
        (folder / split / "c").rename(folder / split / "zebra")


def add_an_image(folder):
    Image.new("RGB", (12, 12)).save(folder / "train" / "a" / "new.png")


CHANGES = [
    (rename_a_class, "classes differ: zebra in the data but not in what was saved, c in"),
    (add_an_image, "cannot resume with other data: 25 training images, saved with 24; give back the data, or name"),
]


def begun(folder, output):
    """A run that stands behind its first epoch."""

    def stop(line):
        if "epoch 1/2" in line:
            raise KeyboardInterrupt

    recipe = SMALL.override(data=str(folder))
    with pytest.raises(KeyboardInterrupt):
        train(recipe, output, device="cpu", echo=stop)
    return recipe


@pytest.fixture
def images(tmp_path):
    return search_driver.image_folder(tmp_path / "images", train=8, test=4)


@pytest.mark.parametrize("change, message", CHANGES)
def test_a_run_is_not_resumed_with_other_data(images, tmp_path, change, message):
    recipe = begun(images, tmp_path / "run")
    change(images)
    with pytest.raises(ValueError, match=message):
        train(recipe, tmp_path / "run", resume=True, device="cpu", echo=quiet)


def test_a_moved_folder_is_resumed_and_recorded(images, tmp_path):
    recipe = begun(images, tmp_path / "run")
    identity = scan(images).identity
    images.rename(tmp_path / "moved")
    moved = recipe.override(data=str(tmp_path / "moved"))
    result = train(moved, tmp_path / "run", resume=True, device="cpu", echo=quiet)
    assert result.data == identity
    with safe_open(tmp_path / "run" / "best.safetensors", framework="pt") as file:
        assert tuple(json.loads(file.metadata()["data"])["classes"]) == identity.classes
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["data"]["train_count"] == 24
    assert json.loads((tmp_path / "run" / "result.json").read_text())["data"]["train_digest"] == identity.train_digest
    # What has finished is given back, but not for other data.
    assert train(moved, tmp_path / "run", resume=True, device="cpu", echo=quiet) == result
    shutil.copytree(tmp_path / "moved", tmp_path / "copy")
    copy = recipe.override(data=str(tmp_path / "copy"))
    assert train(copy, tmp_path / "run", resume=True, device="cpu", echo=quiet) == result
    add_an_image(tmp_path / "copy")
    with pytest.raises(ValueError, match="25 training images, saved with 24"):
        train(copy, tmp_path / "run", resume=True, device="cpu", echo=quiet)


@pytest.mark.parametrize("change, message", CHANGES)
def test_a_search_is_not_resumed_with_other_data(images, tmp_path, change, message):
    def stop(line):
        if "epoch 1/2" in line:
            raise KeyboardInterrupt

    config = search_driver.tiny(images, order=1, without=["gsop"], batch_size=12, log_every=0)
    with pytest.raises(KeyboardInterrupt):
        search(config=config, output=tmp_path / "run", device="cpu", echo=stop)
    shutil.copytree(images, tmp_path / "copy")
    change(images)
    with pytest.raises(ValueError, match=message):
        search(config=config, output=tmp_path / "run", resume=True, device="cpu", echo=quiet)
    moved = config.override(data=str(tmp_path / "copy"))
    result = search(config=moved, output=tmp_path / "run", resume=True, device="cpu", echo=quiet)
    assert result.data == scan(tmp_path / "copy").identity == SearchResult.load(tmp_path / "run").data
    change(tmp_path / "copy")
    with pytest.raises(ValueError, match=message):
        result.scorer()


def test_a_search_by_trainings_goes_on_with_its_own_data_only(images, tmp_path, monkeypatch):
    monkeypatch.setattr("sase_attn.search.trainings.run.train", lambda *made, **more: None)
    config = search_driver.tiny(images, without=["gsop"])
    plan, recipe = SimpleNamespace(wanted=lambda done: []), default_recipe(config, 1)
    run_trainings(plan, config, recipe, tmp_path / "s", device="cpu", echo=quiet)
    add_an_image(images)
    wanted = "search in .* has other data: 25 training images, saved with 24; name another folder"
    with pytest.raises(ValueError, match=wanted):
        run_trainings(plan, config, recipe, tmp_path / "s", device="cpu", echo=quiet)


def test_runs_of_different_data_are_not_compared(images, tmp_path):
    recipe = SMALL.override(data=str(images), epochs=1)
    networks = {"plain": {}, "other": {"model_kwargs": {"layers": [2, 1, 1]}}}
    alone = {"plain": {}}
    compare(alone, recipe, tmp_path / "c", seeds=[0], device="cpu", echo=quiet)
    add_an_image(images)
    with pytest.raises(ValueError, match=r"other-seed0 is of other data than .*plain-seed0: 25 training images, saved"):
        compare(networks, recipe, tmp_path / "c", seeds=[0], device="cpu", echo=quiet)


def test_ctrl_c_in_the_last_evaluation_of_a_training_ends_the_comparison(images, tmp_path):
    networks = {"plain": {}, "other": {"model_kwargs": {"layers": [2, 1, 1]}}}
    lines = []

    def interrupt(line):
        lines.append(line)
        if "epoch 1/1" in line:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        compare(networks, SMALL.override(data=str(images), epochs=1), tmp_path / "c", seeds=[0], device="cpu",
                echo=interrupt)  # fmt: skip
    assert lines[-2] == "stopped after the last epoch, with its result; go on with" and "--resume" in lines[-1]
    assert (tmp_path / "c" / "plain-seed0" / "result.json").exists() and not (tmp_path / "c" / "other-seed0").exists()


def test_seeds_of_different_data_do_not_agree(images, tmp_path, monkeypatch):
    before = scan(images).identity
    add_an_image(images)
    of = {"seed0": before, "seed1": scan(images).identity}
    monkeypatch.setattr("sase_attn.search.seeds.run_in_subprocess", lambda *arguments, **options: None)
    monkeypatch.setattr(
        "sase_attn.search.seeds.SearchResult.load",
        lambda folder: SimpleNamespace(output=str(folder), data=of[folder.name], genotype="sase", seconds=1.0),
    )
    with pytest.raises(ValueError, match=r"seed1 is of other data than .*seed0: 25 training images, saved with 24"):
        search_seeds(search_driver.tiny(images), tmp_path / "s", [0, 1], echo=quiet)


def test_searches_of_several_seeds_go_on_with_their_own_settings(images, tmp_path, monkeypatch):
    config, folder, started = search_driver.tiny(images), tmp_path / "s" / "seed0", []
    folder.mkdir(parents=True)
    save_checkpoint(folder, Checkpoint(config, SearchProgress(), {}), "config")
    monkeypatch.setattr(
        "sase_attn.search.seeds.run_in_subprocess", lambda arguments, *others, **options: started.append(arguments)
    )
    monkeypatch.setattr(
        "sase_attn.search.seeds.SearchResult.load",
        lambda folder: SimpleNamespace(output=str(folder), data=scan(images).identity, genotype="sase", seconds=1.0),
    )
    search_seeds(config.override(select="score", candidates=3), tmp_path / "s", [0], echo=quiet)
    assert started == [["search", "--no-compare", "--resume", str(folder), "--select", "score", "--candidates", "3"]]
    with pytest.raises(ValueError, match=r"cannot resume with another search: epochs \(saved 2, now 3\)"):
        search_seeds(config.override(epochs=3), tmp_path / "s", [0], echo=quiet)
    assert len(started) == 1


def test_other_data_on_one_rank_end_all_ranks(images, tmp_path):
    """As where each machine has a disk of its own: the others are not left waiting."""
    begun(images, tmp_path / "run")
    script = tmp_path / "ranks.py"
    script.write_text(
        "import os, sys\n"
        "from sase_attn.commands.main import main\n"
        f"place = {str(images)!r} + ('-elsewhere' if os.environ['RANK'] == '1' else '')\n"
        f"sys.exit(main(['train', '--output', {str(tmp_path / 'run')!r}, '--resume', '--data', place]))\n"
    )
    shutil.copytree(images, f"{images}-elsewhere")
    add_an_image(tmp_path / "images-elsewhere")
    first, second = warm.run_ranks(2, script, timeout=60)
    assert (first.returncode, second.returncode) == (1, 1)
    assert first.stderr == "" and "25 training images, saved with 24" in second.stderr
