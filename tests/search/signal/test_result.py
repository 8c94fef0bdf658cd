"""What a signal says, in lines and as JSON, for each of the three answers."""

import random
from dataclasses import asdict

import pytest

from sase_attn.search import SearchSpace
from sase_attn.search.signal import Signal, SignalPlan, signal
from sase_attn.search.trained import Trained

RELEASE = SearchSpace.get("release")


def ask(std, *, noise=0.6, budget=84, seed=0, operation=0.0, **settings):
    """The signal of a world: genotypes differ by `std`, and by what the channel excitation `fc` takes away."""
    plan, draw = SignalPlan(RELEASE, budget=budget, **settings), random.Random(seed)
    true = {
        genotype: 60 + draw.gauss(0, std) - operation * (genotype.channel_excite == "fc") for genotype in plan.genotypes
    }
    done = []
    while wanted := plan.wanted(done):
        for training in wanted:
            top1 = true[training.genotype] + training.seed + draw.gauss(0, noise)
            done.append(Trained(training, top1, 3 - 0.03 * top1 + draw.gauss(0, 0.001)))
    return signal(done, plan, epochs=4)


def test_a_signal(tmp_path):
    found = ask(1.5)
    assert found.decided and found.answer == "signal" and found.advice.method == "additive"
    assert found.advice.decides is None and found.advice.trainings >= 84
    assert found.loss.answer == "signal" and found.judged == found.top1
    text = "\n".join(found.lines())
    assert text.startswith("signal, by top-1 after 28 trainings: 7 genotypes × 4 seeds, look 1 of 3\n")
    assert "search: --method additive" in text and "top-1, points" in text
    found.save(tmp_path)
    assert Signal.load(tmp_path) == found


def test_a_small_space_is_not_advised_to_be_larger():
    ops = {edge: names[:1] for edge, names in RELEASE.ops.items()} | {"channel_gate": RELEASE.ops["channel_gate"][:4]}
    plan, draw = SignalPlan(SearchSpace(ops)), random.Random(0)
    true = {genotype: 60 + 0.3 * place for place, genotype in enumerate(plan.genotypes)}
    done = [Trained(one, true[one.genotype] + draw.gauss(0, 0.6), draw.gauss(1, 0.1)) for one in plan.wanted([])]
    found = signal(done, plan)
    assert found.answer == "not decided" and found.advice.decides is None
    assert any("it takes more than 16 seeds of all 4 genotypes to decide" in line for line in found.lines())


def test_nothing_to_find(tmp_path):
    found = ask(0, seed=1, noise=0.6, threshold=0.5)
    assert found.answer == "nothing to find" and found.advice.method == "none" and found.advice.trainings == 0
    assert found.advice.longer == 4 and found.advice.decides is not None
    lines = found.lines()
    assert "  do not search at this length: keep the published block" in lines
    assert "at 4 times the length (4 × 4 = 16 epochs)" in lines[-1] and "would show an ICC of 0.75" in lines[-1]
    assert "cannot foresee" in lines[-1]
    found.save(tmp_path)
    assert Signal.load(tmp_path) == found


def test_not_decided():
    found = ask(0.35, seed=3)
    assert not found.decided and found.look == found.looks == 3
    assert found.advice.decides_icc == found.top1.variation.icc
    assert any("as estimated, it takes" in line for line in found.lines())
    if found.advice.decides is not None:
        assert found.advice.decides.trainings > 84


def test_an_operation_that_is_worse_is_named():
    found = ask(0.1, noise=0.4, operation=5.0, threshold=0.95)
    assert found.look == 3
    effect = next(it for it in found.top1.effects if (it.edge, it.operation) == ("channel_excite", "fc"))
    assert effect.verdict == "worse" and effect.mean == pytest.approx(-5 * 6 / 7, abs=0.3)
    assert any(line.strip().startswith("channel_excite:fc") for line in found.lines())


def test_judged_by_loss():
    by_top1, by_loss = ask(0.8, noise=3), ask(0.8, noise=3, measure="loss")
    assert by_loss.judged == by_loss.loss and by_loss.lines()[0].startswith(f"{by_loss.answer}, by loss")
    assert by_top1.judged == by_top1.top1
    high = max(by_loss.trained, key=lambda row: -row.loss).training.genotype
    assert high in {row.training.genotype for row in by_loss.trained}


def test_a_damaged_file_is_named(tmp_path):
    ask(1.5).save(tmp_path)
    file = tmp_path / "signal.json"
    file.write_text(file.read_text().replace('"answer"', '"question"', 1))
    with pytest.raises(ValueError, match="signal.json.*answer"):
        Signal.load(tmp_path)
    assert asdict(ask(1.5))["advice"]["method"] == "additive"
