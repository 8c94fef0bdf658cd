"""A network that was pushed to the Hub, here one on this machine, in transformers.

huggingface_hub reads its environment when it is imported, so the client is a process of its own.
"""

import json
import os
import subprocess
import sys

import pytest
from hub_server import HubServer


@pytest.mark.works_with("transformers", "a pushed network by `from_pretrained` and `pipeline`, and as a `TimmBackbone`")
def test_from_the_hub(tmp_path):
    with HubServer() as server:
        env = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        env |= {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path), "HF_TOKEN": server.token, "NO_PROXY": "127.0.0.1"}
        env |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run([sys.executable, __file__], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {
        "class": "TimmWrapperForImageClassification",
        "logits": True,
        "labels": ["cat", "dog", "fish", "owl"],
        "pipeline": ["cat", "dog", "fish", "owl"],
        "features": True,
        "maps": [[2, 16, 32, 32], [2, 32, 16, 16], [2, 64, 8, 8]],
    }


def client():
    import timm
    import torch
    from PIL import Image
    from transformers import AutoModel, AutoModelForImageClassification, TimmBackbone, TimmBackboneConfig, pipeline

    from sase_attn import share

    network = timm.create_model("sase_resnet20", layers=[1, 1, 1], genotype="sase_paper", num_classes=4).eval()
    network.pretrained_cfg = {**network.pretrained_cfg, "label_names": ["cat", "dog", "fish", "owl"]}
    share.push(network, "org/mine")
    images = torch.randn(2, 3, 32, 32)
    wrapped = AutoModelForImageClassification.from_pretrained("org/mine").eval()
    guessed = pipeline("image-classification", model="org/mine", device="cpu")(Image.new("RGB", (40, 50)))
    features = AutoModel.from_pretrained("org/mine").eval()(images).last_hidden_state
    config = TimmBackboneConfig(backbone="hf-hub:org/mine", use_pretrained_backbone=True, out_indices=[1, 2, 3])
    return {
        "class": type(wrapped).__name__,
        "logits": torch.equal(wrapped(images).logits, network(images)),
        "labels": list(wrapped.config.id2label.values()),
        "pipeline": sorted(row["label"] for row in guessed),
        "features": torch.equal(features, network.forward_features(images)),
        "maps": [list(found.shape) for found in TimmBackbone(config).eval()(images).feature_maps],
    }


if __name__ == "__main__":
    print(json.dumps(client()))
