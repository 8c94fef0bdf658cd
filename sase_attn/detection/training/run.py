"""`train_detector`: one training from a configuration to a folder, new or resumed."""

from collections.abc import Callable
from pathlib import Path

from sase_attn.detection.config import DetectionConfig
from sase_attn.detection.data import open_detection_data
from sase_attn.detection.evaluation.coco_numbers import require_coco_tools
from sase_attn.detection.training.checkpoint import check_resumable, load_detection
from sase_attn.detection.training.loop import DetectionLoop
from sase_attn.detection.training.result import DetectionResult, read_result
from sase_attn.detection.training.schedule import lr_lines
from sase_attn.imports import import_modules
from sase_attn.modules import count_parameters
from sase_attn.training.checkpoint import check_same_data
from sase_attn.training.distributed import ranks
from sase_attn.training.run_folder import run_folder


def train_detector(
    config: DetectionConfig,
    output: str | Path,
    *,
    resume: bool = False,
    device: str | None = None,
    echo: Callable[[str], object] = print,
) -> DetectionResult:
    """Train a detector on annotated images, evaluate it after each epoch, and write everything to a folder.

    The folder gets `detection.json` (the configuration), `log.jsonl`, `checkpoint.pt` (replaced after every epoch, and
    every `checkpoint_every` steps), `model.safetensors` (the last epoch), `best.safetensors` (the best by AP, of masks
    where there are any; of equals the last), and at the end `result.json` and, with matplotlib, `curves.png`. Started
    by `torchrun`, it is one process of many.

    Args:
        config: what to do.
        output: a folder that does not exist yet, or is empty.
        resume: continue from the checkpoint in `output`, to more `epochs` if the configuration has more; for a finished
            training, its result is returned.
        device: "cpu", "cuda" or "cuda:1"; by default CUDA where there is a device.
        echo: called with each line of output for the user; on rank 0 only.

    Returns:
        The result: COCO's numbers on the validation images, and where they come from.

    Raises:
        FileExistsError: `output` is in use (`InUseError`: by another process). FileNotFoundError: nothing to resume, or
            no data there.
        ValueError: a resumed training would differ from the saved one or get other data, or see `open_detection_data`,
            `create_detector` and `DetectionTrainer`.
        ImportError: a package of the extra `detection` is missing, or one of the configuration's `imports` fails.
        FloatingPointError: a loss is no longer finite; the last checkpoint is from before.
        KeyboardInterrupt: Ctrl-C or SIGTERM; a checkpoint was saved first.
    """
    folder = Path(output)
    import_modules(config.imports)
    require_coco_tools()  # fail now, and not after the first epoch
    with ranks(device) as group, run_folder(folder, group, "training", resume=resume):
        saved = finished = None
        if resume:
            saved = load_detection(folder)
            check_resumable(config, saved)
            finished = read_result(folder) if saved.progress.epoch == config.epochs else None
            if finished is not None and _same_places(config, saved.settings):
                return finished
        group.wait()  # all ranks check the folder before one writes to it
        with group.together():  # if reading fails on one machine, the other ranks must not wait for it
            data = open_detection_data(config, group)
            if saved is not None:
                check_same_data(data.identity, saved)
        if finished is not None:
            return finished
        say = group.on_main(echo)
        if saved is None:
            for name, coco in (("training", data.train_set), ("validation", data.val_set)):
                counts, *findings = coco.report.lines()
                for line in (f"{counts}, by {coco.annotations}", *findings):
                    say(f"{name}: {line}")
            if data.val_set.objects.crowds.all():
                say(
                    f"validation: no object in {data.val_set.annotations}, so there is no average precision, and the "
                    "best weights are the last"
                )
        loop = DetectionLoop(config, folder, group, data, say, saved)
        if saved is None:
            trained, parameters = loop.trained_parameters, count_parameters(loop.model)
            say(f"{config.detector} on {config.backbone}: {parameters:,} parameters, {trained:,} of them trained")
            for line in lr_lines(config, data.train.batches):
                say(line)
        loop.run(saved)
        return loop.finish()


def _same_places(config: DetectionConfig, saved: DetectionConfig) -> bool:
    """Whether the data are in the same folders as before."""
    places = ("data", "train_images", "train_annotations", "val_images", "val_annotations")
    return not set(places) & set(config.differences(saved))
