"""`peak_mb`: the peak memory of this process."""

import resource
from pathlib import Path


def peak_mb() -> float:
    """Peak resident memory in MiB.

    On Linux it is read from /proc, as `ru_maxrss` includes the memory of the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
