"""`train_synthesis`: one training from a configuration to a folder, new or resumed."""

from collections.abc import Callable
from pathlib import Path

from sase_attn.imports import import_modules
from sase_attn.spatially_adaptive.synthesis.checkpoint import check_resumable, load_synthesis
from sase_attn.spatially_adaptive.synthesis.config import SynthesisConfig
from sase_attn.spatially_adaptive.synthesis.estimate import duration, memory, seconds_a_step
from sase_attn.spatially_adaptive.synthesis.images import open_images
from sase_attn.spatially_adaptive.synthesis.judge import Judge
from sase_attn.spatially_adaptive.synthesis.loop import SynthesisLoop
from sase_attn.spatially_adaptive.synthesis.result import SynthesisResult, read_result
from sase_attn.training.checkpoint import check_same_data
from sase_attn.training.distributed import ranks
from sase_attn.training.pace import peak_memory
from sase_attn.training.run_folder import run_folder


def train_synthesis(
    config: SynthesisConfig,
    output: str | Path,
    *,
    resume: bool = False,
    device: str | None = None,
    echo: Callable[[str], object] = print,
) -> SynthesisResult:
    """Learn to make images like those of a folder, and write everything to the folder `output`.

    It gets `config.json`, `log.jsonl`, `checkpoint.pt` (replaced with every sheet, every `checkpoint_every` steps,
    and on Ctrl-C), `samples/` with a sheet of the same 16 images every `sample_every` steps, `generator.safetensors`
    (the last weights), `best.safetensors` (the best by KID), `snapshots/` with a few before, and at the end
    `result.json`.

    Args:
        config: what to learn from, and how.
        output: a folder that does not exist yet, or is empty.
        resume: continue from the checkpoint in `output`, to more `steps` if the configuration has more; for a finished
            training, its result is returned.
        device: "cpu", "cuda" or "cuda:1"; by default CUDA where there is a device.
        echo: called with each line of output for the user.

    Raises:
        FileExistsError: `output` is in use (`InUseError`: by another process). FileNotFoundError: nothing to resume, or
            no such folder of images.
        ValueError: a resumed training would differ from the saved one or get other images; started by `torchrun`; or
            see `open_images`, `load_extractor` and `reconstruction.distance`.
        ImportError: a package of the extra `synthesis` is missing, or see `import_modules`.
        FloatingPointError: a loss is no longer finite; the last checkpoint is from before.
        KeyboardInterrupt: Ctrl-C or SIGTERM; a checkpoint was saved first.
    """
    folder = Path(output)
    import_modules(config.imports)
    with ranks(device) as group:
        if group.world_size > 1:
            raise ValueError(f"a synthesis trains in one process, got {group.world_size}: start it without torchrun")
        with run_folder(folder, group, "synthesis", resume=resume):
            saved = None
            if resume:
                saved = load_synthesis(folder)
                check_resumable(config, saved)
                finished = read_result(folder)
                if finished is not None and finished.steps == config.steps:
                    return finished
            images = open_images(config)
            if saved is not None:
                check_same_data(images.identity, saved)
            judge = None
            if config.score_images:
                judge = Judge(images, config.extractor, config.extractor_weights, group.device)
            if saved is None:
                echo(memory(config).sentence(peak_memory(group.device)))
                seconds = seconds_a_step(config, images, group.device)
                echo(
                    f"time: about {duration(seconds * config.steps)} for {config.steps:,} steps of {seconds:.2f} s, "
                    "as the second of two steps took, and the scores"
                )
            loop = SynthesisLoop(config, folder, group, images, judge, echo)
            loop.run(saved)
            return loop.finish()
