"""Shared weights trained by one drawn genotype a step: what a step touches, killed, on two ranks, scored."""

import json
import signal
from collections import Counter

import pytest
import search_driver as driver
import torch
import warm
from inputs import draw, randomise

from sase_attn.genotype import EDGES
from sase_attn.search import SearchBlock, SearchConfig, SearchResult, SearchSpace, search
from sase_attn.search.agreement import agreement
from sase_attn.search.report.page import write_report
from sase_attn.search.shared_weights.checkpoint import load_search
from sase_attn.search.shared_weights.choose import distinct_genotypes
from sase_attn.search.shared_weights.halves import open_halves
from sase_attn.search.shared_weights.network import create_supernet
from sase_attn.search.shared_weights.single_path import SinglePathSearcher, drawn_columns
from sase_attn.search.supernet.block import blocks_of
from sase_attn.training.distributed import Ranks

pytestmark = pytest.mark.usefixtures("one_thread")
RELEASE = SearchSpace.get("release")
CPU = Ranks(0, 1, torch.device("cpu"))
OPTIONS = {"method": "single-path", "candidates": 3, "gate_init": "centred", "last_norm_init": "network"}
TIMED = ("images_per_second", "eta_seconds", "peak_memory_mb", "seconds", "step_seconds")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return driver.image_folder(tmp_path_factory.mktemp("data") / "corners")


def run(**values):
    return warm.run(driver.__file__, options(**values))


def options(**values):
    paths = {name: str(values[name]) for name in ("data", "output")}
    return json.dumps(values | paths | {"config": OPTIONS | values.get("config", {})})


def log_rows(folder):
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in TIMED} for row in rows]


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("search") / "whole"
    done = run(output=folder, data=data)
    assert done.returncode == 0, done.stderr
    assert "scoring 3 genotypes by the shared weights" in done.stdout
    return folder


def test_genotypes_are_drawn_uniformly_by_seed_and_step():
    drawn = [drawn_columns(RELEASE, 0, step) for step in range(700)]
    assert drawn[5] == drawn_columns(RELEASE, 0, 5) != drawn_columns(RELEASE, 1, 5)
    for columns in zip(*drawn, strict=True):
        counts = Counter(columns)
        assert len(counts) == 7
        assert sum((count - 100) ** 2 / 100 for count in counts.values()) < 22.5  # χ² of 6 degrees, p = 0.001
    pairs = Counter((first, second) for first, second, *_ in drawn)
    assert len(pairs) == 49  # one edge does not follow another


def test_a_step_evaluates_and_moves_the_drawn_operations_alone(data, tmp_path):
    config = driver.tiny(data, **OPTIONS)
    model = create_supernet(config, num_classes=3, in_chans=3, echo=lambda line: None)
    made = SinglePathSearcher(config, model, open_halves(config, CPU), tmp_path, CPU, echo=lambda line: None)
    called = Counter()
    for name, block in blocks_of(model):
        for edge, mixed in block.edges.items():
            for column, op in enumerate(mixed):
                op.register_forward_hook(lambda *_, key=(name, edge, column): called.update([key]))
    batch = next(iter(made.batches()))
    for step in range(2):
        made.progress.step = step
        before = {name: value.clone() for name, value in model.named_parameters()}
        buffers = {p: made.optimizer.state[p]["momentum_buffer"].clone() for p in made.optimizer.state}
        called.clear()
        made.step(batch)
        columns = dict(zip(EDGES, drawn_columns(RELEASE, config.seed, step), strict=True))
        wanted = {(name, edge, column) for name, _ in blocks_of(model) for edge, column in columns.items()}
        assert called == dict.fromkeys(wanted, 1)
        for name, block in blocks_of(model):
            for edge, mixed in block.edges.items():
                for column, op in enumerate(mixed):
                    for key, p in op.named_parameters(prefix=f"{name}.{edge}.{column}"):
                        if column != columns[edge]:  # neither decay nor momentum
                            assert torch.equal(p, before[key]), key
                            if p in buffers:
                                assert torch.equal(made.optimizer.state[p]["momentum_buffer"], buffers[p])
        assert not torch.equal(model.get_submodule("conv1").weight, before["conv1.weight"])
        assert torch.equal(made.architecture.alpha, before["layer1.0.bn2.attn.architecture.alpha"])


@pytest.mark.parametrize("seed", range(3))
def test_a_chosen_genotype_is_computed_as_its_block_is(seed):
    """By the same kernels, to the bit, gradients too: so it costs as much."""
    searched = randomise(SearchBlock(16, RELEASE))
    genotype = RELEASE.random(seed)
    derived = searched.derive(genotype)
    results = []
    for block in (searched, derived):
        x = draw(3, 16, 6, 5).requires_grad_()
        with searched.shared_architecture.choose(RELEASE.columns(genotype)):
            y = block(x)
        results.append((y.detach(), torch.autograd.grad(y.square().sum(), x)[0]))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_killed_in_mid_epoch_and_resumed_is_bit_equal(data, uninterrupted, tmp_path):
    folder = tmp_path / "killed"
    assert run(output=folder, data=data, kill_at=8).returncode == -signal.SIGKILL
    done = run(output=folder, data=data, resume=True)
    assert done.returncode == 0 and "resuming at epoch 2, step 0" in done.stdout, done.stderr
    rows = log_rows(folder)
    assert rows == log_rows(uninterrupted) and [row["kind"] for row in rows].count("step") == 10
    assert len({row["genotype"] for row in rows if row["kind"] == "step"}) == 10
    ours, theirs = load_search(folder).state, load_search(uninterrupted).state
    assert all(torch.equal(value, theirs["model"][key]) for key, value in ours["model"].items())
    assert str(ours["optimizer"]) == str(theirs["optimizer"])
    first, second = SearchResult.load(folder), SearchResult.load(uninterrupted)
    assert first.scores == second.scores and first.genotype == second.genotype


def test_two_ranks_train_what_one_trains(data, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    shared = {"data": data, "no_batch_norm": True}
    assert run(output=one, **shared).returncode == 0
    ranks = warm.run_ranks(2, driver.__file__, options(output=two, **shared))
    assert [done.returncode for done in ranks] == [0, 0], ranks
    ours, theirs = log_rows(one), log_rows(two)
    assert len(ours) == len(theirs) == 12
    for a, b in zip(ours, theirs, strict=True):
        assert a.get("genotype") == b.get("genotype")
        assert a["train_loss"] == pytest.approx(b["train_loss"], rel=1e-4)
    first, second = SearchResult.load(one), SearchResult.load(two)
    assert second.processes == 2 and [row[0] for row in first.scores] == [row[0] for row in second.scores]


def test_the_lowest_loss_is_chosen_and_nothing_is_said_of_alpha(uninterrupted):
    result = SearchResult.load(uninterrupted)
    assert [loss for *_, loss in result.scores] == sorted(loss for *_, loss in result.scores)
    assert len(result.scores) == 3 and result.scores[0][0] == result.genotype == result.argmax
    assert result.genotype_top1 == result.scores[0][1] == result.scorer().score(result.found).top1
    assert result.select == "score" and result.alpha == [] and result.supernet_top1 is None and result.warnings() == []
    agreed = agreement([result, result])
    assert set(agreed.same.values()) == {1} and set(agreed.tau.values()) == {None} and "τ" not in agreed.lines()[-1]
    page = write_report(uninterrupted).read_text()
    assert "Chosen by loss, of 3 genotypes" in page and "softmax(alpha)" not in page


def test_all_of_a_small_space_are_scored():
    small = SearchSpace({edge: names[:2] for edge, names in RELEASE.ops.items()})
    assert distinct_genotypes(small, 64) == distinct_genotypes(small, 1000) == list(small)
    assert len(set(distinct_genotypes(small, 60))) == 60


def test_one_that_diverges_names_the_step(data, tmp_path):
    with pytest.raises(FloatingPointError, match=r"epoch 1, step 1; try a lower lr or clip_grad; "):
        search(config=driver.tiny(data, max_loss=1e-6, **OPTIONS), output=tmp_path / "run", device="cpu", echo=str)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "single_path"}, "unknown search method 'single_path'; did you mean single-path"),
        ({"compile": True, "hvp": "fd"}, "search field compile: wanted no compiled blocks with single-path"),
        ({"candidates": 0}, "search field candidates: wanted one genotype or more"),
    ],
)
def test_wrong_configurations_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        SearchConfig(**({"method": "single-path"} | values))
