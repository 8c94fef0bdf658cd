"""timm's networks in transformers."""

import pytest
import torch

import sase_attn  # noqa: F401  registers the models with timm


@pytest.mark.works_with("transformers", "`TimmWrapperForImageClassification`: loss, backward, saved and loaded")
def test_wrapper(tmp_path):
    from transformers import AutoModelForImageClassification, TimmWrapperConfig

    config = TimmWrapperConfig(architecture="sase_resnet20", model_args={"layers": [1, 1, 1]}, num_labels=10)
    network = AutoModelForImageClassification.from_config(config)
    images = torch.randn(2, 3, 32, 32)
    network.train()(pixel_values=images, labels=torch.tensor([1, 2])).loss.backward()
    assert all(p.grad is not None for p in network.parameters())
    network.eval().save_pretrained(tmp_path)
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(images).logits, network(images).logits)
