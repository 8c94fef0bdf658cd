"""Order, sharing among ranks, resuming: the batches are a pure function of seed, epoch and place."""

from itertools import pairwise

import pytest
import torch

from sase_attn.training.data.augment import Augment
from sase_attn.training.data.in_memory import MemoryLoader
from sase_attn.training.data.normalise import Normalise
from sase_attn.training.data.order import Batches, Shard

COUNT, BATCH = 29, 6
AUGMENTS = [
    ("cifar", ()),
    ("cifar", (0.4, 0.4, 0.4, 0.2)),
    ("imagenet", ()),
    ("imagenet", (0.4, 0.4, 0.4)),
    ("none", ()),
]


@pytest.fixture(scope="module")
def images():
    return torch.randint(0, 256, (COUNT, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def loader(images, kind="cifar", jitter=(), *, seed=0, rank=0, world_size=1, batch_size=BATCH, training=True):
    """Targets are the places of the images."""
    batches = Batches(len(images), batch_size, Shard(seed, rank, world_size), training=training)
    normalise = Normalise((0.5,) * 3, (0.25,) * 3)
    return MemoryLoader(images, torch.arange(len(images)), batches, Augment(kind, (12, 12), jitter), normalise)


def same(first, second):
    return len(first) == len(second) and all(
        torch.equal(a, b) for x, y in zip(first, second, strict=True) for a, b in zip(x, y, strict=True)
    )


@pytest.mark.parametrize("kind,jitter", AUGMENTS)
def test_epoch_is_a_function_of_seed_and_epoch(images, kind, jitter):
    first = list(loader(images, kind, jitter).epoch(3))
    torch.manual_seed(1)
    again = loader(images, kind, jitter)
    list(again.epoch(0))
    assert same(first, list(again.epoch(3)))
    for other in (loader(images, kind, jitter).epoch(4), loader(images, kind, jitter, seed=1).epoch(3)):
        other = list(other)
        assert not torch.equal(first[0][1], other[0][1])


def test_augmentation_differs_from_epoch_to_epoch_and_batch_to_batch(images):
    alike = images[:1].expand(24, -1, -1, -1)
    first, second = ([x for x, _ in loader(alike).epoch(epoch)] for epoch in (0, 1))
    for a, b in [*zip(first, second, strict=True), *pairwise(first)]:
        assert (a != b).flatten(1).any(1).sum() > 3


@pytest.mark.parametrize("kind,jitter", AUGMENTS)
def test_mid_epoch_start_gives_the_remaining_batches(images, kind, jitter):
    whole = list(loader(images, kind, jitter).epoch(2))
    assert len(whole) == 5
    for start in range(6):
        assert same(whole[start:], list(loader(images, kind, jitter).epoch(2, start)))
    with pytest.raises(ValueError, match="start: wanted a batch from 0 to 5, got 6"):
        next(loader(images).epoch(0, 6))


@pytest.mark.parametrize("kind,jitter", AUGMENTS)
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_out_the_global_batch_with_its_augmentation(images, world_size, kind, jitter):
    whole = list(loader(images, kind, jitter).epoch(1))
    shares = [
        list(loader(images, kind, jitter, rank=rank, world_size=world_size).epoch(1)) for rank in range(world_size)
    ]
    assert all(len(share) == len(whole) for share in shares)
    for step, (x, y) in enumerate(whole):
        for rank, share in enumerate(shares):
            assert torch.equal(share[step][0], x[rank::world_size]) and torch.equal(share[step][1], y[rank::world_size])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("count", [24, 25, 26, 29])
def test_every_sample_once_an_epoch(images, count, world_size, training):
    loaders = [
        loader(images[:count], "none", rank=rank, world_size=world_size, training=training)
        for rank in range(world_size)
    ]
    batches = [list(one.epoch(0)) for one in loaders]
    assert [one.batches for one in loaders] == [len(part) for part in batches]
    seen = torch.cat([targets for part in batches for _, targets in part])
    assert sorted(seen.tolist()) == list(range(count))
    assert all(len(targets) for part in batches for _, targets in part)
    if training:  # all ranks take as many steps
        assert len({len(part) for part in batches}) == 1


def test_last_training_batch_too_small_for_the_ranks_joins_the_one_before(images):
    for count, world_size, sizes in ((26, 1, [6, 6, 6, 6, 2]), (26, 3, [6, 6, 6, 8]), (26, 2, [6, 6, 6, 6, 2])):
        shares = [loader(images[:count], rank=rank, world_size=world_size).epoch(0) for rank in range(world_size)]
        assert [sum(len(y) for _, y in step) for step in zip(*shares, strict=True)] == sizes


@pytest.mark.parametrize("world_size", [1, 2])
def test_last_training_batch_of_one_image_joins_the_one_before(images, world_size):
    """Batch norm of 1x1 maps fails for one image."""
    shares = [loader(images[:25], rank=rank, world_size=world_size) for rank in range(world_size)]
    assert [one.batches for one in shares] == [4] * world_size
    steps = zip(*(one.epoch(0) for one in shares), strict=True)
    assert [sum(len(y) for _, y in step) for step in steps] == [6, 6, 6, 7]
    halves = [one.subset(torch.arange(7), seed=1).epoch(0) for one in shares]
    assert [sum(len(y) for _, y in step) for step in zip(*halves, strict=True)] == [7]
    assert loader(images[:25], training=False).batches == 5
    assert loader(images[:25], batch_size=1).batches == 25 and loader(images[:1]).batches == 1


def test_test_images_are_in_order_and_not_augmented(images):
    for epoch in (0, 5):
        batches = list(loader(images, "none", training=False).epoch(epoch))
        assert torch.cat([targets for _, targets in batches]).tolist() == list(range(COUNT))
        torch.testing.assert_close(torch.cat([x for x, _ in batches]), (images / 255 - 0.5) / 0.25)


def test_one_batch_is_left_when_all_fit_in_one(images):
    for training in (True, False):
        (batch,) = loader(images, "none", batch_size=100, training=training).epoch(0)
        assert len(batch[1]) == COUNT


@pytest.mark.parametrize("count,batch_size,what", [(2, 6, "number of training images"), (20, 2, "batch_size")])
def test_fewer_images_than_ranks(images, count, batch_size, what):
    with pytest.raises(ValueError, match=f"{what}: wanted at least one for each of 3 processes, got 2"):
        loader(images[:count], batch_size=batch_size, world_size=3)


def test_the_global_generator_is_left_alone(images):
    torch.manual_seed(0)
    wanted = torch.rand(3)
    torch.manual_seed(0)
    list(loader(images, "imagenet", (0.1, 0.1, 0.1, 0.1)).epoch(0))
    assert torch.equal(torch.rand(3), wanted)
