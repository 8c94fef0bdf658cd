"""`compare`: retrain the genotype that a search found, beside others, as a comparison with paired seeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sase_attn.attentions import create_attention, set_gain
from sase_attn.attentions.starting_gain import UNIT
from sase_attn.block import SASEBlock
from sase_attn.comparison import Comparison, attended
from sase_attn.comparison import compare as compare_networks
from sase_attn.comparison.networks import OWN_GAIN, PLAIN
from sase_attn.genotype import Genotype, genotypes
from sase_attn.search.config import SearchConfig
from sase_attn.search.shared_weights.scorer import Scorer
from sase_attn.search.space import SearchSpace
from sase_attn.training.data import DataConfig
from sase_attn.training.distributed import ranks
from sase_attn.training.recipes import Recipe
from sase_attn.training.run_folder import run_folder

Build = Callable[[Genotype | None], nn.Module]
"""Makes a network with the blocks of a genotype; for None, without attention."""

RETRAINED = "retrained"
"""The name of the folder of the comparison, within that of its search."""


def compared_genotypes(
    found: Genotype, space: SearchSpace, *, random: int, published: bool = True
) -> dict[str, Genotype]:
    """The found genotype, the published ones that the space holds, and random ones."""
    chosen = {"found": found}
    for name, genotype in genotypes.items() if published else ():
        try:
            space.columns(genotype)
        except ValueError:
            continue
        if genotype != found:
            chosen[name] = genotype
    return chosen | {f"random-{seed}": space.random(seed) for seed in range(random)}


def genotype_fields(config: SearchConfig, genotype: Genotype) -> dict[str, Any]:
    """Recipe fields for the network of a search, with the blocks of a genotype in place of super-network blocks."""
    arguments = {"base": config.model, "after": list(config.after), "attn": str(genotype)}
    return {"model": "attached", "model_kwargs": {**config.model_kwargs, **arguments}}


def default_recipe(config: SearchConfig, epochs: int) -> Recipe:
    """The `embedded` recipe for a number of epochs, on all training images of the search's data."""
    recipe = Recipe.get("embedded")
    data = asdict(DataConfig.of(config)) | {"batch_size": recipe.batch_size}
    return with_imports(recipe.override(epochs=epochs, warmup_epochs=min(1, epochs - 1), **data), config)


def with_imports(recipe: Recipe, config: SearchConfig) -> Recipe:
    """The recipe, which also imports the modules of the search: a training may run in a process of its own."""
    return recipe.override(imports=tuple(dict.fromkeys((*recipe.imports, *config.imports))))


def compare(
    folder: Path,
    config: SearchConfig,
    chosen: Mapping[str, Genotype],
    recipe: Recipe,
    *,
    seeds: Sequence[int],
    gain: str = UNIT,
    scorer: Scorer | None = None,
    build: Build | None = None,
    jobs: int = 1,
    device: str | None = None,
    echo: Callable[[str], object] = print,
) -> Comparison:
    """Retrain genotypes with paired seeds, beside the plain network and a constant; see `sase_attn.comparison.compare`.

    Args:
        folder: the folder of the search. The trainings and `comparison.json` are written to `retrained/` in it.
        config: the configuration of the search, which names the network and the layers that blocks follow.
        chosen: the genotypes, by label. The constant has the published gain of the first.
        recipe: the recipe of each training, except for the network and the seed.
        seeds: each network is trained once with each seed.
        gain: what blocks start with, "unit" or "published".
        scorer: measures the accuracies of the genotypes as sub-networks, for comparison; by default none are measured.
        build: makes the networks; by default they are those of the configuration.
        jobs: how many trainings run at a time, each in a process of its own.
        device, echo: as for `train`.

    Raises:
        ValueError: no genotype, no seed, no such gain, more than one job with `build`, or a training that had finished
            is of other data. Otherwise as `train_all`.
        InUseError: another process works on the folder.
        ImportError: scipy is not installed.
    """
    if not seeds or not chosen:
        raise ValueError(f"wanted one genotype or more and one seed or more, got {len(chosen)} and {len(seeds)}")
    networks = attended(
        config.model,
        {label: str(genotype) for label, genotype in chosen.items()},
        after=list(config.after),
        base_args=config.model_kwargs,
        gain=gain,
        constants=[next(iter(chosen))],
        from_weights=recipe.init_from is not None,
    )
    with ranks(device) as group, run_folder(folder, group, "search", resume=True):
        scores = {} if scorer is None else {label: scorer.score(genotype).top1 for label, genotype in chosen.items()}
        return compare_networks(
            networks if build is None else _described(networks),
            with_imports(recipe, config),
            folder / RETRAINED,
            seeds=seeds,
            subnetwork_top1={label: scores[_genotype(label)] for label in networks if _genotype(label) in scores},
            build=None if build is None else lambda label: _built(networks[label], chosen, label, build),
            jobs=jobs,
            device=device,
            echo=echo,
        )


def load_comparison(folder: str | Path) -> Comparison | None:
    """The comparison that a search's folder holds, if any. Raises ValueError, naming the file, if it is damaged."""
    try:
        return Comparison.load(Path(folder) / RETRAINED)
    except FileNotFoundError:
        return None


def _genotype(label: str) -> str:
    """The label of the genotype, for the label of a network."""
    return label.removesuffix(OWN_GAIN)


def _described(networks: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The fields to record for networks that `build` makes: only those of the attention, as the rest is unknown."""
    shown = ("attn", "attn_args", "gain")
    return {
        label: {"model_kwargs": {key: value for key, value in fields["model_kwargs"].items() if key in shown}}
        for label, fields in networks.items()
    }


def _built(fields: Mapping[str, Any], chosen: Mapping[str, Genotype], label: str, build: Build) -> nn.Module:
    """The network of a label, made by `build`, at its gain. The constant replaces the blocks of the first genotype."""
    if label == PLAIN:
        return build(None)
    arguments = fields["model_kwargs"]
    model = build(chosen.get(_genotype(label), next(iter(chosen.values()))))
    for name, block in [item for item in model.named_modules() if isinstance(item[1], SASEBlock)]:
        if _genotype(label) not in chosen:
            weight = next(block.parameters(), torch.empty(0))
            place = {"device": weight.device, "dtype": weight.dtype}
            model.set_submodule(name, create_attention("constant", block.channels, **arguments["attn_args"], **place))
        elif "gain" in arguments:
            set_gain(block, arguments["gain"])
    return model
