"""`evaluate_generator`: compare a trained generator with the images that it learned from."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from sase_attn.spatially_adaptive.synthesis.checkpoint import load_synthesis
from sase_attn.spatially_adaptive.synthesis.extractors import EFFICIENTNET
from sase_attn.spatially_adaptive.synthesis.images import TrainingImages, read_folder
from sase_attn.spatially_adaptive.synthesis.judge import Judge
from sase_attn.spatially_adaptive.synthesis.saved_generator import generator_file, load_generator, read_record_of
from sase_attn.spatially_adaptive.synthesis.scores import Scores
from sase_attn.spatially_adaptive.synthesis.sheets import neighbours
from sase_attn.training.checkpoint import check_same_data
from sase_attn.training.distributed import ranks

SHEET = 16  # generated images on the sheet of nearest neighbours


@dataclass(frozen=True)
class Evaluation:
    """The scores of a generator's file, its step, and a sheet (3, H, W) of generated images above the nearest ones."""

    file: Path
    step: int
    scores: Scores
    sheet: Tensor


def evaluate_generator(
    source: str | Path,
    *,
    weights: str = "best",
    images: str | Path | None = None,
    count: int = 100,
    seed: int = 0,
    batch_size: int = 16,
    extractor: str = EFFICIENTNET,
    extractor_weights: str | None = None,
    device: str | None = None,
) -> Evaluation:
    """Scores of a trained generator, FID with its floor among them, and the sheet of nearest neighbours.

    Args:
        source: the folder of a run, or one of its files.
        weights: which weights of a folder: "best" or "last".
        images: the folder of training images; by default the one that the run names.
        count: number of images to generate.
        seed: seed of their latent vectors.
        batch_size: number of images generated at a time.
        extractor, extractor_weights: see `load_extractor`.
        device: "cpu", "cuda" or "cuda:1"; by default CUDA where there is a device.

    Raises:
        FileNotFoundError, UnknownNameError, ValueError: see `load_generator`, `read_folder` and `load_extractor`; or
            the images in the folder that the run names have changed.
        ImportError: a package of the extra `synthesis` is missing.
    """
    path = generator_file(source, weights)
    generator = load_generator(path)
    with ranks(device) as group:
        training = _training_images(Path(source), images, generator.size)
        judge = Judge(training, extractor, extractor_weights, group.device)
        generator = generator.to(group.device)
        shown = generator.sample(min(count, SHEET), seed, batch_size)
        return Evaluation(
            path,
            read_record_of(path).step,
            judge.score(generator.batches(count, seed, batch_size), fid=True),
            neighbours(shown, training.pixels, judge.nearest(shown)),
        )


def _training_images(source: Path, images: str | Path | None, size: int) -> TrainingImages:
    if images is not None:
        return read_folder(Path(images), size, "skip")
    run = source if source.is_dir() else source.parent
    try:
        saved = load_synthesis(run)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{run} holds no checkpoint that names the training images: give their folder (--images FOLDER)"
        ) from None
    found = read_folder(Path(saved.settings.images), size, saved.settings.on_broken)
    check_same_data(found.identity, saved)
    return found
