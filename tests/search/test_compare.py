"""Comparisons: what is retrained, what is said of it, and the report."""

import html.parser
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import search_driver as driver
import timm
import torch

from sase_attn import genotypes
from sase_attn.block import SASEBlock
from sase_attn.genotype import EDGES
from sase_attn.search import SearchConfig, SearchResult, SearchSpace, search
from sase_attn.search.agreement import agreement
from sase_attn.search.compare import compared_genotypes, network_fields
from sase_attn.search.comparison import Compared, Comparison
from sase_attn.search.report.page import write_report
from sase_attn.search.verdict import rank_correlation, verdict
from sase_attn.training import Recipe

pytestmark = pytest.mark.usefixtures("one_thread")
RELEASE = SearchSpace.get("release")


def row(label, *top1, shared=None):
    return Compared(label, None if label == "plain" else "g", list(top1), [0.1] * len(top1), [1.0] * len(top1), shared)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [row("found", 91.0, 92.0), row("plain", 89.0, 90.0)],
            r"^found is ahead of plain by 2.00 points; the seeds .* 0.71",
        ),
        ([row("found", 90.0, 92.0), row("plain", 89.0, 91.0)], "^no confident winner: found is ahead of plain by 1.00"),
        (
            [row("a", 90.0, 91.0), row("b", 90.5, 90.5)],
            "^no confident winner: a and b are level to 0.01 points, and the",
        ),
        ([row("a", 90.0, 90.0), row("b", 89.999, 90.0)], "^no confident winner: a and b are level to 0.01 points, and"),
        ([row("a", 91.0), row("b", 80.0)], "^no confident winner: .* with one seed each"),
        ([row("a", 91.0, 91.5)], "nothing to compare it with"),
    ],
)
def test_verdict(rows, said):
    assert re.search(said, verdict(rows, 1000)[0])


def test_verdict_measures_the_found_one_against_plain_and_random():
    rows = [
        row("random-0", 93.0, 93.0),
        row("found", 91.0, 92.0),
        row("plain", 89.0, 90.0),
        row("random-1", 88.0, 88.0),
    ]
    lines = verdict(rows, 400)
    assert "found against plain: +2.00 points" in lines
    assert "found against the mean of the random ones: +1.00 points" in lines
    assert lines[-1] == "400 test images: the standard error of one accuracy is 1.28 points"


def test_verdict_of_networks_that_are_level():
    lines = verdict([row("plain", 90.001), row("found", 90.0), row("random-0", 90.0)], 400)
    assert lines[1:3] == [
        "found against plain: level to 0.01 points",
        "found against the mean of the random ones: level to 0.01 points",
    ]


def test_doubts_say_level_where_the_margin_would_be_zero(finished):
    weights = [[0.14300, 0.14298, *[0.1428] * 5], [0.15, 0.145, *[0.141] * 5], *finished.weights[2:]]
    margin = [0.00002, 0.005, *[1.0] * 4]
    columns = dict(SearchSpace.get("release").ops)
    lines = replace(finished, weights=weights, margin=margin, columns=columns, entropy=[0.1] * 6).doubts()
    assert "channel_squeeze: gap and gsop are level to 0.0001 in weight" in lines
    assert "channel_excite: fc is ahead of conv1d_k3 by 0.0050 in weight" in lines


def test_rank_correlation_by_hand():
    rows = [row("a", 4.0, shared=40.0), row("b", 3.0, shared=20.0), row("c", 2.0, shared=30.0), row("plain", 9.0)]
    tau, p = rank_correlation(rows)
    assert tau == pytest.approx(1 / 3) and 0 < p <= 1  # two pairs agree, one does not
    assert rank_correlation(rows[:2]) == (None, None)
    assert rank_correlation([row(str(i), float(i), shared=50.0) for i in range(4)]) == (None, None)


def test_compared_genotypes_and_their_networks():
    config = SearchConfig(model_kwargs={"layers": [1, 1, 1]})
    chosen = compared_genotypes(RELEASE.random(9), RELEASE, random=2)
    assert list(chosen) == ["found", "sase", "random-0", "random-1"]
    assert chosen["sase"] == genotypes["sase"] and chosen["random-1"] == RELEASE.random(1)
    assert "sase_paper" in compared_genotypes(SearchSpace.get("paper").random(0), SearchSpace.get("paper"), random=0)
    made = network_fields(config, chosen, plain=True)
    recipes = {label: Recipe().override(**fields) for label, fields in made.items()}
    counts = {}
    for label, recipe in recipes.items():
        model = timm.create_model(recipe.model, num_classes=3, **recipe.model_kwargs)
        blocks = [module for module in model.modules() if isinstance(module, SASEBlock)]
        counts[label] = len(blocks)
        assert all(block.genotype == chosen[label] for block in blocks)
        assert model(torch.randn(2, 3, 16, 16)).shape == (2, 3)
    assert counts == {"plain": 0} | dict.fromkeys(chosen, 3)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    data = driver.image_folder(tmp_path_factory.mktemp("data") / "corners")
    config = driver.tiny(data, without=["gsop"], select="score", candidates=2, log_every=2)
    folder = tmp_path_factory.mktemp("search") / "<run> & co"
    return search(config=config, output=folder, device="cpu", echo=lambda line: None)


@pytest.fixture(scope="module")
def comparison(finished):
    lines = []
    found = finished.compare(random=1, seeds=[0, 1], epochs=1, device="cpu", echo=lines.append)
    assert sum(", seed " in line for line in lines) == 8
    return found


def test_networks_are_retrained_with_every_seed(finished, comparison):
    assert {row.label for row in comparison.rows} == {"found", "sase", "random-0", "plain"}
    assert all(len(row.top1) == 2 and row.std is not None for row in comparison.rows)
    assert [row.mean for row in comparison.rows] == sorted((row.mean for row in comparison.rows), reverse=True)
    assert comparison.test_images == 24 and comparison.recipe["epochs"] == 1 and comparison.seeds == [0, 1]
    folder = Path(finished.output) / "retrained"
    for row_ in comparison.rows:
        for seed, top1 in zip((0, 1), row_.top1, strict=True):
            result = json.loads((folder / f"{row_.label}-seed{seed}" / "result.json").read_text())
            assert result["top1"] == top1 and result["recipe"]["seed"] == seed
        assert (row_.supernet_top1 is None) == (row_.label == "plain")
    found = next(row for row in comparison.rows if row.label == "found")
    assert found.supernet_top1 == finished.genotype_top1 and found.genotype == finished.genotype
    assert Comparison.load(finished.output) == comparison
    assert comparison.table().count("\n") == 4


def test_a_second_comparison_trains_nothing_again(finished, comparison):
    logs = {path: path.stat().st_mtime_ns for path in Path(finished.output).rglob("log.jsonl")}
    again = finished.compare(random=1, seeds=[0, 1], epochs=1, device="cpu", echo=lambda line: None)
    assert again == comparison
    assert logs == {path: path.stat().st_mtime_ns for path in Path(finished.output).rglob("log.jsonl")}
    with pytest.raises(ValueError, match="one seed or more, got 3 and 0"):
        finished.compare(random=1, seeds=[])


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
    for line in [*comparison.verdict, *finished.doubts()]:
        assert line in said
    for row_ in comparison.rows:
        assert f"{row_.mean:.2f}" in said and row_.label in said
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
