"""Methods that find a genotype by trainings from scratch: `METHODS[name](space, trainings, seed)`."""

from sase_attn.search.methods.additive import Additive as Additive
from sase_attn.search.methods.method import Method as Method
from sase_attn.search.methods.race import Race as Race
from sase_attn.search.methods.random import RandomSearch as RandomSearch
from sase_attn.search.methods.tpe import TPE as TPE

METHODS: dict[str, type[Method]] = {"race": Race, "additive": Additive, "tpe": TPE, "random": RandomSearch}
"""The methods by name, each made from a space, a number of trainings and a seed."""
