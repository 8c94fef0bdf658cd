"""Simulated trainings, which compute nothing: their results are a function of genotype and seed."""

from dataclasses import fields

from sase_attn import Genotype
from sase_attn.search import study
from sase_attn.search.trainings import run
from sase_attn.training.data import DataIdentity
from sase_attn.training.result import TrainResult


def of_genotype(genotype, seed):
    """A result with differences between genotypes: those with the excitation `fc` are worse."""
    return 60.0 - 9.0 * (genotype.channel_excite == "fc") + (hash_of(genotype) + 3 * seed) % 7 / 10


def of_nothing(genotype, seed):
    """A result without differences: every genotype has the same mean over four seeds."""
    return 60.0 + (-1) ** (hash_of(genotype) + seed)


def hash_of(genotype):
    return sum(map(ord, str(genotype)))


def simulate_trainings(monkeypatch):
    """Replace trainings by simulated ones. The first item of the returned list is their function; it may be replaced.

    A network without a genotype has the result 55.
    """
    chosen = [of_genotype]

    def ended(recipe, folder):
        attention = recipe.model_kwargs.get("attn", "constant")
        genotype = None if attention == "constant" else Genotype.parse(attention)
        known = {"output": str(folder), "top1": chosen[0](genotype, recipe.seed) if genotype else 55.0, "loss": 1.0}
        made = object.__new__(TrainResult)
        defaults = {item.name: None for item in fields(TrainResult)}
        numbers = {
            "parameters": 1,
            "seconds": 1.0,
            "count": 1000,
            "data": DataIdentity(),
            "versions": {},
            "machine": "",
        }
        made.__dict__.update(defaults | numbers | known)
        return made

    def train_all(runs, **options):
        return [ended(*one) for one in runs]

    monkeypatch.setattr(run, "train", lambda recipe, folder, **options: ended(recipe, folder))
    for module in (run, study):
        monkeypatch.setattr(module, "check_start", lambda recipes, device: DataIdentity())
    monkeypatch.setattr("sase_attn.comparison.run.check_start", lambda recipes, device: None)
    monkeypatch.setattr("sase_attn.comparison.run.train_all", train_all)
    return chosen
