"""`report.html` of a search: one file that needs neither other files nor the network."""

import json
from html import escape
from pathlib import Path

from sase_attn import quoting
from sase_attn.comparison import Comparison
from sase_attn.errors import in_words
from sase_attn.files import write_atomically
from sase_attn.genotype import genotypes
from sase_attn.search.compare import load_comparison
from sase_attn.search.report import charts, tables, trainings
from sase_attn.search.report.log_rows import Rows, read_log
from sase_attn.search.result import SearchResult
from sase_attn.search.signal import Signal
from sase_attn.search.signal.answers import NOTHING
from sase_attn.search.verdict import load_signal, with_verdict

NAME = "report.html"
_STYLE = """
body { font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; color: #222 }
body { max-width: 1080px; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em; border-bottom: 1px solid #ddd }
table { border-collapse: collapse; font-size: 13px }
th, td { padding: 3px 10px; text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left } tr + tr { border-top: 1px solid #eee } th { font-weight: 600 }
code, pre { font: 13px/1.45 ui-monospace, "DejaVu Sans Mono", monospace; background: #f6f6f6 }
pre { padding: 10px; overflow-x: auto } .lines { white-space: pre-wrap } .wide { overflow-x: auto }
.verdict { background: #fdf3e7; border-left: 4px solid #a84f0c; padding: 8px 14px } .verdict p { margin: 3px 0 }
.chart { max-width: 100%; height: auto } .note { color: #555; font-size: 13px }
"""


def write_report(folder: str | Path, note: str = "") -> Path:
    """Write the report of the finished search in a folder, with its comparison if there is one, and return its path.

    Args:
        folder: the folder of the search.
        note: what else to say about how far the result can be trusted.

    Raises:
        FileNotFoundError: no finished search there. ImportError: matplotlib is not installed.
        ValueError: its files are damaged, or another version's.
    """
    folder = Path(folder)
    comparison, looked = load_comparison(folder), load_signal(folder)
    result = with_verdict(SearchResult.load(folder), comparison)
    path, rows = folder / NAME, [] if result.trained else read_log(folder)
    try:
        html = page(result, comparison, rows, note, looked=looked)
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RuntimeError) as error:
        words = in_words(error)
        raise ValueError(f"the files in {folder} do not fit together, or are another version's: {words}") from error
    write_atomically(path, html)
    return path


def page(
    result: SearchResult, comparison: Comparison | None, rows: Rows, note: str = "", *, looked: Signal | None = None
) -> str:
    """The page as HTML.

    Args:
        result: the result of the search.
        comparison: the comparison of its retrained networks, if there is one.
        rows: the lines of its log, from `read_log`; empty for a search by trainings from scratch.
        note: what else to say about how far the result can be trusted.
        looked: the look for signal, if there was one.
    """
    config = result.config
    ended = looked is not None and looked.answer == NOTHING
    stays = ended and result.found in genotypes.values()
    said = [
        note,
        f"{'decided' if result.decided else 'not decided'}: {result.reason}",
        *(comparison.notes() if comparison else ["nothing was retrained: no verdict"]),
        *result.warnings(),
    ]
    parts = [
        f"<h1>Search on {escape(Path(config['data']).name)} in {escape(config['model'])}</h1>",
        f'<div class="verdict">{"".join(f"<p>{escape(line)}</p>" for line in said if line)}</div>',
        f"<h2>{'The published block stays' if stays else 'What was found'}</h2>",
        f'<div class="wide">{charts.block(result.found)}</div>',
        f"<pre>{escape(_usage(result))}</pre>",
    ]
    if not result.trained:
        parts.append(f"<p>{escape(_choice(result))}</p>")
    if comparison:
        parts += ["<h2>Retrained side by side</h2>", charts.comparison(comparison), tables.comparison(comparison)]
    if looked is not None:
        parts += trainings.look(looked)
    parts += trainings.parts(result, ended=ended) if result.trained else _shared_weights(result, rows)
    parts += ["<h2>Where it comes from</h2>", _origin(result)]
    title = f"sase-attn search: {escape(Path(config['data']).name)}"
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(parts) + "\n</body></html>\n"


def _shared_weights(result: SearchResult, rows: Rows) -> list[str]:
    """The part on the super-network and its alpha."""
    epochs = [row for row in rows if row["kind"] == "epoch"]
    steps = [row for row in rows if row["kind"] == "step"]
    parts = []
    if result.alpha:
        shown = [row for row in rows if "alpha" in row]
        parts += [
            "<h2>Weights of the operations</h2>",
            f'<div class="wide">{charts.weights(shown, result.columns, result.found)}</div>',
            '<p class="note">softmax(alpha) on each edge; thick: chosen; dotted: uniform.</p>',
            "<h2>How decided</h2>",
            charts.decisions(epochs),
        ]
    parts += ["<h2>Training</h2>", charts.training(steps, epochs)]
    if result.alpha:
        parts += [
            "<h2>What fills the mixture</h2>",
            tables.scales(epochs, result.columns),
            "<h2>Epoch by epoch</h2>",
            f'<div class="wide">{tables.epoch_by_epoch(epochs, result.columns)}</div>',
        ]
    if result.scores:
        parts += ["<h2>Scored by the shared weights</h2>", f'<div class="wide">{tables.scores(result)}</div>']
    return parts


def _choice(result: SearchResult) -> str:
    """How accurate the genotype is by the shared weights, and how it was chosen."""
    accuracy = f"{result.genotype_top1:.2f} % (norms fitted anew, not retrained)"
    if not result.alpha:
        return (
            "Accuracy on images that did not train the weights: the genotype as the sub-network of weights that random "
            f"genotypes shared {accuracy}. Chosen by loss, of {len(result.scores)} genotypes."
        )
    return (
        f"Accuracy on images that trained alpha but not the weights: the mixture {result.supernet_top1:.2f} %, the "
        f"genotype as its sub-network {accuracy}. Chosen by {result.select}; the largest alphas are the same since "
        f"epoch {result.stable_since} of {result.epochs}."
    )


def _usage(result: SearchResult) -> str:
    return (
        f"import timm\n"
        f"from sase_attn import Genotype, SASEBlock\n\n"
        f"genotype = Genotype.load({quoting.python(Path(result.output).resolve() / 'genotype.json')})\n"
        f"block = SASEBlock(64, genotype=genotype)\n"
        f'model = timm.create_model("sase_resnet50", genotype=str(genotype))\n\n'
        f"# {result.genotype}"
    )


def _origin(result: SearchResult) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    lines = [
        f"{result.seconds:.0f} s of search; {result.machine}; {result.device}; processes: {result.processes}",
        f"{versions}; commit {result.commit or 'unknown'}",
    ]
    config = json.dumps(result.config)
    return "".join(f"<p>{escape(line)}</p>" for line in lines) + f"<p><code>{escape(config)}</code></p>"
