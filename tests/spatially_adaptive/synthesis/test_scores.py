"""Scores against plain formulas; what a hundred images cannot tell is said where it is printed."""

import numpy as np
import pytest
import torch

from sase_attn.spatially_adaptive.synthesis.extractors import load_extractor
from sase_attn.spatially_adaptive.synthesis.scores import nearest, score

pytestmark = pytest.mark.usefixtures("one_thread")


def test_kid_is_the_unbiased_estimate():
    made, images = torch.randn(7, 5), torch.randn(7, 5) + 0.5
    found = score(made, images, images, "own")

    def kernel(a, b):
        return float((a @ b / 5 + 1) ** 3)

    pairs = [(i, j) for i in range(7) for j in range(7)]
    within = sum(kernel(x[i], x[j]) for x in (made, images) for i, j in pairs if i != j) / 42
    across = sum(kernel(made[i], images[j]) for i, j in pairs) / 49
    assert found.kid == pytest.approx(within - 2 * across, rel=1e-4)
    assert found.kid_std == 0


def test_kid_of_more_images_is_the_mean_over_subsets():
    found = score(torch.randn(60, 5), torch.randn(20, 5), torch.randn(20, 5), "own")
    assert abs(found.kid) < 0.5 and found.kid_std > 0


def test_copies_are_seen_and_mirror_images_too():
    images = torch.randn(20, 6) * 10
    mirrored = torch.randn(20, 6) * 10 + 100
    made = torch.cat([images[:3] + 0.01, mirrored[3:5] + 0.01, torch.randn(5, 6) * 10 - 300])
    found = score(made, images, mirrored, "own")
    assert found.copies == pytest.approx(0.5)
    assert nearest(made, images, mirrored)[:5].tolist() == [0, 1, 2, 3, 4]
    assert score(images, images, mirrored, "own").spread == pytest.approx(1)
    assert score(images / 2, images, mirrored, "own").spread == pytest.approx(0.5)
    far = score(images + 1000, images, mirrored, "own")
    assert far.precision == 0 and far.recall == 0 and far.nearest > 10
    assert score(images, images, mirrored, "own").precision == 1


def test_fid_stands_beside_its_floor():
    made, images = torch.randn(30, 4) + 3, torch.randn(40, 4)
    found = score(made, images, images, "own", fid=True)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    real, others = images[order[:20]].double().numpy(), images[order[20:]].double().numpy()
    assert found.fid == pytest.approx(_fid(made[:20].double().numpy(), real), rel=1e-4)
    assert found.fid_floor == pytest.approx(_fid(others, real), rel=1e-4)
    assert found.fid_floor > 0 and found.fid_images == 20
    text = "\n".join(found.sentences())
    assert text.index("KID") < text.index("FID") and f"other training images get {found.fid_floor:.1f}" in text
    assert "against the 40 training images, by own" in text
    assert "FID" not in "".join(score(made, images, images, "own").sentences())


def _fid(a, b):
    from scipy.linalg import sqrtm

    (first, second), (s, t) = (x.mean(0) for x in (a, b)), (np.cov(x, rowvar=False) for x in (a, b))
    return float(((first - second) ** 2).sum() + np.trace(s + t - 2 * sqrtm(s @ t).real))


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match="wanted at least 4 made and 4 training images, got 3 and 9"):
        score(torch.randn(3, 4), torch.randn(9, 4), torch.randn(9, 4), "own")


def test_efficientnet_knows_images_apart():
    """The weights are ImageNet's: images of one kind are nearer than noise is."""
    features = load_extractor("efficientnet_lite0")
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    discs = [((rows - 32) ** 2 + (columns - 32) ** 2 < radius**2) * 200 for radius in (12, 13)]
    images = torch.stack([*(disc.expand(3, 64, 64).to(torch.uint8) for disc in discs), _noise()])
    found = features(images)
    assert found.shape == (3, 1280) and found.dtype == torch.float32
    assert torch.dist(found[0], found[1]) < 0.5 * torch.dist(found[0], found[2])


def _noise():
    return torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("name", "weights", "error", "words"),
    [
        ("inception", None, ValueError, "wanted a file with its weights"),
        ("inception", "nowhere.pth", FileNotFoundError, "nowhere.pth"),
        ("efficientnet_lite1", None, ValueError, "did you mean efficientnet_lite0"),
    ],
)
def test_extractors_that_cannot_be_loaded(name, weights, error, words):
    with pytest.raises(error, match=words):
        load_extractor(name, weights)


def test_weights_of_something_else_are_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="does not hold the weights of inception"):
        load_extractor("inception", str(path))
