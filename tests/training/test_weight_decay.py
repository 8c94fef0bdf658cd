"""What is decayed: of SASE all that has more than one dimension, of other attentions what their papers decay."""

import pytest
import timm
import torch
from timm.optim import create_optimizer_v2, param_groups_weight_decay
from torch import nn

from sase_attn import SASEBlock, attach, create_attention
from sase_attn.attentions import no_weight_decay
from sase_attn.training import Recipe
from sase_attn.training.distributed import Ranks
from sase_attn.training.optimizer import create_optimizer
from sase_attn.training.step import Trainer


def undecayed(model: nn.Module, optimizer: torch.optim.Optimizer) -> set[str]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = [group["params"] for group in optimizer.param_groups if not group["weight_decay"]]
    return {names[id(parameter)] for parameters in groups for parameter in parameters}


def test_sase_by_timm():
    """Gates and mixers are decayed, as in the release."""
    model = timm.create_model("sase_resnet20", layers=[1, 1, 1])
    names = undecayed(model, create_optimizer_v2(model, "sgd", lr=0.1, weight_decay=0.1))
    assert names == {name for name, parameter in model.named_parameters() if parameter.ndim == 1}
    blocks = [name for name, module in model.named_modules() if isinstance(module, SASEBlock)]
    of_blocks = {name for name in names if name.startswith(tuple(f"{block}." for block in blocks))}
    assert of_blocks == {f"{block}.norm.{kind}" for block in blocks for kind in ("weight", "bias")}
    assert no_weight_decay(model) == set()


@pytest.mark.parametrize("layer_decay", [None, 0.5])
@pytest.mark.parametrize("decay_all", [True, False])
def test_recipes(decay_all, layer_decay):
    """All of a SASE network by default, as the authors' scripts do; of SRM nothing, wherever it is."""
    recipe = Recipe(decay_all=decay_all, layer_decay=layer_decay, weight_decay=0.1)
    model = timm.create_model("sase_resnet20", layers=[1, 1, 1])
    flat = {name for name, parameter in model.named_parameters() if parameter.ndim == 1 or name.endswith(".bias")}
    assert undecayed(model, create_optimizer(recipe, model)) == (set() if decay_all else flat)

    model = timm.create_model("attached", base="test_resnet", after="layer4.*.bn2", attn="srm")
    srm = {name for name, _ in model.named_parameters() if ".attn." in name}
    flat = {name for name, parameter in model.named_parameters() if parameter.ndim == 1 or name.endswith(".bias")}
    assert srm and undecayed(model, create_optimizer(recipe, model)) == (srm if decay_all else srm | flat)


def test_attached_by_timm():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8))
    attach(model, after="1", attn="gct_gated")
    groups = param_groups_weight_decay(model, 0.1, no_weight_decay_list=no_weight_decay(model))
    assert "1.attn.beta" in undecayed(model, create_optimizer_v2(groups, "sgd", lr=0.1))
    assert no_weight_decay(model) == {"1.attn.beta"}
    assert no_weight_decay(create_attention("gct_gated", 8)) == {"beta"}


def test_what_the_model_names_comes_along():
    class Mine(nn.Sequential):
        def no_weight_decay(self):
            return {"0.weight"}

    assert no_weight_decay(Mine(nn.Conv2d(3, 8, 1), create_attention("gct_gated", 8))) == {"0.weight", "1.beta"}


def test_a_checkpoint_of_other_parameter_groups_says_so():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), create_attention("gct_gated", 8))
    trainer = Trainer(Recipe(decay_all=True), model, Ranks(0, 1, torch.device("cpu")), 1)
    state = trainer.state_dict()
    trainer.load_state_dict(state)
    state["optimizer"] = torch.optim.SGD(model.parameters(), 0.1).state_dict()
    with pytest.raises(ValueError, match=r"^the checkpoint's parameter groups differ: .*; start a new run$"):
        trainer.load_state_dict(state)
