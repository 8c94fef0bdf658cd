"""Write `space_table.json` into the package, from the rows of `results/space_STEPS.jsonl`.

python benchmarks/space/make_table.py
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from rows import read_rows

from sase_attn.files import write_atomically
from sase_attn.search.replay.table import PATH, SpaceTable, TableRow, tables_json
from space.cases import GENOTYPES, SEEDS, blocks, study


def tables() -> list[SpaceTable]:
    """The table of each length with rows: genotypes that were trained with all seeds, and controls."""
    found = []
    for steps in GENOTYPES:
        rows = {
            (row["label"], row["seed"]): TableRow(row["label"], row["seed"], row["top1"], row["loss"])
            for row in read_rows(study(steps))
        }
        labels = [str(genotype) for block in blocks(steps) for genotype in block]
        whole = [label for label in labels if all((label, seed) in rows for seed in range(SEEDS))]
        genotypes = [rows[label, seed] for label in whole for seed in range(SEEDS)]
        controls = [row for (label, _), row in sorted(rows.items()) if label not in labels]
        if genotypes:
            found.append(SpaceTable(steps, tuple(genotypes), tuple(controls)))
    return found


def main() -> None:
    """Write the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    made = tables()
    if not made:
        sys.exit("no genotype has been trained with all seeds: see train_table.py")
    write_atomically(PATH, tables_json(made))
    for table in made:
        print(f"{table.steps} steps: {len(table.genotypes) // SEEDS} genotypes, {len(table.controls)} rows of controls")


if __name__ == "__main__":
    main()
