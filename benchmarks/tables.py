"""The README's tables of results, made from the rows of `benchmarks/results/`.

    python benchmarks/tables.py [--write]

Prints the tables, or puts each between its markers in README.md: `<!-- results STUDY -->` … `<!-- /results -->`.
"""

import argparse
import re
import statistics
from pathlib import Path

from rows import Row, read_rows

README = Path(__file__).parent.parent / "README.md"
MARKED = re.compile(r"(<!-- results (\w+) -->\n).*?(<!-- /results -->)", flags=re.DOTALL)


def table(rows: list[Row]) -> str:
    """A line a label, mean ± sample standard deviation over seeds, and below it where the numbers come from."""
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


def _mean(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"


def _regime(rows: list[Row]) -> str:
    recipe = rows[0]["recipe"]
    versions = [", ".join(f"{name} {row['versions'][name]}" for name in ("torch", "timm")) for row in rows]
    commits = {(row["commit"] or "none")[:7] for row in rows}
    parts = [
        f"{recipe['epochs']} epochs of `{recipe['data']}`",
        f"{rows[0]['count']:,} test images",
        "the last epoch's accuracy",
        " and ".join(sorted({row["machine"] for row in rows})),
        " and ".join(sorted(set(versions))),
        f"commit{'s' * (len(commits) > 1)} {' and '.join(sorted(commits))}",
    ]
    return "; ".join(parts) + "."


def filled(text: str) -> str:
    """The README with every marked table made anew."""
    return MARKED.sub(lambda found: f"{found[1]}{table(read_rows(found[2]))}\n{found[3]}", text)


def main() -> None:
    """Print the tables or write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="into README.md")
    args = parser.parse_args()
    text = filled(README.read_text(encoding="utf-8"))
    if args.write:
        README.write_text(text, encoding="utf-8")
    else:
        print("\n".join(found[0] for found in MARKED.finditer(text)))


if __name__ == "__main__":
    main()
