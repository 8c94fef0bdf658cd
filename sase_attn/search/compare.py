"""Retrain genotypes beside each other by one recipe, each with several seeds."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sase_attn.files import remove_temporaries, write_json
from sase_attn.genotype import Genotype, genotypes
from sase_attn.search.comparison import NAME, Compared, Comparison
from sase_attn.search.config import SearchConfig
from sase_attn.search.scorer import Scorer
from sase_attn.search.space import SearchSpace
from sase_attn.search.verdict import rank_correlation, verdict
from sase_attn.training import checkpoint
from sase_attn.training.data import DataConfig
from sase_attn.training.distributed import ranks
from sase_attn.training.jobs import train_all
from sase_attn.training.recipes import Recipe
from sase_attn.training.result import TrainResult, check_comparable
from sase_attn.training.run import train
from sase_attn.training.run_folder import run_folder

Build = Callable[[Genotype | None], nn.Module]
"""Makes a network with a genotype, or with None the one without attention."""

RETRAINED = "retrained"
_PER_NETWORK = ("model", "model_kwargs", "seed")  # fields of the recipe in which networks differ


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
        chosen[name] = genotype
    return chosen | {f"random-{seed}": space.random(seed) for seed in range(random)}


def network_fields(config: SearchConfig, chosen: Mapping[str, Genotype], plain: bool) -> dict[str, dict[str, Any]]:
    """Recipe fields that make each network, by label.

    Args:
        config: of the search, which names the network and the layers that blocks follow.
        chosen: genotypes, by label, that take the place of the mixtures.
        plain: whether the network without attention is made too, as "plain".
    """
    made: dict[str, dict[str, Any]] = {}
    if plain:
        made["plain"] = {"model": config.model, "model_kwargs": dict(config.model_kwargs)}
    for label, genotype in chosen.items():
        arguments = {"base": config.model, "after": list(config.after), "attn": str(genotype)}
        made[label] = {"model": "attached", "model_kwargs": {**config.model_kwargs, **arguments}}
    return made


def default_recipe(config: SearchConfig, epochs: int) -> Recipe:
    """The `embedded` recipe for so many epochs, on all training images of the search's data."""
    recipe = Recipe.get("embedded")
    data = asdict(DataConfig.of(config)) | {"batch_size": recipe.batch_size}
    return with_imports(recipe.override(epochs=epochs, warmup_epochs=min(1, epochs - 1), **data), config)


def with_imports(recipe: Recipe, config: SearchConfig) -> Recipe:
    """The recipe with the modules that the search has imported, for processes that know none yet."""
    return recipe.override(imports=tuple(dict.fromkeys((*recipe.imports, *config.imports))))


def compare(
    folder: Path,
    config: SearchConfig,
    chosen: Mapping[str, Genotype],
    recipe: Recipe,
    *,
    seeds: Sequence[int],
    plain: bool = True,
    scorer: Scorer | None = None,
    build: Build | None = None,
    jobs: int = 1,
    device: str | None = None,
    echo: Callable[[str], object] = print,
) -> Comparison:
    """Retrain genotypes with each seed, and write the comparison; finished trainings stay, others resume.

    Args:
        folder: of the search; it gets `comparison.json` and `retrained/`.
        config: of the search.
        chosen: the genotypes, by label.
        recipe: of each training, but for network and seed.
        seeds: each network is trained once with each.
        plain: also the network without attention.
        scorer: gives accuracies as sub-networks.
        build: makes the networks; by default the configuration's.
        jobs: trainings at a time, each in a process of its own.
        device, echo: as `train` takes them.

    Raises:
        ValueError: no genotype, no seed, more than one job with `build`, or a training that had finished is of other
            data. Otherwise as `train_all`.
        InUseError: another process works on the folder.
        ImportError: scipy is not installed.
    """
    if build is not None and jobs != 1:
        raise ValueError(f"jobs: wanted 1 with networks that `build` makes here, got {jobs}")
    if not seeds or not chosen:
        raise ValueError(f"wanted one genotype or more and one seed or more, got {len(chosen)} and {len(seeds)}")
    with ranks(device) as group, run_folder(folder, group, "search", resume=True):
        if group.is_main:
            remove_temporaries(folder / RETRAINED)
        made, recipe = network_fields(config, chosen, plain), with_imports(recipe, config)
        if build is not None:
            made = dict.fromkeys(made, {})
        runs = {
            (label, seed): (recipe.override(seed=seed, **made[label]), folder / RETRAINED / f"{label}-seed{seed}")
            for seed in seeds
            for label in made
        }
        if build is None:
            trained = train_all(list(runs.values()), jobs=jobs, device=device, echo=echo)
        else:
            trained = _train_here(runs, chosen, build, device, echo)
        results: dict[tuple[str, int], TrainResult] = {}
        for (label, seed), result in zip(runs, trained, strict=True):
            results[label, seed] = result
            check_comparable(next(iter(results.values())), result)
            echo(f"{label}, seed {seed}: top-1 {result.top1:.2f} % after {result.seconds:.0f} s")
        rows = [_row(label, chosen.get(label), [results[label, seed] for seed in seeds], scorer) for label in made]
        rows.sort(key=lambda row: -row.mean)
        tau, p = rank_correlation(rows)
        one = next(iter(results.values()))
        comparison = Comparison(
            rows=rows,
            seeds=list(seeds),
            recipe={name: value for name, value in json.loads(recipe.to_json()).items() if name not in _PER_NETWORK},
            test_images=one.count,
            tau=tau,
            tau_p=p,
            verdict=verdict(rows, one.count),
            machine=one.machine,
            versions=one.versions,
            commit=one.commit,
        )
        write_json(folder / NAME, asdict(comparison))
        return comparison


def _row(label: str, genotype: Genotype | None, results: Sequence[TrainResult], scorer: Scorer | None) -> Compared:
    return Compared(
        label=label,
        genotype=None if genotype is None else str(genotype),
        top1=[result.top1 for result in results],
        loss=[result.loss for result in results],
        seconds=[result.seconds for result in results],
        supernet_top1=None if scorer is None or genotype is None else scorer.score(genotype).top1,
    )


def _train_here(
    runs: Mapping[tuple[str, int], tuple[Recipe, Path]],
    chosen: Mapping[str, Genotype],
    build: Build,
    device: str | None,
    echo: Callable[[str], object],
) -> Iterator[TrainResult]:
    for (label, seed), (recipe, folder) in runs.items():
        torch.manual_seed(seed)
        model = build(chosen.get(label))
        resume = (folder / checkpoint.NAME).exists()
        yield train(recipe, folder, resume=resume, model=model, device=device, echo=echo)
