"""Comparisons after a search: what is retrained, what is said of it, and the report."""

import html.parser
import json
from dataclasses import replace
from pathlib import Path

import pytest
import search_driver as driver
import timm
import torch

from sase_attn import attach, genotypes
from sase_attn.attentions import starting_gain
from sase_attn.attentions.constant import Constant
from sase_attn.block import SASEBlock
from sase_attn.comparison.built import train_built
from sase_attn.genotype import EDGES
from sase_attn.search import SearchConfig, SearchResult, SearchSpace, search
from sase_attn.search.agreement import agreement
from sase_attn.search.compare import RETRAINED, compare, compared_genotypes, genotype_fields, load_comparison
from sase_attn.search.report.page import write_report
from sase_attn.training import Recipe

pytestmark = pytest.mark.usefixtures("one_thread")
RELEASE = SearchSpace.get("release")


def test_doubts_say_level_where_the_margin_would_be_zero(finished):
    weights = [[0.14300, 0.14298, *[0.1428] * 5], [0.15, 0.145, *[0.141] * 5], *finished.weights[2:]]
    margin = [0.00002, 0.005, *[1.0] * 4]
    columns = dict(SearchSpace.get("release").ops)
    lines = replace(finished, weights=weights, margin=margin, columns=columns, entropy=[0.1] * 6).warnings()
    assert "channel_squeeze: gap and gsop are level to 0.0001 in weight" in lines
    assert "channel_excite: fc is ahead of conv1d_k3 by 0.0050 in weight" in lines


def test_compared_genotypes_and_their_networks():
    config = SearchConfig(model_kwargs={"layers": [1, 1, 1]})
    chosen = compared_genotypes(RELEASE.random(9), RELEASE, random=2)
    assert list(chosen) == ["found", "sase", "random-0", "random-1"]
    assert chosen["sase"] == genotypes["sase"] and chosen["random-1"] == RELEASE.random(1)
    assert "sase_paper" in compared_genotypes(SearchSpace.get("paper").random(0), SearchSpace.get("paper"), random=0)
    for genotype in chosen.values():
        recipe = Recipe().override(**genotype_fields(config, genotype))
        model = timm.create_model(recipe.model, num_classes=3, **recipe.model_kwargs)
        blocks = [module for module in model.modules() if isinstance(module, SASEBlock)]
        assert len(blocks) == 3 and all(block.genotype == genotype for block in blocks)
        assert model(torch.randn(2, 3, 16, 16)).shape == (2, 3)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    data = driver.image_folder(tmp_path_factory.mktemp("data") / "corners")
    config = driver.tiny(data, without=["gsop"], select="score", candidates=2, log_every=2)
    folder = tmp_path_factory.mktemp("search") / "<run> & co"
    return search(config=config, output=folder, device="cpu", echo=lambda line: None)


def gain_of(genotype):
    return starting_gain(SASEBlock(16, genotype))


def constant_label(genotype):
    return f"constant {gain_of(genotype):g}"


@pytest.fixture(scope="module")
def comparison(finished):
    lines = []
    found = finished.compare(random=1, seeds=[0, 1], epochs=1, device="cpu", echo=lines.append)
    assert sum(", seed " in line for line in lines) == 2 * len(found.networks)
    return found


def test_networks_are_retrained_with_paired_seeds_at_unit_gain_beside_plain_and_a_constant(finished, comparison):
    networks = {network.label: network for network in comparison.networks}
    constant = [] if gain_of(finished.genotype) == 1 else [constant_label(finished.genotype)]
    assert list(networks) == ["plain", *constant, "found", "sase", "random-0"]
    assert comparison.reference == "plain" and comparison.test_images == 24 and comparison.seeds == [0, 1]
    assert comparison.recipe["epochs"] == 1
    folder = Path(finished.output) / RETRAINED
    for label, network in networks.items():
        for seed, top1 in zip((0, 1), network.top1, strict=True):
            result = json.loads((folder / f"{label}-seed{seed}" / "result.json").read_text())
            assert result["top1"] == top1 and result["recipe"]["seed"] == seed
            start = result["recipe"]["start_as"]
            assert start == ({} if label == "plain" else {"model": "resnet20_cifar", **finished.config["model_kwargs"]})
        genotype = label in ("found", "sase", "random-0")
        assert (network.subnetwork_top1 is not None) == genotype
        assert network.fields["model_kwargs"].get("gain") == ("unit" if genotype else None)
    assert networks["found"].subnetwork_top1 == finished.genotype_top1
    assert networks["found"].fields["model_kwargs"]["attn"] == finished.genotype
    assert load_comparison(finished.output) == comparison and load_comparison(folder.parent.parent) is None
    assert [d.verdict for d in comparison.differences] == ["not judged: 2 of at least 5 seeds"] * (len(networks) - 1)
    text = comparison.table()
    assert "as sub-network, %" in text and "no ranking: fewer than 5 seeds" in text
    assert f"{networks['found'].subnetwork_top1:.2f}" in text
    assert ("Kendall's τ between sub-network and retrained accuracy" in text) == (comparison.tau is not None)


def test_a_second_comparison_trains_nothing_again(finished, comparison):
    logs = {path: path.stat().st_mtime_ns for path in Path(finished.output).rglob("log.jsonl")}
    again = finished.compare(random=1, seeds=[0, 1], epochs=1, device="cpu", echo=lambda line: None)
    assert again == comparison
    assert logs == {path: path.stat().st_mtime_ns for path in Path(finished.output).rglob("log.jsonl")}
    with pytest.raises(ValueError, match="one seed or more, got 3 and 0"):
        finished.compare(random=1, seeds=[])


def test_networks_of_your_own_have_a_common_start_and_unit_gain(finished, tmp_path, monkeypatch):
    def build(genotype):
        model = timm.create_model("resnet20_cifar", num_classes=3, layers=[1, 1, 1], zero_init_last=False)
        if genotype is not None:
            attach(model, after="layer*.*.bn2", attn=genotype)
        return model

    given = {}
    arguments = (tmp_path, finished.settings, {"found": genotypes["sase"]}, Recipe())
    with pytest.raises(ValueError, match="jobs: wanted 1 with networks that `build` makes here, got 2"):
        compare(*arguments, seeds=[3], build=build, jobs=2)
    monkeypatch.setattr(
        "sase_attn.search.compare.compare_networks", lambda *made, **more: given.update(more, made=made)
    )
    compare(*arguments, seeds=[3], build=build)
    monkeypatch.setattr("sase_attn.comparison.built.train", lambda recipe, folder, *, model, **more: model)
    runs = {(label, 3): (Recipe(), tmp_path / label) for label in given["made"][0]}
    assert [label for label, _ in runs] == ["plain", "constant 1.25", "found"]
    plain, constant, found = train_built(runs, given["build"], "plain", device="cpu", echo=print)
    for model in (constant, found):
        tensors = {name.replace(".host.", "."): value for name, value in model.state_dict().items()}
        assert all(torch.equal(tensors[name], value) for name, value in plain.state_dict().items())
    assert {m.scale for m in found.modules() if isinstance(m, SASEBlock)} == {0.8}
    assert {m.value for m in constant.modules() if isinstance(m, Constant)} == {1.25}
    assert not any(isinstance(m, SASEBlock) for m in constant.modules())


class Page(html.parser.HTMLParser):
    """Checks that elements are closed, and collects what is linked and said."""

    def __init__(self):
        super().__init__()
        self.open, self.links, self.text = [], [], []

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "br", "path", "use", "rect"):
            self.open.append(tag)
        self.links += [value for key, value in attributes if key in ("src", "href", "xlink:href")]

    def handle_startendtag(self, tag, attributes):
        self.links += [value for key, value in attributes if key in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_report_is_one_file_and_holds_everything(finished, comparison):
    path = write_report(finished.output, "a note <b>")
    page = Page()
    text = path.read_text()
    page.feed(text)
    assert not page.open and all(link.startswith("#") for link in page.links)
    said = " ".join(page.text)
    assert "a note <b>" in said and finished.genotype in said and "</b>" not in text
    for line in [*comparison.notes(), *finished.warnings()]:
        assert line in said
    for network in comparison.networks:
        assert network.accuracy in said and network.label in said
    assert "minus plain, points" in said and "nothing was compared" not in said and "not compared with random" in said
    for edge in EDGES:
        assert edge in said
    assert finished.versions["torch"] in said and text.count("<svg") == 5
    with pytest.raises(FileNotFoundError, match="no finished search"):
        write_report(path.parent / "retrained")


def test_a_report_without_comparison_says_so(finished, tmp_path):
    folder = Path(finished.output)
    for name in ("result.json", "log.jsonl"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    text = write_report(tmp_path).read_text()
    assert "nothing was retrained: no verdict" in text and text.count("<svg") == 4


def test_agreement_between_seeds(finished):
    def other(seed, genotype, alpha):
        values = vars(finished) | {
            "config": finished.config | {"seed": seed},
            "genotype": str(genotype),
            "alpha": alpha,
        }
        return SearchResult(**values)

    a = other(0, finished.found, finished.alpha)
    turned = [[-value for value in values] for values in finished.alpha]
    changed = {edge: getattr(finished.found, edge) for edge in EDGES}
    changed["spatial_excite"] = next(n for n in finished.columns["spatial_excite"] if n != changed["spatial_excite"])
    b = other(1, type(finished.found)(**changed), turned)
    found = agreement([a, b])
    assert found.same == dict.fromkeys(EDGES, 1.0) | {"spatial_excite": 0.0}
    assert found.tau == dict.fromkeys(EDGES, pytest.approx(-1.0))
    assert found.chance["spatial_excite"] == pytest.approx(1 / 7) and found.chance["channel_squeeze"] == pytest.approx(
        1 / 6
    )
    assert agreement([a, other(1, finished.found, finished.alpha)]).tau["channel_gate"] == pytest.approx(1.0)
    assert len(found.lines()) == 8
    with pytest.raises(ValueError, match="two searches or more"):
        agreement([a])
