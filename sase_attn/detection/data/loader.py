"""`DetectionLoader`: batches of annotated images, each determined by (seed, epoch, batch, rank)."""

from collections.abc import Iterator
from functools import partial

from torch import Tensor

from sase_attn.detection.data.coco_set import CocoSet
from sase_attn.detection.data.images import DetectionImages, Key, Sample, Target, collate
from sase_attn.training.data.order import Batches, Shard
from sase_attn.training.data.reading import Broken, report_broken
from sase_attn.training.data.workers import Workers


class DetectionLoader:
    """Batches of images and targets for torchvision's detectors: lists, because images differ in size.

    Images keep their size, because the detector resizes them; whether one is mirrored depends on (seed, epoch, image).
    In an evaluation, each rank gets one image per batch, in order and not mirrored, because padding to a common size
    would make the detections of an image depend on the other images.

    Args:
        coco: the annotated images.
        batch_size: images per training batch, over all ranks.
        shard: the seed, and the rank of this process.
        training: whether to shuffle and mirror, or to serve images for an evaluation.
        flip: share of the training images that are mirrored.
        workers: number of worker processes, which does not affect the result.
        on_broken: what to do with images whose pixels cannot be read: "refuse", or "skip" with a warning. A training
            batch with only such images is replaced by the next image that can be read.

    Raises:
        ValueError: there are fewer training images, or a smaller batch, than ranks.
    """

    def __init__(
        self,
        coco: CocoSet,
        *,
        batch_size: int,
        shard: Shard,
        training: bool,
        flip: float = 0.0,
        workers: int = 0,
        on_broken: str = "refuse",
    ) -> None:
        self.coco, self._shard, self._on_broken = coco, shard, on_broken
        images_a_batch = batch_size if training else shard.world_size
        self._batches = Batches(len(coco), images_a_batch, shard, training=training)
        self._samples = DetectionImages(coco, seed=shard.seed, flip=flip if training else 0.0)
        self._workers = Workers(self._samples, collate, workers)
        self._broken: set[int] = set()

    @property
    def batches(self) -> int:
        """The number of batches per epoch on this rank."""
        return len(self._batches)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[list[Tensor], list[Target]]]:
        """Batches of an epoch from batch `start` on: images, float32 (3, height, width) in [0, 1], and their targets.

        A target has `boxes` (x1, y1, x2, y2; float32 (N, 4)), `labels` (int64 (N,), from 1), `image_id` and, if masks
        were read, `masks` (uint8 (N, height, width)). Crowds are left out.

        Raises:
            ValueError: images are broken and refused, or all images are broken; or there is no such batch.
        """
        for images, targets, broken in self._workers.serve(partial(_keys, self._batches, epoch, start)):
            self._report(broken)
            if not images and self._batches.training:
                images, targets, _ = collate([self._next_readable(epoch, max(broken))])
            if images:
                yield [image.float().div_(255) for image in images], targets

    def _next_readable(self, epoch: int, place: int) -> Sample:
        """The first readable image after a broken one, so that no step is without images."""
        for following in range(place + 1, place + len(self.coco)):
            sample = self._samples[epoch, following % len(self.coco)]
            if isinstance(sample[0], Tensor):
                return sample
        raise ValueError(f"none of {len(self.coco)} images of {self.coco.annotations} can be read")

    def _report(self, broken: dict[int, str]) -> None:
        new = {place: reason for place, reason in broken.items() if place not in self._broken}
        self._broken.update(new)
        named = [Broken(self.coco.images[place].path, reason) for place, reason in new.items()]
        report_broken(named, len(self.coco), self._on_broken, warn=self._shard.rank == 0)


def _keys(batches: Batches, epoch: int, start: int) -> Iterator[list[Key]]:
    """The keys of this rank's images of each batch."""
    for _, places in batches.epoch(epoch, start):
        yield [(epoch, place) for place in places[batches.own].tolist()]
