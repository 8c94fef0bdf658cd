"""Put attention into a trained network without changing its output, take two training steps, save and reload it.

    python examples/insert_attention.py            about ten seconds; needs no network access

Expected: "8 blocks", a difference of about 1e-6, two losses, "reloaded: identical".
"""

import tempfile

import timm
import torch
import torch.nn.functional as F
from timm.models import save_for_hf
from timm.optim import create_optimizer_v2

import sase_attn  # noqa: F401  (registers "attached" with timm)


def main() -> None:
    torch.manual_seed(0)
    plain = timm.create_model("resnet18", num_classes=10, zero_init_last=False)  # stands for a trained network
    model = timm.create_model(
        "attached",
        base="resnet18",
        after="layer*.*.bn2",
        attn="sase",
        num_classes=10,
        pretrained=True,  # the base's weights: here those of `plain`, by default timm's from the Hub
        pretrained_cfg_overlay=dict(state_dict=plain.state_dict(), num_classes=10),
    )
    blocks = [module for module in model.modules() if isinstance(module, sase_attn.SASEBlock)]
    images, labels = torch.randn(8, 3, 64, 64), torch.arange(8)
    with torch.no_grad():
        difference = (model.eval()(images) - plain.eval()(images)).abs().max().item()
    print(f"{len(blocks)} blocks, largest difference of a logit {difference:.1e}")

    optimizer = create_optimizer_v2(model, opt="sgd", lr=0.05)
    for _ in range(2):
        optimizer.zero_grad()
        loss = F.cross_entropy(model.train()(images), labels)
        loss.backward()
        optimizer.step()
        print(f"loss {loss.item():.3f}")

    with tempfile.TemporaryDirectory() as folder:
        save_for_hf(model, folder, safe_serialization=True)
        again = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    print("reloaded:", "identical" if torch.equal(again(images), model.eval()(images)) else "different")


if __name__ == "__main__":
    main()
