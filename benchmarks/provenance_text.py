"""The provenance of the rows of a table, as text below it."""

from rows import Row

from sase_attn.quoting import enumerated


def machines_of(rows: list[Row]) -> str:
    """The machines that the rows were measured on."""
    return enumerated(sorted({row["machine"] for row in rows}))


def versions_of(rows: list[Row], *packages: str) -> str:
    """The versions of the named packages in the rows."""
    return enumerated(sorted({", ".join(f"{name} {row['versions'][name]}" for name in packages) for row in rows}))


def commits_of(rows: list[Row]) -> str:
    """The shortened commits of the rows."""
    commits = sorted({(row["commit"] or "none")[:7] for row in rows})
    return f"commit{'s' * (len(commits) > 1)} {enumerated(commits)}"
