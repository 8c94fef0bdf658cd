"""Whatever is damaged or nonsense: one line and exit code 1 or 2, or it works; never a traceback."""

import argparse
import random
import shutil

import pytest
import search_driver as driver
from damage import WORDS, check, damage
from detection_data import draw_coco
from tiny_detector import tiny_config

from sase_attn.commands import main as command
from sase_attn.commands.main import main
from sase_attn.search import SearchSpace

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore"),  # of torch, timm and scipy, about what they are given
]
FILES, FLAGS = 5, 40
MANY = 1500


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a run, a search with its comparison, a detector, and what commands read besides."""
    folder = tmp_path_factory.mktemp("made")
    data = str(driver.image_folder(folder / "data", train=6, test=2))
    shared = [
        "--data",
        data,
        "--epochs",
        "1",
        "--batch-size",
        "8",
        "--device",
        "cpu",
        "--model-kwargs",
        "layers=[1,1,1]",
    ]  # noqa: E501
    assert main(["train", *shared, "--warmup-epochs", "0", "--output", str(folder / "run")]) == 0
    compare = ["--compare-seeds", "1", "--compare-epochs", "1", "--compare-random", "1", "--select-images", "8"]
    search = [
        "--method",
        "darts",
        "--signal",
        "0",
        "--images",
        "16",
        "--warmup-epochs",
        "0",
        "--order",
        "1",
        "--without",
        "gsop",
        "--output",
        str(folder / "search"),
    ]
    assert main(["search", *shared, "--warmup-epochs", "0", *search, *compare]) == 0
    draw_coco(folder / "data" / "coco", train=2, val=2)
    tiny = tiny_config(detector="mask_rcnn", data=str(folder / "data" / "coco"), epochs=1, warmup_steps=1, log_every=1)
    (folder / "tiny.json").write_text(tiny.to_json())
    detect = ["detect", "train", "--recipe", str(folder / "tiny.json"), "--device", "cpu"]
    assert main([*detect, "--output", str(folder / "detector")]) == 0
    (folder / "script.py").write_text("")
    release = SearchSpace.get("release")
    (folder / "space.json").write_text(release.to_json())
    two = {edge: names[:1] for edge, names in release.ops.items()} | {"channel_gate": ("affine", "fc")}
    (folder / "two.json").write_text(SearchSpace(two).to_json())
    return folder


def readers(folder):
    """Files below a folder, and commands that read each."""
    run, search, cpu = folder / "run", folder / "search", ["--device", "cpu"]
    detector = folder / "detector"
    of_detector = [["detect", "train", "--resume", "--output", detector, *cpu], ["detect", "evaluate", detector, *cpu]]
    of_run = [["train", "--resume", "--output", run, *cpu], ["evaluate", run, *cpu], ["tile", run]]
    of_weights = [["evaluate", run / "best.safetensors", *cpu], ["tile", run / "best.safetensors"],
        ["push", run / "best.safetensors", "--model", "sase_resnet20", "--save-to", folder / "published"],
        ["import", run / "best.safetensors", "--model", "sase_resnet50", "-o", folder / "x.safetensors"]]  # fmt: skip
    of_search = [["search", "--resume", search, *cpu], ["search", "--resume", search, "--no-compare", *cpu]]
    return {
        run / "checkpoint.pt": [*of_run[:1], ["evaluate", run / "checkpoint.pt", *cpu]],
        run / "recipe.json": [["evaluate", run, *cpu], ["train", "--recipe", run / "recipe.json", "--show"]],
        run / "result.json": of_run[:1],
        run / "log.jsonl": of_run[:1],
        run / "model" / "config.json": of_run[1:],
        run / "model" / "model.safetensors": of_run[1:],
        run / "best.safetensors": of_weights,
        search / "checkpoint.pt": of_search,
        search / "config.json": [["search", "--recipe", search / "config.json", "--show"]],
        search / "result.json": of_search,
        search / "compare.json": of_search,
        search / "log.jsonl": of_search,
        search / "genotype.json": [["show", search / "genotype.json"], *of_search],
        search / "retrained" / "comparison.json": of_search,
        search / "retrained" / "found-seed0" / "result.json": of_search,
        search / "retrained" / "found-seed0" / "checkpoint.pt": of_search,
        detector / "checkpoint.pt": of_detector[:1],
        detector / "detection.json": [["detect", "train", "--recipe", detector / "detection.json", "--show"]],
        detector / "result.json": of_detector[:1],
        detector / "log.jsonl": of_detector[:1],
        detector / "best.safetensors": [of_detector[1], ["detect", "evaluate", detector / "best.safetensors", *cpu]],
        folder / "space.json": [["search", "--space", folder / "space.json", "--show"]],
    }


@pytest.fixture(autouse=True)
def bugs_are_raised(monkeypatch):
    monkeypatch.setenv("SASE_ATTN_TRACEBACK", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def damaged_files(seeds, made, tmp_path, capsys):
    for seed in seeds:
        rng, folder = random.Random(seed), tmp_path / str(seed)
        shutil.copytree(made, folder, ignore=shutil.ignore_patterns("data"))
        table = readers(folder)
        file = rng.choice(list(table))
        damage(file, rng)
        check(rng.choice(table[file]), capsys, f"seed {seed}, {file}")
        shutil.rmtree(folder)


def choices(parser):
    return dict(next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices)


def flags():
    """(command, flag) of every flag that takes a value; parts of `detect` are commands."""
    commands = choices(command._parser())
    commands |= {f"detect {name}": parser for name, parser in choices(commands["detect"]).items()}
    for name, parser in commands.items():
        for action in parser._actions:
            if action.option_strings and action.nargs != 0:
                yield name, action.option_strings[-1]


def nonsense_flags(seeds, made, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = ["--data", made / "data", "--device", "cpu"]
    few = ["--method", "darts", "--signal", "0", "--order", "1", "--no-compare", "--images", "16"]
    quick = ["--epochs", "1", "--batch-size", "8", "--model-kwargs", "layers=[1,1,1]"]  # noqa: E501
    base = {
        "list": ["list"], "show": ["show", "sase"], "tile": ["tile", made / "run"],
        "import": ["import", made / "run" / "best.safetensors", "--model", "sase_resnet50", "-o", "x.safetensors"],
        "push": ["push", made / "run" / "best.safetensors", "--model", "sase_resnet20", "--save-to", "published"],
        "run": ["run", made / "script.py"],
        "train": ["train", *data, *quick, "--warmup-epochs", "0", "--output", "run"],
        "evaluate": ["evaluate", made / "run", *data],
        "predict": ["predict", made / "run", made / "data" / "val", "--device", "cpu"],
        "detect train": [
            "detect", "train", "--recipe", made / "tiny.json", "--epochs", "1", "--device", "cpu", "--output", "run",
        ],
        "detect evaluate": ["detect", "evaluate", made / "detector", "--device", "cpu"],
        "detect predict": ["detect", "predict", made / "detector", made / "data" / "coco" / "val", "-o", "seen"],
        "detect export": ["detect", "export", made / "detector", "-o", "x.onnx"],
        "detect import": ["detect", "import", made / "detector" / "best.safetensors", "-o", "x.safetensors"],
        "detect check": ["detect", "check", made / "data" / "coco"],
        "detect convert": ["detect", "convert", made / "data" / "coco", "-o", "converted"],
        "search": ["search", *data, *quick, *few, "--warmup-epochs", "0", "--output", "run"],
        "compare": ["compare", "eca", *data, *quick[:4], "--warmup-epochs", "0", "--seeds", "1", "--output", "run"],
        "signal": [
            "signal", *data, "--space", made / "two.json", "--without", "--seeds", "2", "--budget", "4",
            "--train-epochs", "1", "--output", "asked",
        ],
    }  # fmt: skip
    found = list(flags())
    for seed in seeds:
        rng = random.Random(seed)
        name, flag = rng.choice(found)
        values = rng.sample(WORDS, rng.choice((1, 1, 1, 2)))
        if rng.random() < 0.5 and name in ("train", "search", "detect train"):
            values += ["--show"]
        check([*base[name], flag, *values], capsys, f"seed {seed}")
        for path in tmp_path.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


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
