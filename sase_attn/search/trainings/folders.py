"""The folder of each training, and a new one if a worker that was given up may still write to the first."""

import os
import shutil
from hashlib import sha256
from pathlib import Path

from sase_attn.files import temporary_beside
from sase_attn.search.trained import Training
from sase_attn.training import checkpoint, log

TRAININGS = "trainings"


def folder_name(training: Training, late: int) -> str:
    """The name of a training's folder: a digest of its genotype, and its seed.

    Args:
        training: the training.
        late: the number of workers that had it before and may still write to their folders.
    """
    digest = sha256(str(training.genotype).encode()).hexdigest()[:10]
    return f"{digest}-seed{training.seed}{f'-again{late}' if late else ''}"


def copy_run(source: Path, target: Path) -> None:
    """Copy what a run needs to continue in another folder, if it has a checkpoint; the checkpoint gets its name last.

    Raises:
        OSError: a file cannot be read or written.
    """
    if not (source / checkpoint.NAME).is_file() or (target / checkpoint.NAME).exists():
        return
    target.mkdir(parents=True, exist_ok=True)
    copied = temporary_beside(target / checkpoint.NAME)
    shutil.copyfile(source / checkpoint.NAME, copied)  # before the log, which must not be shorter than it says
    for name in (log.NAME, "best.safetensors"):
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
    os.replace(copied, target / checkpoint.NAME)
