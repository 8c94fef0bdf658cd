"""Generate the tables of README.md and docs/ from the rows of `benchmarks/results/`.

    python benchmarks/tables.py [--write]

It prints the tables, or with `--write` puts each between its markers: `<!-- results STUDY -->` … `<!-- /results -->`.
It also generates the captions of charts, `<!-- regime CHART -->`, and the tables `<!-- operations -->`,
`<!-- attentions -->` and `<!-- detectors -->`.
"""

import argparse
import re
import statistics
from collections.abc import Callable
from pathlib import Path

from attentions_table import judged, others
from captions import caption, starting_factor_table
from confirm_table import confirmed
from detection_speed_table import detection_speeds
from detection_table import detectors
from gain_checks_table import checks
from gain_table import gains
from gradient_table import gradients
from one_shot_table import one_shots
from pretrained_table import cards
from provenance_text import commits_of, machines_of, versions_of
from rows import Row, read_rows
from search_methods_table import searchers
from search_signal_table import searched
from space.controls import controls
from space.lengths import all_rows, lengths
from spatial_table import spatial
from speed_table import speed
from synthesis_table import syntheses

from sase_attn.describe import attentions_table, operations_table
from sase_attn.detection.network.paper_sizes import detectors_table
from sase_attn.quoting import enumerated
from sase_attn.search.supernet.architecture import mean_entropy

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ROWS = {"attentions_others": "attentions", "earlier_accuracies": "compare_embedded", "space_controls": "space"}
"""The study whose rows a table shows, if it is not named like the table."""
MARKED = re.compile(
    r"(<!-- (results|regime|operations|attentions|detectors) ?(\w*) -->\n).*?(<!-- /\2 -->)", flags=re.DOTALL
)


def made(kind: str, name: str) -> str:
    """The text between a pair of markers."""
    if kind == "operations":
        return operations_table()
    if kind == "attentions":
        return attentions_table()
    if kind == "detectors":
        return detectors_table()
    if kind == "regime":
        return caption(name)
    if name == "starting_factor":
        return starting_factor_table()
    study = ROWS.get(name, name)
    return table(name, all_rows() if study == "space" else read_rows(study))


def table(study: str, rows: list[Row]) -> str:
    """The table of a study."""
    makers: dict[str, Callable[[list[Row]], str]] = {
        "search": _searches,
        "search_step": _steps,
        "search_gradient": _gradients,
        "compare_cost": _costs,
        "earlier_accuracies": _earlier_accuracies,
        "attentions": lambda rows: judged(rows, _place(rows)),
        "attentions_others": lambda rows: others(rows, _place(rows)),
        "gain_checks": lambda rows: checks(rows, _place(rows)),
        "tiling": _tilings,
        "speed": speed,
        "gain_240": _gains,
        "gain_960": _gains,
        "one_shot": _one_shots,
        "spatial": _spatials,
        "synthesis": _syntheses,
        "search_methods": lambda rows: searchers(rows, _place(rows)),
        "space": lambda rows: lengths(rows, _place(rows)),
        "space_controls": lambda rows: controls(rows, _place(rows)),
        "search_confirm": lambda rows: confirmed(rows, _place(rows)),
        "search_signal": _searched,
        "pretrained": lambda rows: cards(rows, _place(rows)),
        "detection": lambda rows: detectors(rows, _place(rows)),
        "detection_speed": detection_speeds,
    }
    return makers.get(study, _trainings)(rows)


def _trainings(rows: list[Row]) -> str:
    """One line for each label, mean ± sample standard deviation over seeds; below it the provenance of the numbers."""
    labels = list(dict.fromkeys(row["label"] for row in rows))
    before = "before_top1" in rows[0]
    lines = [
        f"| network |{' before, % |' if before else ''} top-1, % | seeds | test loss |",
        f"| --- |{' ---: |' if before else ''} ---: | ---: | ---: |",
    ]
    for label in labels:
        runs = [row for row in rows if row["label"] == label]
        start = f" {runs[0]['before_top1']:.2f} |" if before else ""
        cells = _mean([row["top1"] for row in runs]), str(len(runs)), f"{statistics.mean(r['loss'] for r in runs):.3f}"
        lines.append(f"| {label} |{start} {' | '.join(cells)} |")
    return "\n".join([*lines, "", _regime(rows)])


def _searches(rows: list[Row]) -> str:
    """One line for each search."""
    lines = [
        "| search | channel squeeze, excite, gate; spatial squeeze of x, of M·x, excite | entropy | mixture, % | "
        "genotype, % |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for row in rows:
        names = " ".join(part.partition(":")[2] for part in row["genotype"].split(",")[:6])
        entropy = mean_entropy(row["entropy"], row["columns"])
        lines.append(
            f"| {row['label']} | `{names}` | {entropy:.3f} | {row['supernet_top1']:.2f} | {row['genotype_top1']:.2f} |"
        )
    config = rows[0]["config"]
    seconds = enumerated(f"{row['seconds']:,.0f}" for row in rows)
    where = (
        f"{config['epochs']} epochs of `{config['data']}`, second order, alpha learning rate {config['alpha_lr']}; "
        "accuracies by the shared weights, on images that trained alpha"
    )
    return "\n".join([*lines, "", f"{where}; {seconds} s; {_place(rows)}."])


def _steps(rows: list[Row]) -> str:
    """One line for each implementation, with its ratios to the release's way."""
    base = next(row for row in rows if "release" in row["label"])
    lines = [
        "| bilevel step | seconds | times as fast | memory | first step, s |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in sorted(rows, key=lambda row: -row["seconds"]):
        speed, memory = base["seconds"] / row["seconds"], row["memory_mb"] / base["memory_mb"]
        lines.append(f"| {row['label']} | {row['seconds']:.2f} | {speed:.2f} | {memory:.2f} | {row['first']:.1f} |")
    return "\n".join([*lines, "", f"{_place(rows)}."])


def _gradients(rows: list[Row]) -> str:
    """One line for each way to compute the gradient of alpha."""
    return gradients(rows, _place(rows))


def _gains(rows: list[Row]) -> str:
    """One line for each network, at published and at unit gain."""
    return gains(rows, _place(rows))


def _searched(rows: list[Row]) -> str:
    """One line for each method by shared weights, with the rank of its finds among random genotypes."""
    trained = read_rows("search_signal_trained")
    return searched(rows, read_rows("space_960"), trained, _place(rows + trained))


def _one_shots(rows: list[Row]) -> str:
    """One line for each photo."""
    return one_shots(rows, _place(rows))


def _spatials(rows: list[Row]) -> str:
    """One line for each network of the comparison with spatially-adaptive SE."""
    return spatial(rows, _place(rows))


def _syntheses(rows: list[Row]) -> str:
    """One line for each training of few-shot synthesis."""
    return syntheses(rows, _place(rows))


def _costs(rows: list[Row]) -> str:
    """One line for each network: size, and costs relative to the plain network, the fastest training first."""
    lines = ["| attention | parameters | MACs, M | step | inference | memory |", "| --- |" + " ---: |" * 5]
    plain = next(row for row in rows if row["label"] == "plain")
    for row in sorted(rows, key=lambda row: float(row["step_ms"])):
        cells = [f"{row['parameters']:,}", f"{row['macs'] / 1e6:.2f}"]
        cells += [f"{row[key] / plain[key]:.2f}" for key in ("step_ms", "inference_ms", "memory_mb")]
        lines.append(f"| {row['label']} | {' | '.join(cells)} |")
    costs = (
        f"Costs relative to plain ({plain['step_ms']:.0f} ms a step, {plain['inference_ms']:.0f} ms inference, "
        f"{plain['memory_mb']:.0f} MB) at batch 128, medians of {len(plain['all_step_ms'])} rounds; {_place(rows)}."
    )
    return "\n".join([*lines, "", costs])


def _earlier_accuracies(rows: list[Row]) -> str:
    """One line for each network, sorted by name: accuracies of unpaired trainings at published gain."""
    studies = {"Embedded": rows, "CIFAR-10": read_rows("compare_cifar")}
    lines = [f"| attention |{''.join(f' {name}, % | seeds |' for name in studies)}", "| --- |" + " ---: |" * 4]
    for label in dict.fromkeys(row["label"] for row in rows):
        cells = []
        for study in studies.values():
            runs = [run["top1"] for run in study if run["label"] == label]
            cells += [_mean(runs) if runs else "", str(len(runs)) if runs else ""]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", "\n\n".join(f"{name}: {_regime(study)}" for name, study in studies.items())])


def _tilings(rows: list[Row]) -> str:
    """One line for each network and kind of tiling, one column for each height: accuracy, and buffered activations."""
    heights = sorted({row["rows"] or 0 for row in rows}, key=lambda height: height or float("inf"))
    words = [f"{height} row{'s' * (height > 1)}" if height else "full" for height in heights]
    lines = [f"| network | tiles | {' | '.join(words)} |", "| --- | --- |" + " ---: |" * len(words)]
    for network in dict.fromkeys(row["network"] for row in rows):
        mine = [row for row in rows if row["network"] == network]
        kinds = sorted({(row["first"] or 0, row["columns"] is not None) for row in mine})
        for first, square in kinds:
            which = f"rows, first {first} of {mine[0]['modules']}" if first else "squares" if square else "rows"
            cells = []
            for height in heights:
                runs = [
                    row
                    for row in mine
                    if (row["first"] or 0, row["columns"] is not None, row["rows"] or 0) == (first, square, height)
                ]
                held = 100 * runs[0]["tiled_activations"] / runs[0]["se_activations"] if runs else 0
                cells.append(f"{_mean([row['top1'] for row in runs])} ({held:.0f})" if runs else "")
            lines.append(f"| {network} | {which} | {' | '.join(cells)} |")
    seeds = {row["network"]: len({r["seed"] for r in rows if r["network"] == row["network"]}) for row in rows}
    parts = [f"{network}: {number} seed{'s' * (number > 1)}" for network, number in seeds.items()]
    images = enumerated((f"{count:,}" for count in sorted({row["count"] for row in rows})), "or")
    where = f"Top-1, %, and in brackets the activations held in % of SE's; {', '.join(parts)}; {images} test images"
    return "\n".join([*lines, "", f"{where}; {_place(rows)}."])


def _place(rows: list[Row]) -> str:
    return "; ".join([machines_of(rows), versions_of(rows, "torch"), commits_of(rows)])


def _mean(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"


def _regime(rows: list[Row]) -> str:
    recipe = rows[0]["recipe"]
    parts = [
        f"{recipe['epochs']} epochs of `{recipe['data']}`",
        f"{rows[0]['count']:,} test images",
        "the last epoch's accuracy",
        machines_of(rows),
        versions_of(rows, "torch", "timm"),
        commits_of(rows),
    ]
    return "; ".join(parts) + "."


def filled(text: str) -> str:
    """The text of a page, with everything between markers generated again."""
    return MARKED.sub(lambda found: f"{found[1]}{made(found[2], found[3])}\n{found[4]}", text)


def main() -> None:
    """Print the tables or write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="into the pages")
    args = parser.parse_args()
    for page in PAGES:
        text = filled(page.read_text(encoding="utf-8"))
        if args.write:
            page.write_text(text, encoding="utf-8")
        else:
            print("\n".join(found[0] for found in MARKED.finditer(text)))


if __name__ == "__main__":
    main()
