"""`report.html` of a search: one file that needs no other and no network."""

import html
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from sase_attn.files import write_atomically
from sase_attn.search.comparison import Comparison
from sase_attn.search.op_scales import energy_shares
from sase_attn.search.report import charts
from sase_attn.search.result import SearchResult
from sase_attn.training import log

NAME = "report.html"
_STYLE = """
body { font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; color: #222 }
body { max-width: 1080px; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em; border-bottom: 1px solid #ddd }
table { border-collapse: collapse; font-size: 13px }
th, td { padding: 3px 10px; text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left } tr + tr { border-top: 1px solid #eee } th { font-weight: 600 }
code, pre { font: 13px/1.45 ui-monospace, "DejaVu Sans Mono", monospace; background: #f6f6f6 }
pre { padding: 10px; overflow-x: auto } .wide { overflow-x: auto }
.verdict { background: #fdf3e7; border-left: 4px solid #a84f0c; padding: 8px 14px } .verdict p { margin: 3px 0 }
.chart { max-width: 100%; height: auto } .note { color: #555; font-size: 13px }
"""


def write_report(folder: str | Path, note: str = "") -> Path:
    """Write the report of the finished search in a folder, with its comparison if there is one, and return its path.

    Args:
        folder: of the search.
        note: what else to say about how far the result can be trusted.

    Raises:
        FileNotFoundError: no finished search there. ImportError: matplotlib is not installed.
    """
    folder = Path(folder)
    result, comparison = SearchResult.load(folder), Comparison.load(folder)
    path = folder / NAME
    write_atomically(path, page(result, comparison, read_log(folder), note))
    return path


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The rows of a search's log, each with its `place` in epochs."""
    rows = [json.loads(line) for line in (folder / log.NAME).read_text(encoding="utf-8").splitlines()]
    steps = max((row["step"] for row in rows), default=1) or 1
    return [row | {"place": row["epoch"] + row["step"] / steps} for row in rows]


def page(result: SearchResult, comparison: Comparison | None, rows: Sequence[dict[str, Any]], note: str = "") -> str:
    """The page as HTML."""
    epochs = [row for row in rows if row["kind"] == "epoch"]
    steps = [row for row in rows if row["kind"] == "step"]
    config = result.config
    said = [*(comparison.verdict if comparison else ["nothing was retrained: no verdict"]), *result.doubts()]
    parts = [
        f"<h1>Search on {_text(Path(config['data']).name)} in {_text(config['model'])}</h1>",
        f'<div class="verdict">{"".join(f"<p>{_text(line)}</p>" for line in [note, *said] if line)}</div>',
        "<h2>What was found</h2>",
        f'<div class="wide">{charts.block(result.found)}</div>',
        f"<pre>{_text(_usage(result))}</pre>",
        f"<p>Accuracy on images that trained alpha but not the weights: the mixture {result.supernet_top1:.2f} %, the "
        f"genotype as its sub-network {result.genotype_top1:.2f} % (norms fitted anew, not retrained). Chosen by "
        f"{_text(result.select)}; the largest alphas are the same since epoch {result.stable_since} of "
        f"{result.epochs}.</p>",
    ]
    if comparison:
        parts += ["<h2>Retrained side by side</h2>", charts.comparison(comparison), _comparison(comparison)]
    parts += [
        "<h2>Weights of the operations</h2>",
        f'<div class="wide">{charts.weights([r for r in rows if "alpha" in r], result.columns, result.found)}</div>',
        '<p class="note">softmax(alpha) on each edge; thick: chosen; dotted: uniform.</p>',
        "<h2>How decided</h2>",
        charts.decisions(epochs),
        "<h2>Training</h2>",
        charts.training(steps, epochs),
        "<h2>What fills the mixture</h2>",
        _scales(epochs, result.columns),
        "<h2>Epoch by epoch</h2>",
        f'<div class="wide">{_epochs(epochs)}</div>',
    ]
    if result.scores:
        parts += ["<h2>Scored by the shared weights</h2>", f'<div class="wide">{_scores(result)}</div>']
    parts += ["<h2>Where it comes from</h2>", _origin(result)]
    title = f"sase-attn search: {_text(Path(config['data']).name)}"
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(parts) + "\n</body></html>\n"


def _usage(result: SearchResult) -> str:
    return (
        f"import timm\n"
        f"from sase_attn import Genotype, SASEBlock\n\n"
        f'genotype = Genotype.load("{Path(result.output).resolve() / "genotype.json"}")\n'
        f"block = SASEBlock(64, genotype=genotype)\n"
        f'model = timm.create_model("sase_resnet50", genotype=str(genotype))\n\n'
        f"# {result.genotype}"
    )


def _comparison(found: Comparison) -> str:
    def row(entry: Any) -> list[str]:
        spread = "" if entry.std is None else f" ± {entry.std:.2f}"
        shared = "" if entry.supernet_top1 is None else f"{entry.supernet_top1:.2f}"
        cells = f"{entry.mean:.2f}{spread}", ", ".join(f"{value:.2f}" for value in entry.top1), shared
        return [entry.label, *cells, f"{sum(entry.seconds):.0f}", _names(entry.genotype)]

    head = ["network", "top-1, %", "seed by seed", "as sub-network, %", "seconds", "genotype"]
    tau = "too few networks" if found.tau is None else f"{found.tau:.2f} (p = {found.tau_p:.2f})"
    recipe = found.recipe
    count = sum(row.supernet_top1 is not None for row in found.rows)
    return (
        f'<div class="wide">{_table(head, map(row, found.rows))}</div>'
        f'<p class="note">{recipe["epochs"]} epochs, learning rate {recipe["lr"]}, batch {recipe["batch_size"]}; the '
        f"last epoch's accuracy on {found.test_images:,} test images; mean ± sample standard deviation over seeds "
        f"{', '.join(map(str, found.seeds))}. Kendall's τ between accuracy as a sub-network and after retraining, over "
        f"{count} networks: {tau}.</p>"
    )


def _scales(epochs: Sequence[dict[str, Any]], columns: dict[str, list[str]]) -> str:
    """Root mean square of each operation's output, and its part of the mixture's energy, in the last epoch."""
    last = epochs[-1]
    shares = energy_shares(last["scales"], torch.tensor(last["weights"]))
    blocks = []
    for edge, values in last["scales"].items():
        cells = [
            f'<td style="background: rgba(168, 79, 12, {share / 2:.2f})">{_text(name)}<br>{value:.3g}, {share:.0%}</td>'
            for name, value, share in zip(columns[edge], values, shares[edge], strict=True)
        ]
        blocks.append(f"<tr><td>{edge}</td>{''.join(cells)}</tr>")
    return (
        f'<div class="wide"><table>{"".join(blocks)}</table></div>'
        '<p class="note">After the last epoch: root mean square of each operation\'s output, and its part of '
        "Σ (weight · that)². One that fills a mixture hides the others from alpha; --without leaves it out.</p>"
    )


def _epochs(epochs: Sequence[dict[str, Any]]) -> str:
    def row(entry: dict[str, Any]) -> list[str]:
        curvature = "" if entry.get("curvature") is None else f"{entry['curvature']:.3g}"
        losses = f"{entry['train_loss']:.4f}", f"{entry['val_loss']:.4f}"
        entropy = f"{sum(entry['entropy']) / len(entry['entropy']):.4f}"
        return [
            str(entry["epoch"] + 1),
            *losses,
            entropy,
            curvature,
            f"{entry['seconds']:.0f}",
            _names(entry["genotype"]),
        ]

    head = ["epoch", "loss", "loss, alpha's", "entropy", "curvature", "seconds", "largest alphas"]
    return _table(head, map(row, epochs))


def _scores(result: SearchResult) -> str:
    rows = [[_names(name), f"{top1:.2f}", f"{loss:.4f}"] for name, top1, loss in result.scores[:10]]
    return _table(["genotype", "top-1, %", "loss"], rows) + f'<p class="note">The best 10 of {len(result.scores)}.</p>'


def _origin(result: SearchResult) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    lines = [
        f"{result.seconds:.0f} s of search; {result.machine}; {result.device}; processes: {result.processes}",
        f"{versions}; commit {result.commit or 'unknown'}",
    ]
    config = json.dumps(result.config)
    return "".join(f"<p>{_text(line)}</p>" for line in lines) + f"<p><code>{_text(config)}</code></p>"


def _names(genotype: str | None) -> str:
    """The operations in the order of the edges."""
    if genotype is None:
        return "no attention"
    return " ".join(part.partition(":")[2] for part in genotype.split(",")[:-1])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"<tr>{''.join(f'<th>{_text(cell)}</th>' for cell in head)}</tr>"]
    lines += [f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows]
    return f"<table>{''.join(lines)}</table>"


def _text(value: str) -> str:
    return html.escape(str(value))
