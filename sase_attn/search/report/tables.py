"""The tables of a search's report, as HTML."""

from collections.abc import Iterable, Sequence
from html import escape
from statistics import mean
from typing import Any

import torch

from sase_attn.comparison import Comparison, Network
from sase_attn.comparison.result import difference_words
from sase_attn.quoting import counted
from sase_attn.search.report.log_rows import Rows
from sase_attn.search.result import SearchResult, TrainingRow
from sase_attn.search.shared_weights.op_scales import energy_fractions
from sase_attn.search.supernet.architecture import mean_entropy


def comparison(found: Comparison) -> str:
    """One row for each retrained network, and below them how they were trained."""
    differences = {difference.label: difference for difference in found.differences}
    count = sum(network.subnetwork_top1 is not None for network in found.networks)

    def row(network: Network) -> list[str]:
        subnet = "" if network.subnetwork_top1 is None else f"{network.subnetwork_top1:.2f}"
        seeds = ", ".join(f"{value:.2f}" for value in network.top1)
        against = difference_words(differences.get(network.label))
        seconds, attention = f"{sum(network.seconds):.0f}", network.fields.get("model_kwargs", {}).get("attn")
        shared = [subnet] * (count > 0)
        return [network.label, network.accuracy, against, seeds, *shared, seconds, _names(attention)]

    head = ["network", "top-1, %", f"minus {found.reference}, points", "seed by seed"]
    head += [*["as sub-network, %"] * (count > 0), "seconds", "attention"]
    recipe = found.recipe
    tau = "" if found.tau is not None or not count else f" Kendall's τ with {count} sub-networks: not defined."
    return (
        f'<div class="wide">{_table(head, map(row, found.networks))}</div>'
        f'<p class="note">{counted(recipe["epochs"], "epoch")}, learning rate {recipe["lr"]}, batch '
        f"{recipe['batch_size']}; the last epoch's accuracy on {found.test_images:,} test images; seeds "
        f"{', '.join(map(str, found.seeds))}, each with the same initial weights, order of images and augmentation for "
        f"every network.{tau}</p>"
    )


def scales(epochs: Rows, columns: dict[str, list[str]]) -> str:
    """One row for each edge: the size of each operation's output and its part of the mixture, in the last epoch."""
    last = epochs[-1]
    fractions = energy_fractions(last["scales"], torch.tensor(last["weights"]))
    blocks = []
    for edge, values in last["scales"].items():
        cells = [
            f'<td style="background: rgba(168, 79, 12, {part / 2:.2f})">{escape(name)}<br>{value:.3g}, {part:.0%}</td>'
            for name, value, part in zip(columns[edge], values, fractions[edge], strict=True)
        ]
        blocks.append(f"<tr><td>{edge}</td>{''.join(cells)}</tr>")
    return (
        f'<div class="wide"><table>{"".join(blocks)}</table></div>'
        '<p class="note">After the last epoch: root mean square of each operation\'s output, and its part of '
        "Σ (weight · that)². One that fills a mixture hides the others from alpha; --without leaves it out.</p>"
    )


def epoch_by_epoch(epochs: Rows, columns: dict[str, list[str]]) -> str:
    """One row for each epoch; the entropy is the mean over the edges with more than one operation."""

    def row(entry: dict[str, Any]) -> list[str]:
        curvature = "" if entry.get("curvature") is None else f"{entry['curvature']:.3g}"
        losses = f"{entry['train_loss']:.4f}", "" if entry["val_loss"] is None else f"{entry['val_loss']:.4f}"
        entropy = f"{mean_entropy(entry['entropy'], columns):.4f}"
        measured = *losses, entropy, curvature, f"{entry['seconds']:.0f}"
        return [str(entry["epoch"] + 1), *measured, _names(entry["genotype"])]

    head = ["epoch", "loss", "loss, alpha's", "entropy", "curvature", "seconds", "largest alphas"]
    return _table(head, map(row, epochs))


def scores(result: SearchResult) -> str:
    """The ten genotypes with the lowest loss, of a selection by score."""
    rows = [[_names(name), f"{top1:.2f}", f"{loss:.4f}"] for name, top1, loss in result.scores[:10]]
    return (
        _table(["genotype", "top-1, %", "loss"], rows)
        + f'<p class="note">The 10 of the lowest loss of {len(result.scores)}.</p>'
    )


def trainings(found: Iterable[tuple[str, Sequence[TrainingRow], Sequence[float]]]) -> str:
    """One row for each genotype trained from scratch: its trainings, and its accuracies without effects of seeds."""
    rows = [
        [
            _names(genotype),
            str(len(ended)),
            f"{mean(values):+.2f}" if values else "failed",
            ", ".join(f"{row.seed}: {'failed' if row.top1 is None else f'{row.top1:.2f}'}" for row in ended),
        ]
        for genotype, ended, values in found
    ]
    return _table(["genotype", "trainings", "mean less its seeds', points", "top-1 seed by seed, %"], rows)


def _names(attention: str | None) -> str:
    """The operations of a genotype in the order of the edges, or another attention's name."""
    if attention is None:
        return "no attention"
    if ":" not in attention:
        return attention
    return " ".join(part.partition(":")[2] for part in attention.split(",")[:-1])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"<tr>{''.join(f'<th>{escape(cell)}</th>' for cell in head)}</tr>"]
    lines += [f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows]
    return f"<table>{''.join(lines)}</table>"
