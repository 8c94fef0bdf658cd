"""The table of few-shot synthesis, with one line for each training."""

from rows import Row

from sase_attn.quoting import enumerated


def syntheses(rows: list[Row], place: str) -> str:
    """KID at an early step and at the end, the diversity of samples, and their similarity to training images."""
    early = rows[0]["early"]
    lines = [
        f"| skip | seed | parameters | KID, raw, step {early} | KID at the end | ratio | best KID (step) | spread | "
        "precision | recall | nearest | FID (floor) |",
        "| --- | ---: |" + " ---: |" * 10,
    ]
    for row in rows:
        scores, evaluated = row["scores"], row["evaluated"]
        cells = [
            row["label"],
            str(row["seed"]),
            f"{row['parameters']:,}",
            f"{row['early_raw']['kid']:.3f}",
            f"{scores['kid']:.3f}",
            f"{scores['kid'] / row['early_raw']['kid']:.2f}",
            f"{row['best_kid']:.3f} ({row['best_step']:,})",
            f"{scores['spread']:.2f}",
            f"{scores['precision']:.2f}",
            f"{scores['recall']:.2f}",
            f"{scores['nearest']:.2f}",
            f"{evaluated['fid']:.0f} ({evaluated['fid_floor']:.0f})",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    first, config = rows[0], rows[0]["config"]
    finite = "no loss was infinite or NaN" if all(row["finite"] for row in rows) else "some losses were not finite"
    hours = enumerated(f"{row['seconds'] / 3600:.1f}" for row in rows)
    regime = (
        f"Scores against the {first['images']} training images, by {first['scores']['extractor']}, "
        f"{first['scores']['made']} made images; at the end the averaged weights, of step {first['steps']:,}. Nearest "
        "is the distance to the nearest training image over that between training images. FID is of "
        f"{first['evaluated']['fid_images']} made images against as many, its floor what other training images get. "
        f"{config['size']} pixels, width {config['width']}, batch {config['batch_size']}, {finite}; {hours} h beside "
        f"other work; {place}."
    )
    return "\n".join([*lines, "", regime])
