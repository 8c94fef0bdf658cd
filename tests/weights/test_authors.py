"""Weights that the authors' code trained with any genotype, and their notation of it."""

import json

import pytest
import timm
import torch
from checkout import REFERENCE_FILES
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from sase_attn import Genotype, SASEBlock, genotypes
from sase_attn.commands.main import main
from sase_attn.release_notation import EDGES
from sase_attn.weights import from_authors, import_checkpoint
from sase_attn.weights.authors import genotype_of
from sase_attn.weights.authors_keys import block_keys

SEARCHED = "[('GAP+GMP', 0), ('2conv_1x1', 1), ('affine', 2), ('p-norm', 3), ('GAP', 4), ('2conv_3x3', 5)]"
SIZED = "[('GAP', 0), ('conv1D_5', 1), ('2conv_1x1', 2), ('L2-norm', 3), ('2nd-order pooling', 4), ('affine', 5)]"
FILE = REFERENCE_FILES / "sase_release.safetensors"
TENSORS = load_file(FILE)
with safe_open(FILE, "pt") as file:
    CASES = json.loads(file.metadata()["cases"])


@pytest.mark.parametrize("seed", range(40))
def test_the_notation_and_back(seed):
    genotype = Genotype.random(seed)
    assert Genotype.parse(str(genotype.to_release())) == genotype
    assert Genotype.from_json(json.dumps(genotype.to_release())) == genotype


def test_the_notation_of_the_searched_block():
    assert Genotype.parse(SEARCHED) == genotypes["sase"]
    assert str(genotypes["sase"].to_release()) == SEARCHED
    assert Genotype.parse(SEARCHED).spatial_squeeze_gated == "l4"
    with pytest.raises(ValueError, match="without residual"):
        genotypes["sase_paper"].to_release()
    with pytest.raises(ValueError, match="the release has no fc_sigmoid for channel_excite; it has fc, conv1d_k3"):
        Genotype.parse(str(genotypes["sase"]).replace("excite:fc", "excite:fc_sigmoid")).to_release()


@pytest.mark.parametrize(
    "text, said",
    [
        ("[('GAPP', 0)]", r"for edge 0 \(channel_squeeze\) 'GAPP'; did you mean GAP"),
        ("[('GAP', 6)]", r"edges 0 to 5, got .*GAP.*6"),
        ("[('GAP', 0), ('GAP', 0)]", r"got two for edge 0 \(channel_squeeze\)"),
        ("[('GAP', 0)]", "needs an operation for channel_excite"),
        ("[1", "got '\\[1'"),
        ("[]", "needs an operation for channel_squeeze"),
    ],
)
def test_other_text_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        Genotype.parse(text)


def release(edge, op, **others):
    """The searched genotype with another operation of the release."""
    pairs = [(op if number == EDGES.index(edge) else name, number) for name, number in genotypes["sase"].to_release()]
    return Genotype.parse(str(pairs))


@pytest.mark.parametrize("case", [case for case, info in CASES.items() if info["set"] != "block"])
def test_parameters_of_an_operation_go_where_they_were(case):
    edge = {"spatial_squeeze": "spatial_squeeze_gated"}.get(CASES[case]["set"], CASES[case]["set"])
    genotype = release(edge, CASES[case]["op"])
    prefix, start = f"{case}/param/", f"block.attention._ops.{EDGES.index(edge)}."
    theirs = {name.replace(prefix, start): value for name, value in TENSORS.items() if name.startswith(prefix)}
    ours = {name.removeprefix("block.se."): value for name, value in from_authors(theirs, genotype).items()}
    block = SASEBlock(32, genotype=genotype).eval()
    assert not block.load_state_dict(ours, strict=False).unexpected_keys
    y = getattr(block, edge)(TENSORS[f"{case}/x"])
    assert (y - TENSORS[f"{case}/y"]).abs().max() <= 1e-4 * TENSORS[f"{case}/y"].abs().max()


def authors(genotype, model="sase_resnet18", sizes=(16, 8, 4, 2)):
    """Random weights as the authors' code would have them, with weights per position of these sizes."""
    made = timm.create_model(model, genotype=str(genotype), num_classes=5)
    theirs = {ours: name for name, ours in block_keys(genotype).items()}
    weights = {}
    for key, value in made.state_dict().items():
        block, inside, rest = key.partition(".se.")
        if inside and value.shape[-2:] == (7, 7) and not rest.endswith("rows.weight"):
            value = torch.zeros(*value.shape[:-2], *[sizes[int(key[5]) - 1]] * 2)
        value = torch.rand_like(value) if value.is_floating_point() else value
        weights[f"{block}.attention.{theirs[rest]}" if inside else key] = value
    return weights


def saved(path, content):
    torch.save(content, path)
    return path


def imported(source, output, genotype=None) -> tuple[torch.nn.Module, dict[str, Tensor]]:
    done = import_checkpoint(source, "sase_resnet18", output, genotype=genotype)
    return timm.create_model("sase_resnet18", checkpoint_path=str(output), **done.arguments), done.arguments


def test_any_genotype_with_weights_per_position_of_the_sizes_it_was_trained_at(tmp_path):
    genotype = Genotype.parse(SIZED)
    weights = authors(genotype)
    source = saved(tmp_path / "a.pth", {"state_dict": {f"module.{key}": value for key, value in weights.items()}})
    model, arguments = imported(source, tmp_path / "a.safetensors", genotype)
    assert arguments == {"genotype": str(genotype), "num_classes": 5}
    assert torch.equal(model.layer1[0].se.spatial_excite.alpha, weights["layer1.0.attention._ops.5.alpha"])
    assert model.layer2[1].se.spatial_squeeze_gated.weight.shape == (8, 8)
    assert model.eval()(torch.randn(1, 3, 64, 64)).shape == (1, 5)


def test_a_backbone_alone_and_counters_that_are_missing(tmp_path):
    weights = {key: value for key, value in authors(genotypes["sase"]).items() if not key.startswith("fc.")}
    weights = {f"backbone.{key}": value for key, value in weights.items() if not key.endswith("num_batches_tracked")}
    source = saved(
        tmp_path / "b.pth", {"meta": {"epoch": 12}, "state_dict": weights | {"neck.conv.weight": torch.ones(2)}}
    )
    model, arguments = imported(source, tmp_path / "b.safetensors")
    assert arguments == {"num_classes": 0} and not list(model.fc.parameters())
    assert torch.equal(model.layer4[1].bn2.bias, weights["backbone.layer4.1.bn2.bias"])
    assert model.bn1.num_batches_tracked == 0


def test_another_genotype_is_noticed_and_what_it_is(tmp_path, capsys):
    weights = authors(Genotype.parse(SIZED))
    source = saved(tmp_path / "c.pth", weights)
    with pytest.raises(
        ValueError, match="than the searched one: its weights are of channel_squeeze gap or l4, channel_ex"
    ):
        genotype_of(weights, source="c")
    with pytest.raises(
        ValueError, match="than the one given: its weights are of spatial_excite affine; say by genotype"
    ):
        genotype_of(weights, Genotype.parse(SIZED.replace("('affine', 5)", "('conv_5x5', 5)")), source="c")
    command = ["import", str(source), "--model", "sase_resnet18", "-o", str(tmp_path / "c.safetensors")]
    assert main(command) == 1 and "channel_gate fc, " in capsys.readouterr().err
    assert main([*command, "--genotype", SIZED]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert f'genotype="{Genotype.parse(SIZED)}", num_classes=5, checkpoint_path=' in line
