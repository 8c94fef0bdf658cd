"""The front page as PyPI shows it: links and pictures lead to the files of the tagged commit."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

PICTURES = (".svg", ".png", ".jpg", ".gif")
_TARGET = re.compile(r"""(\]\(|\bsrc="|\bsrcset=")(?!\w+:|\#)([^)\s"]+)""")


class FrontPage(MetadataHookInterface):
    """`readme` of a built distribution, which `pyproject.toml` therefore calls dynamic."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set `readme`. Raises OSError if README.md is missing."""
        page = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        repository = metadata.get("urls", {}).get("Repository")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": absolute(page, repository, metadata["version"]) if repository else page,
        }


def absolute(page: str, repository: str, version: str) -> str:
    """A page of the repository whose relative links lead to its files there, at the tag of a version."""

    def leading(found: re.Match[str]) -> str:
        before, target = found.groups()
        kind = "raw" if target.lower().endswith(PICTURES) else "blob"
        return f"{before}{repository.rstrip('/')}/{kind}/v{version}/{target}"

    return _TARGET.sub(leading, page)
