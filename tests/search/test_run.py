"""A whole search: killed, interrupted, on two ranks, diverged; what it leaves behind."""

import json
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import search_driver as driver
import timm
import torch
import warm
from torch import nn

from sase_attn import Genotype, SASEBlock, genotypes
from sase_attn.genotype import EDGES
from sase_attn.ops import OP_SETS
from sase_attn.search import Scorer, SearchResult, search
from sase_attn.search.report.log_rows import read_log
from sase_attn.search.report.tables import epoch_by_epoch
from sase_attn.search.shared_weights.bilevel import DivergedError
from sase_attn.search.shared_weights.checkpoint import load_search

pytestmark = pytest.mark.usefixtures("one_thread")
# Keys that differ between two searches of the same numbers.
TIMED = ("images_per_second", "eta_seconds", "peak_memory_mb", "seconds", "step_seconds")


def quiet(line):
    pass


def run(*arguments):
    return warm.run(driver.__file__, *arguments)


def options(**values):
    return json.dumps(values | {name: str(values[name]) for name in ("data", "output")})


def log_rows(folder):
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in TIMED} for row in rows]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return driver.image_folder(tmp_path_factory.mktemp("data") / "corners")


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("search") / "whole"
    done = run(options(output=folder, data=data))
    assert done.returncode == 0, done.stderr
    return folder


def assert_same(folder, other):
    assert log_rows(folder) == log_rows(other)
    (_, progress, ours), (_, _, theirs) = load_search(folder), load_search(other)
    assert (progress.epoch, progress.step) == (2, 0)
    for key, value in ours["model"].items():
        assert torch.equal(value, theirs["model"][key]), key
    for name in ("optimizer", "alpha_optimizer"):
        assert str(ours[name]) == str(theirs[name])
    first, second = SearchResult.load(folder), SearchResult.load(other)
    assert first.alpha == second.alpha and first.genotype == second.genotype
    assert first.supernet_top1 == second.supernet_top1


def test_killed_in_mid_epoch_and_resumed_is_bit_equal(data, uninterrupted, tmp_path):
    folder = tmp_path / "killed"
    killed = run(options(output=folder, data=data, kill_at=8))  # five steps an epoch
    assert killed.returncode == -signal.SIGKILL
    assert load_search(folder)[1].epoch == 1 and len(log_rows(folder)) == 5 + 1 + 2  # two steps will be undone
    done = run(options(output=folder, data=data, resume=True))
    assert done.returncode == 0 and "resuming at epoch 2, step 0" in done.stdout, done.stderr
    assert_same(folder, uninterrupted)


def test_ctrl_c_saves_in_mid_epoch_and_resumes(data, uninterrupted, tmp_path):
    folder = tmp_path / "interrupted"
    command = [driver.__file__, options(output=folder, data=data, seconds=0.4)]
    process = warm.Process(command, warm.environment())
    log, deadline = folder / "log.jsonl", time.monotonic() + 60
    while not (log.exists() and log.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "stopping after this step" in err, err
    assert f"sase-attn search --resume {folder}" in out
    progress = load_search(folder)[1]
    assert progress.epoch == 0 and 1 <= progress.step <= 4 and progress.log_bytes == log.stat().st_size
    assert run(options(output=folder, data=data, resume=True)).returncode == 0
    assert_same(folder, uninterrupted)


def test_two_ranks_end_with_the_alphas_of_one(data, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    shared = {"data": data, "no_batch_norm": True, "config": {"log_every": 1, "clip_grad": 5.0}}
    assert run(options(output=one, **shared)).returncode == 0
    ranks = warm.run_ranks(2, driver.__file__, options(output=two, **shared))
    assert [done.returncode for done in ranks] == [0, 0], ranks
    assert [done.stdout.count("epoch 2/2") for done in ranks] == [1, 0]  # rank 0 alone speaks
    ours, theirs = log_rows(one), log_rows(two)
    assert len(ours) == len(theirs) == 12
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(torch.tensor(a["alpha"]), torch.tensor(b["alpha"]), rtol=0, atol=2e-4)
        for key in ("train_loss", "val_loss"):
            assert a[key] == pytest.approx(b[key], rel=1e-4)
    assert SearchResult.load(two).processes == 2


def test_ranks_hold_identical_alphas(tmp_path, data):
    script = tmp_path / "ranks.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(Path(driver.__file__).parent)!r})\n"
        "import os, torch, search_driver as driver\n"
        "from sase_attn.search import search\n"
        "torch.set_num_threads(1)\n"
        f"config = driver.tiny({str(data)!r}, epochs=1, without=['gsop'], log_every=0)\n"
        f"result = search(config=config, output={str(tmp_path / 'ranks')!r}, device='cpu', echo=lambda line: None)\n"
        "print('ALPHA', result.alpha, flush=True)\n"
    )
    # Each rank also prints the alpha that it holds itself, before rank 0's is read from the file.
    spied = script.read_text().replace(
        "result = search",
        "from sase_attn.search import by_shared_weights as run\n"
        "finish = run.finish\n"
        "def spy(searcher, group):\n"
        f"    torch.save(searcher.architecture.alpha.detach(), {str(tmp_path)!r} + f'/alpha{{group.rank}}.pt')\n"
        "    return finish(searcher, group)\n"
        "run.finish = spy\n"
        "result = search",
    )
    script.write_text(spied)
    ranks = warm.run_ranks(2, script)
    assert [done.returncode for done in ranks] == [0, 0], ranks
    first, second = (torch.load(tmp_path / f"alpha{rank}.pt") for rank in (0, 1))
    assert torch.equal(first, second) and first.abs().max() > 0.01  # batch norm and all: they step alike


class Exploding(nn.Module):
    """Fine for some calls, then not."""

    def __init__(self, channels, *, size=None, rd_ratio=1 / 16, device=None, dtype=None):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x.float().mean(1, keepdim=True) * (float("nan") if self.calls > 30 else 1.0)


def test_diverged_names_the_step_and_the_operation(data, tmp_path, monkeypatch):
    monkeypatch.setitem(OP_SETS["spatial_squeeze"], "exploding", Exploding)
    space = tmp_path / "space.json"
    ops = {
        edge: ["exploding", "gap"] if edge == "spatial_squeeze_input" else [getattr(genotypes["sase"], edge)]
        for edge in EDGES
    }
    space.write_text(json.dumps({"ops": ops, "residual": True}))
    wanted = (
        r"the loss is nan; it comes from exploding of spatial_squeeze_input in layer\d.0.bn2.attn; epoch \d, step \d; "
    )
    with pytest.raises(DivergedError, match=wanted + ".*is from before"):
        search(config=driver.tiny(data, space=str(space)), output=tmp_path / "nan", device="cpu", echo=quiet)
    saved = load_search(tmp_path / "nan")[2]["model"]
    assert all(value.isfinite().all() for value in saved.values())


def test_what_is_found_can_be_used_at_once(uninterrupted):
    genotype = Genotype.load(uninterrupted / "genotype.json")
    result = SearchResult.load(uninterrupted)
    assert str(genotype) == result.genotype == result.argmax == log_rows(uninterrupted)[-1]["genotype"]
    assert SASEBlock(8, genotype=genotype)(torch.randn(2, 8, 6, 6)).shape == (2, 8, 6, 6)
    model = timm.create_model("sase_resnet18", genotype=str(genotype))
    assert model(torch.randn(1, 3, 64, 64)).shape == (1, 1000)
    assert result.versions["torch"] == torch.__version__ and result.machine and result.epochs == 2
    assert (torch.tensor(result.weights).sum(-1) - 1).abs().max() < 1e-6
    scorer = result.scorer()
    assert isinstance(scorer, Scorer) and scorer.mixture().top1 == result.supernet_top1
    assert scorer.score(genotype).top1 == result.genotype_top1


def test_the_log_holds_what_is_promised(uninterrupted):
    rows = log_rows(uninterrupted)
    steps, epochs = ([row for row in rows if row["kind"] == kind] for kind in ("step", "epoch"))
    assert len(steps) == 10 and len(epochs) == 2
    for row in steps:
        assert row["alpha_grad_norm"] > 0 and row["weight_grad_norm"] > 0 and row["second_order_norm"] > 0
        assert -1 <= row["second_order_cosine"] <= 1
    for row in epochs:
        assert len(row["entropy"]) == len(row["margin"]) == len(row["weights"]) == 6
        assert {edge: len(values) for edge, values in row["scales"].items()} == dict.fromkeys(row["scales"], 7)
    lrs = [row["lr"] for row in epochs]
    assert lrs == [pytest.approx(0.05), pytest.approx((0.05 + 1e-4) / 2)]  # the cosine's, epoch by epoch


def test_entropy_is_that_of_the_edges_that_have_a_choice(data, tmp_path):
    """One undecided edge beside five that cannot decide: undecided, by the epoch's line and by `warnings`."""
    ops = {edge: [getattr(genotypes["sase"], edge)] for edge in EDGES} | {"channel_gate": ["affine", "conv1d_k3"]}
    (tmp_path / "space.json").write_text(json.dumps({"ops": ops, "residual": True}))
    config = driver.tiny(data, space=str(tmp_path / "space.json"), epochs=1, order=1, images=16, alpha_lr=1e-3)
    lines = []
    result = search(config=config, output=tmp_path / "run", device="cpu", echo=lines.append)
    assert sorted(result.entropy)[:5] == [0] * 5
    (line,) = (line for line in lines if line.startswith("epoch 1/1"))
    assert "entropy 1.000" in line
    assert "alpha has hardly decided: its entropy is 1.000 of the uniform one's" in result.warnings()
    assert replace(result, entropy=[0.0] * 6).warnings()[0].startswith("channel_gate: ")


def test_another_configuration_and_a_folder_in_use_are_refused(data, uninterrupted, tmp_path):
    config = driver.tiny(data)
    before = (uninterrupted / "log.jsonl").read_bytes()
    with pytest.raises(FileExistsError, match="wanted a new or empty folder"):
        search(config=config, output=uninterrupted, device="cpu")
    with pytest.raises(ValueError, match=r"another search: alpha_lr \(saved 0.02, now 0.1\)"):
        search(config=config.override(alpha_lr=0.1, workers=2), output=uninterrupted, resume=True, device="cpu")
    again = search(config=config, output=uninterrupted, resume=True, device="cpu", echo=quiet)
    assert again == SearchResult.load(uninterrupted)
    assert (uninterrupted / "log.jsonl").read_bytes() == before
    with pytest.raises(FileNotFoundError, match="nothing to resume"):
        search(config=config, output=tmp_path / "none", resume=True, device="cpu")
    (tmp_path / "checkpoint.pt").write_bytes(b"no")
    with pytest.raises(ValueError, match="is no checkpoint of a run"):
        search(config=config, output=tmp_path, resume=True, device="cpu")


def test_alpha_waits_for_the_warm_up(data, tmp_path):
    config = driver.tiny(data, warmup_epochs=1, without=["gsop"], order=1)
    lines = []
    result = search(config=config, output=tmp_path / "warm", device="cpu", echo=lines.append)
    steps = [row for row in log_rows(tmp_path / "warm") if row["kind"] == "step"]
    alphas = [row["alpha"] for row in steps]
    assert all(alpha == alphas[0] for alpha in alphas[:5]) and alphas[5] != alphas[0]
    epochs = [row for row in read_log(tmp_path / "warm") if row["kind"] == "epoch"]
    first, second = (row["val_loss"] for row in epochs)  # there is no loss of alpha's batches in the warm-up
    assert first is None and second > 0 and "val_loss" not in steps[0] and "val_loss" in steps[-1]
    assert [("warm-up" in line, "val loss" in line) for line in lines[:2]] == [(True, False), (False, True)]
    assert epoch_by_epoch(epochs, result.columns).count("<td></td>") == 3  # curvature, and that loss


def test_a_finished_search_can_choose_anew(data, tmp_path):
    config = driver.tiny(data, epochs=1, order=1, without=["gsop"], tune_epochs=0)
    first = search(config=config, output=tmp_path / "run", device="cpu", echo=quiet)
    other = config.override(select="score", candidates=3)
    second = search(config=other, output=tmp_path / "run", resume=True, device="cpu", echo=quiet)
    assert (first.select, second.select) == ("argmax", "score") and len(second.scores) == 4
    assert first.alpha == second.alpha and SearchResult.load(tmp_path / "run") == second


@pytest.mark.parametrize("select", ["score", "perturbation"])
def test_other_selections_run(data, tmp_path, select):
    config = driver.tiny(
        data, select=select, candidates=3, epochs=1, order=1, without=["gsop"], curvature=2, beta=0.1, entropy=0.1
    )
    lines = []
    result = search(config=config, output=tmp_path / "run", device="cpu", echo=lines.append)
    assert result.select == select and result.found in config.search_space()
    if select == "score":
        assert len(result.scores) == 4 and result.scores[0][0] == result.genotype
        assert [row[2] for row in result.scores] == sorted(row[2] for row in result.scores)
    else:
        assert sum(line.startswith(tuple(result.columns)) for line in lines) == 6
    assert isinstance(log_rows(tmp_path / "run")[-1]["curvature"], float)


def test_an_early_stop_takes_the_genotype_from_before(data, tmp_path, monkeypatch):
    values = iter([1.0] * 5 + [2.0] * 5)
    monkeypatch.setattr("sase_attn.search.shared_weights.loop.largest_eigenvalue", lambda *args, **kwargs: next(values))
    config = driver.tiny(
        data, epochs=12, curvature=1, stop_ratio=0.75, order=1, images=32, batch_size=8, without=["gsop"], alpha_lr=0.5
    )
    result = search(config=config, output=tmp_path / "stop", device="cpu", echo=quiet)
    rows = [row for row in log_rows(tmp_path / "stop") if row["kind"] == "epoch"]
    assert result.stopped_epoch == result.epochs == len(rows) == 10
    assert result.argmax == rows[4]["genotype"]
    again = search(config=config, output=tmp_path / "stop", resume=True, device="cpu", echo=quiet)
    assert again.stopped_epoch == 10
