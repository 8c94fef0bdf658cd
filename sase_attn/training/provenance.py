"""`provenance` of numbers: the machine, the device, the versions, and the commit of the source."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import timm
import torch

from sase_attn import __version__
from sase_attn.quoting import counted


def machine() -> str:
    """The processor, its cores, the threads in use, and the system."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    cores, threads = counted(os.cpu_count() or 1, "core"), counted(torch.get_num_threads(), "thread")
    return f"{cpu}, {cores}, {threads}, {platform.system()}"


_CODE = [":(top)", ":(top,exclude)*.jsonl", ":(top,exclude)*.md"]
"""What changes results: not the results themselves, nor pages."""


def commit(file: str | os.PathLike[str] = __file__) -> str | None:
    """The commit of a source file, with "-dirty" if code differs from it; None for files outside of a repository.

    Args:
        file: the source file; by default this package's. Changes to `.jsonl` and `.md` files do not count.
    """
    file = Path(file)

    def git(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = ["git", *words]
        return subprocess.run(command, cwd=file.parent, capture_output=True, text=True, timeout=10, check=check)

    try:
        git("ls-files", "--error-unmatch", file.name)
        head = git("rev-parse", "HEAD").stdout.strip()
        changed = git("diff", "--quiet", "HEAD", "--", *_CODE, check=False).returncode != 0
    except (OSError, subprocess.SubprocessError):
        return None
    return head + "-dirty" * changed


def device_name(device: torch.device) -> str:
    """The name of a CUDA device, or "cpu"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def versions() -> dict[str, str]:
    """Versions of this package, timm, torch and Python."""
    return {
        "sase_attn": __version__,
        "timm": timm.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def provenance(device: torch.device) -> dict[str, Any]:
    """The provenance that a result records: machine, device, versions and commit."""
    return {"machine": machine(), "device": device_name(device), "versions": versions(), "commit": commit()}
