"""The tables of `results/detection_speed.jsonl`: images per second of detectors, and ratios to the plain one."""

from rows import Row

_COLUMNS = ("step", "inference")


def detection_speeds(rows: list[Row]) -> str:
    """One table for each recipe, ResNet and device, with one line for each variant."""
    places = list(dict.fromkeys(_place(row) for row in rows))
    return "\n\n".join(_table([row for row in rows if _place(row) == place]) for place in places)


def _place(row: Row) -> tuple[str, str, str, str]:
    return row["recipe"], row["resnet"], row["machine"], row["device"]


def _table(rows: list[Row]) -> str:
    plain = next(row for row in rows if row["label"] == "plain")
    lines = [
        "| backbone | training, images/s | relative | inference, images/s | relative |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        cells: list[str] = []
        for key in _COLUMNS:
            if f"{key}_ms" in row:
                speed = 1000 * row[f"{key}_images"] / row[f"{key}_ms"]
                cells += [f"{speed:.3g}", f"{plain[f'{key}_ms'] / row[f'{key}_ms']:.2f}"]
            else:
                cells += ["", ""]
        lines.append(f"| {row['label']} | {' | '.join(cells)} |")
    rounds = len(plain["all_step_ms"])
    where = plain["machine"] if plain["device"] == "cpu" else plain["device"]
    return "\n".join(
        [
            *lines,
            "",
            f"Recipe `{plain['recipe']}` on {plain['resnet']}, images of {plain['size']} pixels with ten objects each, "
            f"{plain['step_images']} a step; all in one run, in turns, medians of {rounds} round{'s' * (rounds > 1)}; "
            f"{where}; torch {plain['versions']['torch']}; commit {(plain['commit'] or 'none')[:7]}.",
        ]
    )
