"""`sase-attn signal` as people call it: with trainings on a tiny folder of images, and with ones that are made up."""

import pytest
import search_driver as driver

from sase_attn.commands import signal as command
from sase_attn.commands.main import main
from sase_attn.search import SearchSpace, Signal
from sase_attn.search.trained import Trained

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A folder of images, and a space of two genotypes."""
    folder = tmp_path_factory.mktemp("small")
    driver.image_folder(folder / "data")
    one = SearchSpace.get("release")
    ops = {edge: names[-1:] for edge, names in one.ops.items()} | {"channel_gate": ("affine", "fc")}
    (folder / "space.json").write_text(SearchSpace(ops).to_json())
    return folder


def test_a_signal_from_the_command_line(small, tmp_path, capsys):
    output = tmp_path / "run"
    arguments = ["signal", "--data", str(small / "data"), "--space", str(small / "space.json"), "--without"]
    arguments += ["--seeds", "2", "--budget", "4", "--train-epochs", "1", "--device", "cpu", "--output", str(output)]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    found = Signal.load(output)
    assert found.lines()[0].endswith("after 4 trainings: 2 genotypes × 2 seeds, look 1 of 1")
    assert "\n".join(found.lines()) in out and out.splitlines()[-1].startswith(f"files: {output}")
    assert found.epochs == 1 and found.space_size == 2 and len(found.trained) == 4
    (output / "signal.json").unlink()
    assert main(arguments) == 0  # nothing is trained again
    assert Signal.load(output) == found and capsys.readouterr().out.count("seed") < out.count("seed")


def test_what_is_asked_of_the_trainings(tmp_path, capsys, monkeypatch):
    asked = {}

    def run_trainings(plan, config, recipe, folder, **options):
        asked.update(plan=plan, config=config, recipe=recipe, **options)
        done = []
        folder.mkdir()
        while wanted := plan.wanted(done):
            done += [Trained(it, 60 + it.seed + 3 * len(it.genotype.channel_excite), it.seed + 1.0) for it in wanted]
        return done

    monkeypatch.setattr(command, "run_trainings", run_trainings)
    output = tmp_path / "run"
    arguments = ["--budget", "90", "--threshold", "0.3", "--seeds", "3", "--storage", "sqlite:///x.db"]
    assert main(["signal", "--output", str(output), *arguments]) == 0
    plan, out = asked["plan"], capsys.readouterr().out
    assert (plan.budget, plan.threshold, plan.seeds, plan.measure) == (90, 0.3, (0, 1, 2), "top1")
    assert plan.space == asked["config"].search_space() and asked["storage"] == "sqlite:///x.db"
    assert asked["recipe"].epochs == 4 and "7 genotypes × 3 seeds of 4 epochs" in out
    assert "signal, by top-1 after 21 trainings" in out and Signal.load(output).answer == "signal"


def test_only_a_folder_of_its_own(small, tmp_path, capsys):
    """Trainings do not go into a search, or a run, of which they would be no part."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    (tmp_path / "file").touch()
    for name, words in (("run", "got one with config.json"), ("file", "is a file: wanted a folder")):
        assert main(["signal", "--data", str(small / "data"), "--output", str(tmp_path / name)]) == 1
        assert words in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]


def test_every_field_of_the_data_has_its_flag(tmp_path, capsys):
    """`--on-broken skip` is what the error of a broken image advises."""
    flags = ["--on-broken", "skip", "--augment", "cifar", "--size", "8", "--color-jitter", "0.1", "0.1", "0.1"]
    assert main(["signal", "--output", str(tmp_path / "run"), "--budget", "1", *flags]) == 1
    assert "budget: wanted 28 or more" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--budget", "20"], "budget: wanted 28 or more (7 genotypes with 4 seeds), got 20"),
        (["--threshold", "nan"], "threshold: wanted a number between 0 and 1, got nan"),
        (["--measure", "los"], "did you mean loss"),
        (["--seeds", "1"], "expected at least 2, got 1"),
    ],
)
def test_wrong_flags(flags, message, tmp_path, capsys):
    assert main(["signal", "--output", str(tmp_path / "run"), *flags]) in (1, 2)
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and message in err and not (tmp_path / "run").exists()
