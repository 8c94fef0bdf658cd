"""`compare`: train networks by one recipe with the same seeds and common initial weights, and compare them."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

from sase_attn.comparison.built import Build, train_built
from sase_attn.comparison.folders import folder_names
from sase_attn.comparison.kendall import kendall
from sase_attn.comparison.networks import PLAIN
from sase_attn.comparison.paired import paired_differences
from sase_attn.comparison.result import NAME, Comparison, Network
from sase_attn.files import remove_temporaries, write_json
from sase_attn.lock import one_process
from sase_attn.training.distributed import ranks
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
    subnetwork_top1: Mapping[str, float] | None = None,
    build: Build | None = None,
    jobs: int = 1,
    device: str | None = None,
    echo: Callable[[str], object] = print,
) -> Comparison:
    """Train every network with every seed, and test the differences to the reference.

    A seed fixes the initial weights that a network has in common with the reference (tensors of the same name and
    shape start with the same bits), the order of the images and their augmentation. Differences are therefore taken
    seed by seed. All networks are trained with one seed before the next. Called again, it continues where it was.

    Args:
        networks: the recipe fields of each network by label, such as `attended` makes.
        recipe: the recipe of each training, except for the network and the seed.
        output: a folder for `comparison.json` and a run folder for each training, which is named by its label if that
            is a valid name on every system.
        seeds: each network is trained once with each seed. Fewer than five give means, but no verdict.
        reference: the label of the network that the others are compared with.
        subnetwork_top1: accuracies in percent as sub-networks of a search, by label; their ranks are compared.
        build: makes the network of a label, with initial weights drawn from torch's generator, for networks that recipe
            fields cannot make; `recipe` then only says how to train it.
        jobs: how many trainings run at a time, each in a process of its own.
        device, echo: as for `train`.

    Raises:
        ValueError: the reference is missing, a seed is given twice, or none; a field is wrong; a training that had
            finished is of other data; more than one job with `build`. Otherwise as `train_all`.
        UnknownNameError: a field that recipes do not have. InUseError: another process works on the folder.
        NotADirectoryError: `output` is a file.
        ImportError: scipy is not installed.
    """
    if reference not in networks:
        raise ValueError(f"reference: wanted one of {', '.join(networks) or 'the networks'}, got {reference!r}")
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds: wanted one or more, each once, got {', '.join(map(str, seeds)) or 'none'}")
    if build is not None and jobs != 1:
        raise ValueError(f"jobs: wanted 1 with networks that `build` makes here, got {jobs}")
    output, names = Path(output), folder_names(networks)
    start_as = {} if build is not None else _start(networks[reference])
    runs = {
        (label, seed): (
            recipe.override(seed=seed, **fields, **({} if label == reference else {"start_as": start_as})),
            output / f"{names[label]}-seed{seed}",
        )
        for seed in seeds
        for label, fields in networks.items()
    }
    results: dict[tuple[str, int], TrainResult] = {}
    if output.exists() and not output.is_dir():
        raise NotADirectoryError(f"{output} is a file: wanted a folder; name another")
    first_seed = [runs[label, seeds[0]][0] for label in networks]
    with ranks(device) as group, ExitStack() as stack:
        with group.together():
            if group.is_main:
                stack.enter_context(one_process(output))
                remove_temporaries(output)
        if build is None:
            check_start(first_seed, device)
            trained = train_all(list(runs.values()), jobs=jobs, device=device, echo=echo)
        else:
            trained = train_built(runs, build, reference, device=device, echo=echo)
        for (label, seed), result in zip(runs, trained, strict=True):
            results[label, seed] = result
            check_comparable(next(iter(results.values())), result)
            group.on_main(echo)(f"{label}, seed {seed}: top-1 {result.top1:.2f} % after {result.seconds:.0f} s")
        comparison = _comparison(networks, recipe, results, reference, seeds, subnetwork_top1 or {})
        if group.is_main:
            _write(comparison, output, echo)
    return comparison


def _write(comparison: Comparison, output: Path, echo: Callable[[str], object]) -> None:
    """Write the comparison unless the folder has the same one; if writing fails, print the table before raising."""
    with suppress(OSError, ValueError):
        if Comparison.load(output) == comparison:
            return
    try:
        write_json(output / NAME, asdict(comparison))
    except OSError:
        echo(comparison.table())
        raise


def _comparison(
    networks: Mapping[str, Mapping[str, Any]],
    recipe: Recipe,
    results: Mapping[tuple[str, int], TrainResult],
    reference: str,
    seeds: Sequence[int],
    subnetwork_top1: Mapping[str, float],
) -> Comparison:
    tau, p = _rank_correlation(results, subnetwork_top1, seeds)
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
                subnetwork_top1=subnetwork_top1.get(label),
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
        tau=tau,
        tau_p=p,
        machine=one.machine,
        versions=one.versions,
        commit=one.commit,
    )


def _rank_correlation(
    results: Mapping[tuple[str, int], TrainResult], subnetwork_top1: Mapping[str, float], seeds: Sequence[int]
) -> tuple[float | None, float | None]:
    """Kendall's τ of the accuracies as sub-networks and after retraining; None for fewer than three networks."""
    if len(subnetwork_top1) < 3:
        return None, None
    retrained = [mean(results[label, seed].top1 for seed in seeds) for label in subnetwork_top1]
    return kendall(list(subnetwork_top1.values()), retrained)


def _start(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe field `start_as`, by which networks start with the initial weights of the network of these fields."""
    return {"model": fields.get("model", Recipe.model), **fields.get("model_kwargs", {})}
