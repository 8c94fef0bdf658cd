"""`sase-attn list`: the operations, attentions, genotypes and models of this package."""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from sase_attn import describe
from sase_attn.attentions import ATTENTIONS
from sase_attn.attentions.starting_gain import WITHOUT
from sase_attn.commands.arguments import add_command
from sase_attn.commands.progress import progress
from sase_attn.detection.network import paper_sizes
from sase_attn.genotype import genotypes
from sase_attn.models import paper_table
from sase_attn.models.registered import describe_models

LISTINGS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "ops": lambda: [asdict(op) for op in describe.describe_ops()],
    "attentions": lambda: [asdict(attention) for attention in describe.describe_attentions()],
    "genotypes": lambda: [{"name": name, "genotype": str(genotype)} for name, genotype in genotypes.items()],
    "models": lambda: [asdict(model) for model in describe_models()],
}
_NOTES = {
    "ops": " (parameters at C = 256)",
    "attentions": " (parameters at C = 256)",
    "models": " (timm.create_model)",
}


def add_parser(commands: Any) -> None:
    """Add `list` to the subparsers of `sase-attn`."""
    sub = add_command(commands, "list", run, "List operations, attentions, genotypes and models, or one of these.")
    sub.add_argument("kind", nargs="?", choices=tuple(LISTINGS), help=f"default: all {len(LISTINGS)}")
    sub.add_argument(
        "--compare", action="store_true", help="parameters and MACs of all networks beside the paper's table"
    )
    form = sub.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--markdown", action="store_true", help="print operations, or attentions, as a Markdown table")


def run(args: argparse.Namespace) -> None:
    """Print the lists that the arguments ask for."""
    if args.compare:
        if args.kind is not None or args.markdown:
            args.error("--compare prints the table of the paper's comparison; it goes with --json only")
        _print_comparison(args.json)
    elif args.markdown:
        tables = {None: describe.operations_table, "ops": describe.operations_table}
        tables["attentions"] = describe.attentions_table
        if args.kind not in tables:
            args.error(f"--markdown prints the table of operations or of attentions, not of {args.kind}")
        print(tables[args.kind]())
    else:
        listed = {kind: rows() for kind, rows in LISTINGS.items() if args.kind in (None, kind)}
        print(json.dumps(listed, indent=2) if args.json else "\n\n".join(map(_as_text, listed, listed.values())))


def _print_comparison(as_json: bool) -> None:
    compared = list(progress(paper_table.comparison(), len(paper_table.ATTENTIONS), "counting networks"))
    detectors = list(progress(paper_sizes.detector_sizes(), paper_sizes.NUMBER, "counting detectors"))
    if as_json:
        rows = {"networks": [asdict(row) for row in compared], "detectors": [asdict(row) for row in detectors]}
        print(json.dumps(rows, indent=2))
    else:
        print(f"{paper_table.comparison_text(compared)}\n\n{paper_sizes.detectors_text(detectors)}")


def _as_text(kind: str, rows: list[dict[str, Any]]) -> str:
    keys = list(rows[0])
    cells = [[f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()] for row in rows]
    right = [i for i, key in enumerate(keys) if key == "parameters"]
    text = f"{kind}{_NOTES.get(kind, '')}\n{describe.text_table([keys, *cells], right=right)}"
    return "\n".join([text, *(_notes_without_gain(rows) if kind == "attentions" else [])])


def _notes_without_gain(rows: list[dict[str, Any]]) -> list[str]:
    """Notes on why attentions have no starting gain."""
    names = [row["name"] for row in rows if row["starting_gain"] is None]
    reasons = {name: WITHOUT.get(ATTENTIONS[name].__name__) for name in names}
    return [f"{name} has no starting gain: {reason}" for name, reason in reasons.items() if reason]
