"""Memory of this process."""

import resource
from pathlib import Path


def peak_mb() -> float:
    """The most that was resident at once, in MiB.

    Linux counts it for the program alone; `ru_maxrss` begins at what the process held that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
