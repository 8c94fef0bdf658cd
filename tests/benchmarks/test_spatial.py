"""The study of spatially-adaptive SE: its networks share a start, and its table says what the rows say."""

import sys

import torch
from checkout import BENCHMARKS

sys.path.insert(0, str(BENCHMARKS))
from gain import recipe_of  # noqa: E402
from spatial import HOST, NETWORKS  # noqa: E402
from spatial_table import spatial  # noqa: E402

from sase_attn.training.network import create_network  # noqa: E402


def test_networks_of_a_seed_start_alike():
    made = {}
    for label, fields in NETWORKS.items():
        recipe = recipe_of(label, fields, 3, 960, "folder").override(start_as={} if label == "plain" else HOST)
        made[label] = create_network(recipe, num_classes=10, in_chans=3).state_dict()
    plain = made.pop("plain")
    replaced = [key for key in plain if ".conv2." in key]
    assert len(replaced) == 3
    for label, weights in made.items():
        ours = {key.replace(".host", ""): value for key, value in weights.items()}
        missing = replaced if label == "spatially-adaptive SE" else []
        assert [key for key in plain if key not in ours] == missing
        assert all(torch.equal(ours[key], value) for key, value in plain.items() if key not in missing)


def test_table():
    def row(label, seed, top1):
        return {"label": label, "seed": seed, "top1": top1, "parameters": 1000, "steps": 960, "count": 10_000}

    rows = [row("plain", seed, 50 + seed) for seed in range(5)]
    rows += [row("spatial", seed, 52 + seed + 0.1 * (seed % 2)) for seed in range(6)]
    text = spatial(rows, "here")
    assert "| plain | 1,000 | 52.00 ± 1.58 |  |  |" in text
    assert "| spatial | 1,000 | 54.04 ± 1.58 | +2.04 [+1.97, +2.11] | better |" in text
    assert "5 paired seeds" in text and text.endswith("one bottleneck a stage; here.")
    assert "| spatial | 1,000 | 52.00 | +2.00 |" in spatial([rows[0], rows[5]], "here")
