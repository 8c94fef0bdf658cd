"""`registered_models`: the models that this package adds to timm's registry, with their numbers of parameters."""

import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import timm

from sase_attn.describe import definition
from sase_attn.models.parameter_counts import PARAMETERS


@dataclass(frozen=True)
class ModelDescription:
    """A model: its name in timm's registry, its number of parameters by default, its definition in one line."""

    name: str
    parameters: int
    definition: str


def registered_models() -> list[str]:
    """Names of the models, module by module."""
    modules = [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])]
    return [name for module in modules for name in timm.list_models(module=module)]


def describe_models() -> Iterator[ModelDescription]:
    """Every model. None is built: the number of its parameters is looked up."""
    for name in registered_models():
        yield ModelDescription(name, PARAMETERS[name], definition(timm.model_entrypoint(name)))
