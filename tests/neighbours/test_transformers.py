"""timm's networks in transformers."""

import pytest
import timm
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


@pytest.mark.works_with("transformers", "DETR on a `TimmBackbone`: loss, backward; equal maps by its frozen norms")
def test_detr():
    from transformers import DetrConfig, DetrForObjectDetection, TimmBackboneConfig

    sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "num_queries": 5}
    sizes |= {
        f"{part}_{what}": n for part in ("encoder", "decoder") for what, n in (("attention_heads", 2), ("ffn_dim", 8))
    }
    backbone = TimmBackboneConfig(backbone="sase_resnet18", out_indices=[4])
    network = DetrForObjectDetection(DetrConfig(backbone_config=backbone, num_labels=3, **sizes))
    images = torch.rand(2, 3, 64, 96)
    objects = [
        (torch.tensor([1]), torch.tensor([[0.5, 0.5, 0.2, 0.2]])),
        (torch.zeros(0, dtype=int), torch.zeros(0, 4)),
    ]
    labels = [{"class_labels": classes, "boxes": boxes} for classes, boxes in objects]
    network(pixel_values=images, labels=labels).loss.backward()
    assert all(p.grad is not None for p in network.parameters())
    body = network.eval().model.backbone.model
    assert any(
        name.endswith("norm") and type(m).__name__ == "DetrFrozenBatchNorm2d" for name, m in body.named_modules()
    )
    plain = timm.create_model("sase_resnet18", features_only=True, out_indices=[4]).eval()
    with torch.no_grad():
        for statistic in (buffer for name, buffer in body.named_buffers() if "running" in name):
            statistic.add_(torch.rand_like(statistic))
        assert not plain.load_state_dict(body.state_dict(), strict=False).unexpected_keys
        body.load_state_dict(plain.state_dict())
        torch.testing.assert_close(body(images)[0], plain(images)[0], rtol=1e-4, atol=1e-5)
