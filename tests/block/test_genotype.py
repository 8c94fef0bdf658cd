"""`Genotype`: its text and JSON forms, its errors, the published ones, random ones."""

import dataclasses
import json
import os
import random
import re
from collections import Counter

import pytest

from sase_attn import Genotype, genotypes
from sase_attn.errors import UnknownNameError
from sase_attn.genotype import EDGES, SPACES
from sase_attn.ops import OP_SETS, RELEASE_OPS

SASE = genotypes["sase"]
TEXT = (
    "channel_squeeze:gap_gmp,channel_excite:fc,channel_gate:affine,spatial_squeeze_input:gap,spatial_squeeze_gated:l4,"
    "spatial_excite:conv2d_k3_x2,residual:true"
)


def test_published_genotypes_field_by_field():
    assert list(genotypes) == ["sase", "sase_paper"]
    assert genotypes["sase"] == Genotype(
        channel_squeeze="gap_gmp",
        channel_excite="fc",
        channel_gate="affine",
        spatial_squeeze_input="gap",
        spatial_squeeze_gated="l4",
        spatial_excite="conv2d_k3_x2",
        residual=True,
    )
    assert genotypes["sase_paper"] == Genotype(
        channel_squeeze="gap_gmp",
        channel_excite="fc_sigmoid",
        channel_gate="affine",
        spatial_squeeze_input="gap",
        spatial_squeeze_gated="l4_mean",
        spatial_excite="conv2d_k3_x2",
        residual=False,
    )


def test_spaces_edge_by_edge():
    assert SPACES["release"] == {edge: RELEASE_OPS[op_set] for edge, op_set in EDGES.items()}
    assert all(len(names) == len(set(names)) == 7 for space in SPACES.values() for names in space.values())
    text = {
        "channel_squeeze": ("gap", "gsop", "l2norm", "l4_mean", "gap_gmp", "gap_std", "gap_skewness"),
        "channel_excite": ("fc_sigmoid", *RELEASE_OPS["channel_excite"][1:]),
        "spatial_squeeze": ("gap", "gsop", "l2norm_channel", "l4_mean", "gap_gmp", "gap_std", "gap_skewness"),
        "spatial_excite": RELEASE_OPS["spatial_excite"],
    }
    assert SPACES["paper"] == {edge: text[op_set] for edge, op_set in EDGES.items()}


def test_text_is_the_documented_one():
    assert str(SASE) == TEXT


@pytest.mark.parametrize("seed", range(20))
def test_round_trips(seed, tmp_path):
    genotype = Genotype.random(seed, ("release", "paper")[seed % 2], residual=bool(seed // 2 % 2))
    assert Genotype.parse(str(genotype)) == genotype
    assert Genotype.from_json(genotype.to_json()) == genotype
    assert Genotype.from_dict(dataclasses.asdict(genotype)) == genotype
    genotype.save(tmp_path / "genotype.json")
    assert Genotype.load(tmp_path / "genotype.json") == genotype == Genotype.load(str(tmp_path / "genotype.json"))
    assert [path.name for path in tmp_path.iterdir()] == ["genotype.json"]


def test_names_parse_too():
    assert {name: Genotype.parse(name) for name in genotypes} == genotypes


def test_parts_may_come_in_any_order_with_spaces_and_without_residual():
    parts = TEXT.split(",")
    for seed in range(10):
        random.Random(seed).shuffle(parts)
        assert Genotype.parse(",".join(parts)) == SASE
    assert Genotype.parse(" , ".join(part.replace(":", " : ") for part in parts)) == SASE
    assert Genotype.parse(TEXT.removesuffix(",residual:true")) == SASE
    assert Genotype.parse(TEXT.replace("residual:true", "residual:false")) == dataclasses.replace(SASE, residual=False)


def test_json_is_an_object_of_the_seven_fields():
    assert json.loads(SASE.to_json()) == dataclasses.asdict(SASE)
    assert list(json.loads(SASE.to_json())) == [*EDGES, "residual"]
    assert SASE.to_json().endswith("}\n")


def test_save_replaces_and_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "genotype.json"
    SASE.save(path)
    genotypes["sase_paper"].save(path)
    assert Genotype.load(path) == genotypes["sase_paper"]
    (tmp_path / "plain").write_text("")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode  # others may read it as they may any file

    def fail(*args):
        raise OSError("no space left")

    for module, name in [(os, "replace"), (Genotype, "to_json")]:
        monkeypatch.setattr(module, name, fail)
        with pytest.raises(OSError, match="no space left"):
            SASE.save(path)
        monkeypatch.undo()
        assert Genotype.load(path) == genotypes["sase_paper"]
        assert sorted(file.name for file in tmp_path.iterdir()) == ["genotype.json", "plain"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "unknown genotype ''; known: sase, sase_paper"),
        ("sasse", "unknown genotype 'sasse'; did you mean sase or sase_paper?"),
        ("sase-paper", "did you mean sase_paper"),
        (TEXT + ",", "a genotype string is 'edge:op,…', got the part ''"),
        (TEXT + ",gap", "a genotype string is 'edge:op,…', got the part 'gap'"),
        (TEXT.replace("channel_gate:affine", "channel_gate:"), "got the part 'channel_gate:'"),
        (TEXT + ",channel_gate:fc", "the genotype string names 'channel_gate' twice"),
        (TEXT + ",residual:true", "the genotype string names 'residual' twice"),
        (TEXT.replace("residual:true", "residual:True"), "residual must be true or false, got 'True'"),
        (TEXT.replace("residual:true", "residual:1"), "residual must be true or false, got '1'"),
        (TEXT.replace("channel_gate", "chanel_gate"), "unknown edge 'chanel_gate'; did you mean channel_gate"),
        (TEXT.replace("residual", "residuals"), "unknown edge 'residuals'; did you mean residual"),
        (
            TEXT.replace("squeeze_gated:l4", "squeeze_gated:l5"),
            "unknown spatial_squeeze operation 'l5'; did you mean l4",
        ),
        (
            TEXT.replace("channel_gate:affine", "channel_gate:afine"),
            "unknown channel_excite operation 'afine'; did you",
        ),
        (TEXT.replace("spatial_excite:conv2d_k3_x2", "spatial_excite:fc"), "unknown spatial_excite operation 'fc'"),
        (
            TEXT.replace("channel_squeeze:gap_gmp", "channel_squeeze:gap:gmp"),
            "unknown channel_squeeze operation 'gap:gmp'",
        ),
        (TEXT.replace("channel_gate:affine,", ""), "a genotype needs an operation for channel_gate"),
        (
            "residual:true",
            "a genotype needs an operation for channel_squeeze, channel_excite, channel_gate, spatial_squ",
        ),
    ],
)
def test_malformed_text(text, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        Genotype.parse(text)
    assert "\n" not in str(error.value)
    assert isinstance(error.value, UnknownNameError) == message.startswith(("unknown", "did you mean"))


FIELDS = dataclasses.asdict(SASE)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        ("[]", "a genotype is a JSON object, got list"),
        ('"sase"', "a genotype is a JSON object, got str"),
        ("{}", "a genotype needs an operation for channel_squeeze, "),
        (json.dumps(FIELDS | {"chanel_gate": "fc"}), "unknown edge 'chanel_gate'; did you mean channel_gate"),
        (
            json.dumps(FIELDS | {"channel_gate": "afine"}),
            "unknown channel_excite operation 'afine'; did you mean affine",
        ),
        (json.dumps(FIELDS | {"channel_gate": ["fc"]}), "channel_gate must be the name of an operation, got ['fc']"),
        (json.dumps(FIELDS | {"channel_gate": None}), "channel_gate must be the name of an operation, got None"),
        (json.dumps(FIELDS | {"residual": "true"}), "residual must be True or False, got 'true'"),
        (json.dumps(FIELDS | {"residual": 1}), "residual must be True or False, got 1"),
    ],
)
def test_malformed_json_and_files(text, message, tmp_path):
    with pytest.raises(ValueError, match=re.escape(message)):
        Genotype.from_json(text)
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(f"{path}: {message}")):
        Genotype.load(path)


def test_a_space_with_an_unknown_edge_is_refused():
    space = {edge: ["gap"] for edge in EDGES}
    with pytest.raises(ValueError, match="unknown edge 'chanel_gate'; did you mean channel_gate"):
        Genotype.random(0, space | {"chanel_gate": ["affine"]})


def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        Genotype.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    "change, error, message",
    [
        (
            {"channel_gate": "conv2d_k3"},
            UnknownNameError,
            "unknown channel_excite operation 'conv2d_k3'; did you mean conv",
        ),
        ({"channel_gate": 3}, TypeError, "channel_gate must be the name of an operation, got 3"),
        ({"residual": "no"}, TypeError, "residual must be True or False, got 'no'"),
    ],
)
def test_construction_checks_every_field(change, error, message):
    with pytest.raises(error, match=re.escape(message)):
        Genotype(**FIELDS | change)


def test_frozen_and_hashable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SASE.channel_gate = "fc"
    assert hash(SASE) == hash(Genotype.parse(TEXT))
    assert len({SASE, Genotype.parse("sase"), genotypes["sase_paper"]}) == 2


def test_random_is_deterministic_and_leaves_the_global_generator():
    random.seed(7)
    expected = random.random()
    random.seed(7)
    drawn = [Genotype.random(seed) for seed in range(50)]
    assert random.random() == expected
    assert drawn == [Genotype.random(seed) for seed in range(50)]
    assert len(set(drawn)) > 45


@pytest.mark.parametrize("space, residual", [("release", True), ("paper", False)])
def test_random_is_uniform(space, residual):
    draws = [Genotype.random(seed, space) for seed in range(3000)]
    assert {genotype.residual for genotype in draws} == {residual}
    expected = len(draws) / 7
    columns = {edge: [getattr(genotype, edge) for genotype in draws] for edge in EDGES}
    for edge, names in SPACES[space].items():
        counts = Counter(columns[edge])
        assert set(counts) == set(names)
        chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
        assert chi_square < 30, f"{edge}: {counts}"  # 6 degrees of freedom: 4 in 100,000
    pairs = Counter(zip(columns["channel_excite"], columns["channel_gate"], strict=True))
    assert len(pairs) == 49  # edges are drawn independently
    assert max(pairs.values()) < 2 * len(draws) / 49


def test_random_in_any_space():
    space = {edge: [list(OP_SETS[op_set])[-1]] for edge, op_set in EDGES.items()}
    genotype = Genotype.random(0, space)
    assert all(getattr(genotype, edge) == space[edge][0] for edge in EDGES)
    assert genotype.residual
    assert not Genotype.random(0, space, residual=False).residual
    assert not Genotype.random(0, "release", residual=False).residual
    assert Genotype.random(0, "paper", residual=True).residual


@pytest.mark.parametrize(
    "space, message",
    [
        ("relase", "unknown space 'relase'; did you mean release"),
        (
            {},
            "the space has no operation for channel_squeeze, channel_excite, channel_gate, spatial_squeeze_input, spa",
        ),
        (SPACES["release"] | {"channel_gate": ()}, "the space has no operation for channel_gate"),
        (
            {k: v for k, v in SPACES["paper"].items() if k != "spatial_excite"},
            "the space has no operation for spatial_exc",
        ),
        (
            SPACES["release"] | {"channel_gate": ("afine",)},
            "unknown channel_excite operation 'afine'; did you mean affine",
        ),
    ],
)
def test_random_refuses(space, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Genotype.random(0, space)
