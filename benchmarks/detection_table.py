"""The tables of `results/detection.jsonl`: average precision of detectors on backbones with and without attention."""

from rows import Row


def detectors(rows: list[Row], place: str) -> str:
    """One table for each set of images, with one line for each backbone, without a ranking.

    Args:
        rows: one for each training, all with one seed.
        place: the provenance of the rows, in words.
    """
    rows = sorted(rows, key=lambda row: row["parameters"])
    parts = []
    for name in sorted({row["set"] for row in rows}):
        parts += ["\n".join(_table([row for row in rows if row["set"] == name])), ""]
    first = rows[0]["config"]
    accuracies = {row["network"]: row["backbone_top1"] for row in rows}
    learned = ", ".join(f"{network} {top1:.1f} %" for network, top1 in accuracies.items())
    notes = (
        f"COCO's numbers of the last of {first['epochs']} epochs, batch {first['batch_size']}, one seed: it tells no "
        f"two of them apart. The backbones (ResNet-18, attention at unit gain) first learned 25 classes of Tiny "
        f"ImageNet ({learned}); {place}."
    )
    return "\n".join([*parts, notes])


def _table(rows: list[Row]) -> list[str]:
    boxes = rows[0]["metrics"]["boxes"]
    has_masks = rows[0]["metrics"]["masks"] is not None
    classes = [each["name"] for each in boxes["per_class"]]
    named = classes if len(classes) > 1 else []
    heads = ["box AP", "AP50", "AP75", *[f"{name}, AP50" for name in named], *["mask AP", "AP50"] * has_masks]
    config = rows[0]["config"]
    where = f"{rows[0]['set']}, {rows[0]['metrics']['images']} images, {config['min_size'][-1]} pixels"
    lines = [f"| {where} | parameters | {' | '.join(heads)} |", f"| --- |{' ---: |' * (len(heads) + 1)}"]
    for row in rows:
        found = row["metrics"]["boxes"]
        by_class = {each["name"]: each["ap50"] for each in found["per_class"]}
        values = [found["ap"], found["ap50"], found["ap75"], *[by_class[name] for name in named]]
        if has_masks:
            values += [row["metrics"]["masks"]["ap"], row["metrics"]["masks"]["ap50"]]
        cells = ["–" if value is None else f"{value:.3f}" for value in values]
        lines.append(f"| {row['network']} | {row['parameters'] / 1e6:.2f}M | {' | '.join(cells)} |")
    return lines
