"""Images to train and test on: the embedded set, torchvision's sets, image folders.

    train, test, info = open_data(DataConfig("embedded"), seed=0)
    for images, targets in train.epoch(0): ...

Small sets are held in memory as uint8 and augmented batch by batch; larger ones are read from their files, by worker
processes if there are any. In both cases an epoch is a pure function of (seed, epoch): it can be resumed at any batch,
and the ranks of a distributed run share the batches that one process would get.
"""

from sase_attn.training.data.config import DataConfig as DataConfig
from sase_attn.training.data.identity import DataIdentity as DataIdentity
from sase_attn.training.data.image_file import UnreadableImageError as UnreadableImageError
from sase_attn.training.data.image_file import read_image as read_image
from sase_attn.training.data.loader import DataInfo as DataInfo
from sase_attn.training.data.loader import Loader as Loader
from sase_attn.training.data.loader import SubsetLoader as SubsetLoader
from sase_attn.training.data.open import open_data as open_data
