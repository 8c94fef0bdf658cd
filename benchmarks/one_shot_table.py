"""The table of one-shot synthesis, with one line for each photo."""

from rows import Row


def one_shots(rows: list[Row], place: str) -> str:
    """Reconstruction error, spread of samples, deviation of the photo, and SIFID, with a note on its layer."""
    lines = [
        "| photo | pixels | scales | rebuilt to | samples spread | photo's deviation | wide one's | SIFID | floor |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        height, width = row["sizes"][-1]
        sifid = row["sifid"]
        cells = [
            f"{width}×{height}",
            str(len(row["sizes"])),
            f"{row['reconstruction_rmse']:.3f}",
            f"{row['spread']:.3f}",
            f"{row['deviation']:.3f}",
            f"{row['wide_deviation']:.3f}",
            f"{sifid['mean']:.0f} ± {sifid['deviation']:.0f}",
            f"{sifid['floor']:.0f}",
        ]
        lines.append(f"| {row['label']} | {' | '.join(cells)} |")
    first = rows[0]
    config, sifid = first["config"], first["sifid"]
    regime = (
        f"RMSE and deviations for values from -1 to 1, over {first['samples']} samples; the wide one is 1.8 times as "
        f"wide; SIFID by {sifid['extractor']}, {sifid['layer']}, its floor that of the photo's mirror image; one seed; "
        f"{config['iterations']} iterations a scale, {config['width']} channels; {place}."
    )
    return "\n".join([*lines, "", regime])
