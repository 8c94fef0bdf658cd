"""`compare`: networks trained by one recipe, each with the same seeds and from the same start."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sase_attn.comparison.networks import PLAIN
from sase_attn.comparison.paired import paired_differences
from sase_attn.comparison.result import NAME, Comparison, Network
from sase_attn.files import remove_temporaries, write_json
from sase_attn.lock import one_process
from sase_attn.training.jobs import train_all
from sase_attn.training.recipes import Recipe
from sase_attn.training.result import TrainResult, check_comparable
from sase_attn.training.run import check_start

PER_NETWORK = ("model", "model_kwargs", "start_as", "seed")
"""Fields of a recipe in which the networks of a comparison differ."""


def compare(
    networks: Mapping[str, Mapping[str, Any]],
    recipe: Recipe,
    output: str | Path,
    *,
    seeds: Sequence[int],
    reference: str = PLAIN,
    jobs: int = 1,
    device: str | None = None,
    echo: Callable[[str], object] = print,
) -> Comparison:
    """Train every network with every seed, and say what the differences to the reference tell.

    A seed fixes the initial weights that a network has in common with the reference (tensors of the same name and
    shape start with the same bits), the order of the images and their augmentation. Differences are therefore taken
    seed by seed. All networks are trained with one seed before the next. Started again, it goes on where it was.

    Args:
        networks: recipe fields of each, by label, such as `attended` makes.
        recipe: of each training, but for network and seed.
        output: a folder; it gets `comparison.json`, and a run's folder for each training.
        seeds: one for each training of a network. Fewer than five give means, and no verdict.
        reference: the label of the network that the others are compared with.
        jobs: trainings at a time, each in a process of its own.
        device, echo: as `train` takes them.

    Raises:
        ValueError: the reference is missing, a seed is given twice, or none; a field is wrong; a training that had
            finished is of other data. Else as `train_all`.
        UnknownNameError: a field that recipes do not have. InUseError: another process works on the folder.
        ImportError: scipy is not installed.
    """
    if reference not in networks:
        raise ValueError(f"reference: wanted one of {', '.join(networks) or 'the networks'}, got {reference!r}")
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds: wanted one or more, each once, got {', '.join(map(str, seeds)) or 'none'}")
    output = Path(output)
    start_as = _start(networks[reference])
    runs = {
        (label, seed): (
            recipe.override(seed=seed, **fields, **({} if label == reference else {"start_as": start_as})),
            output / f"{label}-seed{seed}",
        )
        for seed in seeds
        for label, fields in networks.items()
    }
    results: dict[tuple[str, int], TrainResult] = {}
    if output.exists() and not output.is_dir():
        raise NotADirectoryError(f"{output} is a file: wanted a folder; name another")
    first_seed = [runs[label, seeds[0]][0] for label in networks]
    with one_process(output):
        check_start(first_seed, device)
        remove_temporaries(output)
        trained = train_all(list(runs.values()), jobs=jobs, device=device, echo=echo)
        for (label, seed), result in zip(runs, trained, strict=True):
            results[label, seed] = result
            check_comparable(next(iter(results.values())), result)
            echo(f"{label}, seed {seed}: top-1 {result.top1:.2f} % after {result.seconds:.0f} s")
        comparison = _comparison(networks, recipe, results, reference, seeds)
        write_json(output / NAME, asdict(comparison))
    return comparison


def _comparison(
    networks: Mapping[str, Mapping[str, Any]],
    recipe: Recipe,
    results: Mapping[tuple[str, int], TrainResult],
    reference: str,
    seeds: Sequence[int],
) -> Comparison:
    rows = {label: [results[label, seed] for seed in seeds] for label in networks}
    one = next(iter(results.values()))
    return Comparison(
        networks=[
            Network(
                label=label,
                fields=dict(fields),
                parameters=rows[label][0].parameters,
                top1=[result.top1 for result in rows[label]],
                loss=[result.loss for result in rows[label]],
                seconds=[result.seconds for result in rows[label]],
            )
            for label, fields in networks.items()
        ],
        differences=paired_differences(
            {label: [result.top1 for result in found] for label, found in rows.items()}, reference, images=one.count
        ),
        reference=reference,
        seeds=list(seeds),
        recipe={name: value for name, value in json.loads(recipe.to_json()).items() if name not in PER_NETWORK},
        test_images=one.count,
        machine=one.machine,
        versions=one.versions,
        commit=one.commit,
    )


def _start(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's `start_as` for networks that start as the one of these fields."""
    return {"model": fields.get("model", Recipe.model), **fields.get("model_kwargs", {})}
