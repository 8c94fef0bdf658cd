"""Whatever is damaged or nonsense in a training of images: one line and exit code 1 or 2, or it works."""

import random
import shutil

import pytest
import synthesis_driver as driver
from damage import WORDS, check, damage

from sase_attn.settings import settings_fields
from sase_attn.spatially_adaptive.synthesis import SynthesisConfig, train_synthesis

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore")]
FILES, FLAGS = 4, 20
MANY = 400


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    config = driver.tiny(driver.image_folder(folder / "photos", 4), steps=1, score_images=10)
    train_synthesis(config, folder / "run", device="cpu", echo=lambda line: None)
    return folder


@pytest.fixture(autouse=True)
def bugs_are_raised(monkeypatch):
    monkeypatch.setenv("SASE_ATTN_TRACEBACK", "1")


def damaged_files(seeds, made, tmp_path, capsys):
    own = ["--import", driver.EXTRACTOR, "--device", "cpu"]
    for seed in seeds:
        rng, run = random.Random(seed), tmp_path / str(seed)
        shutil.copytree(made / "run", run)
        resume = ["synthesize", "train", "--output", run, "--resume", *own]
        sample = ["synthesize", "sample", run, "--count", "1", *own]
        evaluate = ["synthesize", "evaluate", run, "--count", "10", "--extractor", "own", *own]
        table = {
            "checkpoint.pt": [resume, evaluate],
            "result.json": [resume],
            "config.json": [resume],
            "log.jsonl": [resume],
            "best.safetensors": [sample, evaluate],
            "generator.safetensors": [[*sample, "--weights", "last"]],
        }
        name = rng.choice(list(table))
        damage(run / name, rng)
        check(rng.choice(table[name]), capsys, f"seed {seed}, {name}")
        shutil.rmtree(run)


def nonsense_flags(seeds, made, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fields = [
        f"--{item.name.replace('_', '-')}" for item, _ in settings_fields(SynthesisConfig) if item.name != "imports"
    ]
    base = {
        "train": ["synthesize", "train", "--images", made / "photos", "--show"],
        "sample": ["synthesize", "sample", made / "run", "--output", "made", "--device", "cpu"],
    }
    flags = {"train": fields, "sample": ["--count", "--seed", "--batch-size", "--interpolate", "--weights", "--device"]}
    for seed in seeds:
        rng = random.Random(seed)
        part = rng.choice(["train", "train", "sample"])
        flag, words = rng.choice(flags[part]), rng.sample(WORDS, rng.choice((1, 1, 1, 2)))
        check([*base[part], flag, *words], capsys, f"seed {seed}")


def test_damaged_files(made, tmp_path, capsys):
    damaged_files(range(FILES), made, tmp_path, capsys)


def test_nonsense_flags(made, tmp_path, capsys, monkeypatch):
    nonsense_flags(range(FLAGS), made, tmp_path, capsys, monkeypatch)


@pytest.mark.slow
def test_many_damaged_files(made, tmp_path, capsys):
    damaged_files(range(FILES, MANY), made, tmp_path, capsys)


@pytest.mark.slow
def test_much_nonsense(made, tmp_path, capsys, monkeypatch):
    nonsense_flags(range(FLAGS, MANY), made, tmp_path, capsys, monkeypatch)
