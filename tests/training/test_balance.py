"""Classes of different size: what they weigh in the loss, and how often their images come."""

import pytest
import search_driver
import torch
from PIL import Image
from torch.nn.functional import cross_entropy

from sase_attn.training import Recipe, train
from sase_attn.training.class_weights import class_weights, weighted_loss
from sase_attn.training.data import DataConfig, open_data
from sase_attn.training.data.in_memory import MemoryLoader
from sase_attn.training.data.on_disk import FileLoader
from sase_attn.training.data.order import Batches, Shard
from sase_attn.training.data.sampling import SAMPLINGS, draw_epoch

pytestmark = pytest.mark.usefixtures("one_thread")
COUNTS = torch.tensor([50, 1, 9, 4])
TARGETS = torch.arange(4).repeat_interleave(COUNTS)[torch.randperm(64, generator=torch.Generator().manual_seed(5))]
SMALL = Recipe(
    model="resnet20_cifar", model_kwargs={"layers": [1, 1, 1]}, epochs=2, batch_size=8, lr=0.05, augment="cifar"
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_weights_by_hand():
    torch.testing.assert_close(class_weights(TARGETS, "balanced", 4), 64 / (4 * COUNTS.float()))
    roots = class_weights(TARGETS, "sqrt", 4)
    torch.testing.assert_close(roots * COUNTS.sqrt(), (roots * COUNTS.sqrt())[:1].expand(4))
    for weights in (roots, class_weights(TARGETS, "balanced", 4)):
        assert weights[TARGETS].mean() == pytest.approx(1)
    with pytest.raises(ValueError, match="got none of class 4"):
        class_weights(TARGETS, "balanced", 5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_an_image_weighs_as_its_class_smoothed_or_not(smoothing):
    logits, weights = torch.randn(64, 4, generator=generator()), class_weights(TARGETS, "balanced", 4)
    loss = weighted_loss(logits, TARGETS, weights, label_smoothing=smoothing)
    each = [float(cross_entropy(logits[i : i + 1], TARGETS[i : i + 1], label_smoothing=smoothing)) for i in range(64)]
    own = [float(weights[target]) for target in TARGETS]
    assert float(loss) == pytest.approx(sum(a * b for a, b in zip(each, own, strict=True)) / sum(own), rel=1e-5)
    if not smoothing:
        torch.testing.assert_close(loss, cross_entropy(logits, TARGETS, weight=weights))


def test_smoothing_leaves_the_largest_probability_to_the_class_of_the_image():
    """With torch's own weights in the smoothed part, least is a loss that predicts a rare class for a common one."""
    logits, weights = torch.zeros(1, 10, requires_grad=True), torch.tensor([10.0] + [0.1] * 9)
    image = torch.tensor([5])
    for _ in range(200):
        loss = weighted_loss(logits, image, weights, label_smoothing=0.1)
        (gradient,) = torch.autograd.grad(loss, [logits])
        logits = (logits - gradient).detach().requires_grad_()
    expected = torch.full((10,), 0.01).index_fill(0, image, 0.91)
    torch.testing.assert_close(logits.softmax(1)[0].detach(), expected, atol=5e-3, rtol=0)
    plain = cross_entropy(logits, image, weight=weights, label_smoothing=0.1)
    rare = cross_entropy(torch.zeros(1, 10).index_fill(1, torch.tensor([0]), 3.0), image, weights, label_smoothing=0.1)
    assert rare < plain


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_an_epoch_has_each_class_by_its_share_and_its_images_evenly(sampling):
    shares = COUNTS.double() ** SAMPLINGS[sampling]
    expected, total = 64 * shares / shares.sum(), torch.zeros(4)
    for seed in range(40):
        drawn = draw_epoch(TARGETS, sampling, generator(seed))
        assert torch.equal(drawn, draw_epoch(TARGETS, sampling, generator(seed))) and len(drawn) == 64
        counts = torch.bincount(TARGETS[drawn], minlength=4)
        assert ((counts - expected).abs() < 1).all()
        for label in range(4):
            times = torch.bincount(drawn, minlength=64)[label == TARGETS]
            assert times.max() - times.min() <= 1
        total += counts
    torch.testing.assert_close(total / 40, expected.float(), atol=0.3, rtol=0)
    assert not torch.equal(draw_epoch(TARGETS, sampling, generator(1)), drawn)


def test_ranks_share_what_one_process_draws():
    def served(rank, world_size):
        shard = Shard(3, rank, world_size)
        batches = Batches(64, 6, shard, training=True, sampling="balanced", targets=TARGETS)
        return [indices[batches.own] for _, indices in batches.epoch(2, start=1)]

    whole = served(0, 1)
    assert len(whole) == 10
    for batch, first, second in zip(whole, served(0, 2), served(1, 2), strict=True):
        assert torch.equal(batch[::2], first) and torch.equal(batch[1::2], second)


def test_a_subset_is_balanced_among_its_own():
    batches = Batches(64, 64, Shard(0), training=True, sampling="balanced", targets=TARGETS)
    members = (TARGETS != 0).nonzero().flatten()
    ((_, places),) = batches.subset(members, seed=1).epoch(0)
    counts = torch.bincount(TARGETS[places], minlength=4)
    assert counts[0] == 0 and counts[1:].max() - counts[1:].min() <= 1 and counts.sum() == 14


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """12, 8 and 1 training images."""
    folder = search_driver.image_folder(tmp_path_factory.mktemp("data") / "uneven", train=12, test=2)
    for label, kept in (("b", 8), ("c", 1)):
        for number in range(kept, 12):
            (folder / "train" / label / f"{number}.png").unlink()
    return folder


def test_an_image_that_comes_again_is_augmented_anew(images, tmp_path):
    """Files that are not read into memory draw their augmentation one by one."""
    Image.new("RGB", (30, 20)).save(images / "val" / "a" / "large.png")  # no longer of one size
    config = DataConfig(str(images), size=12, augment="imagenet", batch_size=21, sampling="balanced")
    loader, _, _ = open_data(config, seed=0)
    assert isinstance(loader, FileLoader) and loader.sampling == "balanced"
    ((pixels, targets),) = loader.epoch(0)
    assert torch.bincount(targets).tolist() == [7, 7, 7]
    alone = pixels[targets == 2].flatten(1)
    assert len(alone.unique(dim=0)) == 7
    ((again, _),) = loader.epoch(0)
    assert torch.equal(pixels, again)
    (images / "val" / "a" / "large.png").unlink()


def test_a_stopped_run_goes_on_to_the_same_numbers(images, tmp_path):
    recipe = SMALL.override(data=str(images), class_weights="sqrt", sampling="sqrt", label_smoothing=0.1)
    lines = []
    whole = train(recipe, tmp_path / "whole", device="cpu", echo=lines.append)
    assert any(line.startswith("class weights: ") and line.endswith("(c)") for line in lines)
    assert whole.recipe["class_weights"] == whole.recipe["sampling"] == "sqrt"

    def stop(line):
        if "epoch 1/2" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "stopped", device="cpu", echo=stop)
    with pytest.raises(ValueError, match=r"cannot resume with another recipe: .*sampling \(saved 'sqrt'"):
        train(recipe.override(sampling="shuffle"), tmp_path / "stopped", resume=True, device="cpu", echo=print)
    gone_on = train(recipe, tmp_path / "stopped", resume=True, device="cpu", echo=print)
    assert gone_on.loss == whole.loss
    plain = train(recipe.override(class_weights="none", sampling="shuffle"), tmp_path / "plain", echo=lambda line: None)
    assert plain.loss != whole.loss


def test_what_balances_twice_is_refused():
    for weights, sampling in (("balanced", "balanced"), ("sqrt", "balanced"), ("balanced", "sqrt")):
        with pytest.raises(ValueError, match="together give rare classes more than common ones"):
            Recipe(class_weights=weights, sampling=sampling)
    Recipe(class_weights="sqrt", sampling="sqrt")


def test_loaders_that_do_not_know_it_are_refused(images, tmp_path):
    class Bare:
        def __init__(self, loader):
            self.batches, self.epoch = loader.batches, loader.epoch

    recipe = SMALL.override(data=str(images))
    loader, test, info = open_data(DataConfig.of(recipe), seed=0)
    assert isinstance(loader, MemoryLoader)
    for changes, said in (
        ({"class_weights": "balanced"}, "class_weights: wanted a loader with the targets of its images, got Bare"),
        ({"sampling": "balanced"}, "sampling: wanted a loader that draws 'balanced', got one that draws None"),
    ):
        with pytest.raises(ValueError, match=said):
            train(recipe.override(**changes), tmp_path / "run", data=(Bare(loader), test, info), echo=print)
