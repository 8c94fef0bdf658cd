"""`open_detection_data`: open the training and validation data that a configuration names."""

from dataclasses import dataclass

from sase_attn.detection.config import DetectionConfig
from sase_attn.detection.data.coco_set import CocoSet, identity_of
from sase_attn.detection.data.loader import DetectionLoader
from sase_attn.detection.data.read_coco import read_coco
from sase_attn.detection.data.splits import find_splits
from sase_attn.training.data.identity import DataIdentity, class_differences
from sase_attn.training.data.order import Shard
from sase_attn.training.distributed import Ranks


@dataclass(frozen=True, eq=False)
class DetectionData:
    """The loaders of both splits, their annotated images, and the identity of the data."""

    train: DetectionLoader
    val: DetectionLoader
    train_set: CocoSet
    val_set: CocoSet
    identity: DataIdentity


def open_detection_data(config: DetectionConfig, group: Ranks) -> DetectionData:
    """Find, read and check the data of a configuration; masks are read if its detector has them.

    Args:
        config: the configuration, of which the fields of the data, the batches and the detector are used.
        group: the processes of the run: `with sase_attn.training.distributed.ranks() as group`.

    Raises:
        OSError, FileNotFoundError: files or folders do not exist.
        ValueError: an annotation file is no COCO JSON, images are broken and refused, or the splits differ in classes.
        ImportError: masks are wanted, and the extra `detection` is missing.
    """
    splits = find_splits(config)
    train, val = (
        read_coco(split.annotations, split.images, masks=config.has_masks, on_broken=config.on_broken)
        for split in (splits.train, splits.val)
    )
    check_classes(train, val)
    shard = Shard(config.seed, group.rank, group.world_size)

    def loader(coco: CocoSet, training: bool) -> DetectionLoader:
        return DetectionLoader(
            coco,
            batch_size=config.batch_size,
            shard=shard,
            training=training,
            flip=config.flip,
            workers=config.workers,
            on_broken=config.on_broken,
        )

    return DetectionData(loader(train, True), loader(val, False), train, val, identity_of(train, val))


def check_classes(train: CocoSet, val: CocoSet) -> None:
    """Raise ValueError unless two sets have the same classes under the same ids."""
    if train.classes != val.classes:
        raise ValueError(class_differences(train.classes, val.classes, str(train.annotations), str(val.annotations)))
    if train.category_ids != val.category_ids:
        name, first, second = next(
            (name, a, b)
            for name, a, b in zip(train.classes, train.category_ids, val.category_ids, strict=True)
            if a != b
        )
        raise ValueError(
            f"category ids differ: {name} is {first} in {train.annotations} and {second} in {val.annotations}"
        )
