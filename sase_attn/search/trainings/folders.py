"""The folders of trainings: one each, and another one where a worker that is only late may still write to the first."""

import os
import shutil
from hashlib import sha256
from pathlib import Path

from sase_attn.files import temporary_beside
from sase_attn.search.trained import Training
from sase_attn.training import checkpoint, log

TRAININGS = "trainings"


def folder_name(training: Training, late: int) -> str:
    """The name of a training's folder: of its genotype a digest, and its seed.

    Args:
        training: which.
        late: workers that had it before, and may go on writing.
    """
    digest = sha256(str(training.genotype).encode()).hexdigest()[:10]
    return f"{digest}-seed{training.seed}{f'-again{late}' if late else ''}"


def copy_run(source: Path, target: Path) -> None:
    """Copy what a run needs to go on in another folder, if there is a checkpoint; the checkpoint comes last.

    Raises:
        OSError: of the disk.
    """
    if not (source / checkpoint.NAME).is_file() or (target / checkpoint.NAME).exists():
        return
    target.mkdir(parents=True, exist_ok=True)
    copied = temporary_beside(target / checkpoint.NAME)
    shutil.copyfile(source / checkpoint.NAME, copied)  # before the log, which is never shorter than it says
    for name in (log.NAME, "best.safetensors"):
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
    os.replace(copied, target / checkpoint.NAME)
