"""The tables of speed by level and shape, with a line for each variant and a column for each mode and layout."""

import statistics

from provenance_text import commits_of, machines_of, versions_of
from rows import Row

from sase_attn.quoting import enumerated

TITLES = {"block": "Block", "tail": "Tail: batch norm, attention, shortcut, ReLU", "model": "ResNet-50"}
COLUMNS = [(mode, layout) for mode in ("forward", "forward+backward") for layout in ("NCHW", "channels_last")]


def speed(rows: list[Row]) -> str:
    """All tables, device by device, and below them the provenance of the numbers."""
    parts = []
    for device in sorted({row["device"] for row in rows}):
        here = [row for row in rows if row["device"] == device]
        for level in TITLES:
            shapes = {tuple(row["shape"]): None for row in here if row["level"] == level}
            for shape in shapes:
                mine = [row for row in here if row["level"] == level and tuple(row["shape"]) == shape]
                parts.append(_table(level, shape, mine))
        parts.append(_regime(here))
    return "\n\n".join(parts)


def _table(level: str, shape: tuple[int, ...], rows: list[Row]) -> str:
    head = " | ".join(f"{mode}, {layout}" for mode, layout in COLUMNS)
    lines = [f"**{TITLES[level]}, {'×'.join(map(str, shape))}**", "", f"| variant | {head} | peak | saved |"]
    lines.append("| --- |" + " ---: |" * (len(COLUMNS) + 2))
    for variant in dict.fromkeys(row["variant"] for row in rows):
        mine = [row for row in rows if row["variant"] == variant]
        cells = [_cell(next((r for r in mine if (r["mode"], r["layout"]) == column), None)) for column in COLUMNS]
        for key in ("peak_maps", "saved_maps"):
            values = [row[key] for row in mine if row["mode"] == "forward+backward" and key in row]
            cells.append(f"{max(values):.1f}" if values else "")
        lines.append(f"| {variant} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    if "ms" not in row:
        return "fails"
    ms = f"{row['ms']:.0f}" if row["ms"] >= 100 else f"{row['ms']:.3g}"
    if row["level"] != "model":
        return f"{row['copies']:.1f} ({ms} ms, {row['percent_of_copy']:.0f} %)"
    passes = f" ({row['passes']:.1f})" if "passes" in row and row["family"] != "plain" else ""
    return f"{ms} ms{passes}"


def _regime(rows: list[Row]) -> str:
    timed = [row for row in rows if "ms" in row]
    spread = [50 * (row["ms_high"] - row["ms_low"]) / row["ms"] for row in timed]
    bandwidth = [row["gb_per_s"] / row["percent_of_copy"] * 100 for row in timed if "gb_per_s" in row]
    rounds = " to ".join(map(str, sorted({f(row["rounds"] for row in timed) for f in (min, max)}))) if timed else ""
    parts = [
        machines_of(rows),
        enumerated(sorted({row["dtype"] for row in rows})),
        versions_of(rows, "torch", "timm"),
        commits_of(rows),
        f"allocator {enumerated(sorted({row['allocator'] for row in rows}))}",
    ]
    if timed:
        parts.append(f"medians of {rounds} rounds, quartiles ±{statistics.median(spread):.0f} % apart")
    if bandwidth:
        parts.append(f"a copy moves {statistics.median(bandwidth):.0f} GB/s")
    failed = [f"{row['label']}: {row['error']}" for row in rows if "error" in row]
    return "; ".join(parts) + "." + "".join(f" Failed: {line}." for line in failed)
