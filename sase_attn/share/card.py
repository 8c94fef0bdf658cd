"""`model_card`: the README.md of a published model."""

import json
from collections.abc import Mapping
from typing import Any

from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]
from torch import nn

from sase_attn import quoting
from sase_attn.modules import count_parameters
from sase_attn.share.errors import first_words
from sase_attn.share.publishable import model_args, publishable

PAPER = "https://arxiv.org/abs/2411.08333"
CITATION = f"""@article{{wang2024sase,
  title={{SASE: A Searching Architecture for Squeeze and Excitation Operations}},
  author={{Wang, Hanming and Li, Yunlong and Wu, Zijun and Wang, Huifen and Zhang, Yuan}},
  journal={{arXiv preprint arXiv:2411.08333}},
  year={{2024}},
  url={{{PAPER}}}
}}"""
TAGS = ("image-classification", "timm", "sase-attn", "attention", "squeeze-and-excitation")
_USAGE = """```python
import sase_attn  # first: it registers the architecture, and timm's loader never imports code
import timm

model = timm.create_model({source}, pretrained=True).eval()
```"""


def model_card(
    model: nn.Module,
    *,
    repo_id: str,
    license: str = "apache-2.0",
    description: str | None = None,
    metrics: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Card of a model, in the form that timm's `push_to_hf_hub(model_card=...)` writes as README.md.

    Args:
        model: a classifier made by `timm.create_model`.
        repo_id: where it will live, "org/name".
        license: identifier of the weights' licence, as the Hub spells it.
        description: opening paragraphs, in Markdown; by default one that names the architecture.
        metrics: results to show, such as `{"CIFAR-10 top-1 (%)": 93.1}`.

    Raises:
        ValueError: `repo_id` is not of the form "org/name".
        HubError: the model was not made by timm, or one of its arguments cannot be written as JSON.
    """
    return card_of(publishable(model), f"hf-hub:{checked_repo_id(repo_id)}", license, description, metrics)


def card_of(
    model: Any, source: str, license: str, description: str | None, metrics: Mapping[str, float] | None
) -> dict[str, Any]:
    """The card of a publishable model; `source` is the name in its usage lines."""
    name = model.pretrained_cfg["architecture"]
    size = model.pretrained_cfg.get("input_size", (3, 224, 224))
    details: dict[str, Any] = {
        "Model Type": "Image classification",
        "Architecture": quoting.markdown_code(name),
        "Arguments": quoting.markdown_code(json.dumps(model_args(model))),
        "Parameters": f"{count_parameters(model):,}",
        "Image size": f"{size[-2]} x {size[-1]}",
        "Library": "`pip install sase-attn`",
        "Papers": [f"SASE: A Searching Architecture for Squeeze and Excitation Operations: {PAPER}"],
    }
    if metrics:
        details["Metrics"] = {quoting.markdown(metric): f"{float(value):.6g}" for metric, value in metrics.items()}
    return {
        "tags": list(TAGS),
        "library_name": "timm",
        "license": quoting.yaml(license),
        "description": description
        or f"{quoting.markdown_code(name)} of sase-attn: a network with squeeze-and-excitation style attention.",
        "details": details,
        "usage": _USAGE.format(source=quoting.python(source)),
        "citation": CITATION,
    }


def checked_repo_id(repo_id: str) -> str:
    """Return the name of a repository. Raises ValueError if it is not of the form "org/name"."""
    try:
        if repo_id.count("/") != 1:
            raise ValueError("it has no organisation or user" if "/" not in repo_id else "it has more than one slash")
        validate_repo_id(repo_id)
    except ValueError as error:
        raise ValueError(f'repo_id: wanted "org/name", got {repo_id!r}: {first_words(error)}') from None
    return repo_id
