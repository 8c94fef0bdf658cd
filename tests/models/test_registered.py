"""Every model that the package adds to timm's registry, with the number of its parameters that is kept in a table."""

import timm
import torch

import sase_attn.models.attached
from sase_attn.models.parameter_counts import PARAMETERS
from sase_attn.models.registered import describe_models, registered_models
from sase_attn.modules import count_parameters


def test_the_table_of_parameters_is_up_to_date():
    counted = {name: count_parameters(timm.create_model(name, device=torch.device("meta"))) for name in PARAMETERS}
    assert counted == PARAMETERS


def test_the_table_has_every_model():
    assert list(PARAMETERS) == registered_models()
    assert set(PARAMETERS) >= {name for name in timm.list_models() if "sase" in name} | {"attached"}


def test_descriptions_build_no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a network was built")

    monkeypatch.setattr(timm, "create_model", refuse)
    monkeypatch.setattr(sase_attn.models.attached, "build_model_with_cfg", refuse)
    found = {model.name: model for model in describe_models()}
    assert found["sase_resnet50"].parameters == 28_102_568
    assert all(model.definition.endswith(".") for model in found.values())
