"""Write the folder of `sase-attn tile`: the tiled network as the model `attached`, and its buffering report."""

import json
import warnings
from pathlib import Path
from typing import Any

import timm

from sase_attn import share
from sase_attn.insert.attached import Attached
from sase_attn.models.pretrained_files import arguments_of_tag
from sase_attn.share.publishable import model_args
from sase_attn.tiling.report import BufferingReport


def as_attached(model: Any, options: dict[str, Any], names: list[str]) -> Any:
    """The same network and weights as a model `attached`, which timm can rebuild from its arguments."""
    cfg, recorded = dict(model.pretrained_cfg), model_args(model)
    name = cfg["architecture"]
    if name != "attached":
        tagged = f"{name}.{cfg.get('tag')}"
        of_tag = arguments_of_tag(tagged)  # arguments that `attached` applies itself
        is_of_tag = bool(of_tag) and of_tag.items() <= recorded.items()
        recorded = {key: value for key, value in recorded.items() if not (is_of_tag and key in of_tag)}
        recorded["base"] = tagged if is_of_tag else name
        if "gain" in recorded:
            recorded["base_gain"] = recorded.pop("gain")
    elif "tile" in recorded:
        raise ValueError(
            f"this network is tiled already, by {json.dumps(recorded['tile'])}; start from the untiled one"
        )
    if behind := [n for n in names if isinstance(model.get_submodule(n.rpartition(".")[0]), Attached)]:
        raise ValueError(
            f"cannot save {behind[0]} tiled: `attached` tiles a network before it attaches attention; attach 'tiled_se'"
        )
    with warnings.catch_warnings():  # they were printed before
        warnings.simplefilter("ignore", UserWarning)
        rebuilt: Any = timm.create_model("attached", **recorded | {"tile": options})
    rebuilt.load_state_dict(model.state_dict())
    source = ("architecture", "tag", "url", "file", "hf_hub_id", "source", "custom_load")
    own = {key: value for key, value in cfg.items() if key not in source}
    rebuilt.pretrained_cfg = {**rebuilt.pretrained_cfg, **own, "architecture": "attached"}
    return rebuilt


def write_tiled(model: Any, report: BufferingReport, folder: Path) -> None:
    """Write the model such that timm loads it, and the report as JSON and as text."""
    base = model._model_args["base"]
    summary = (
        f"{report.se / 1e6:.3f}M → {report.tiled / 1e6:.3f}M activations held at {report.size[0]}×{report.size[1]}"
    )
    share.save(
        model,
        folder,
        license=model.pretrained_cfg.get("license") or "apache-2.0",
        description=f"`{base}` with tiled squeeze-and-excite (https://arxiv.org/abs/2107.02145): {summary}.",
        texts={"buffering.json": report.to_json() + "\n", "buffering.txt": f"{report}\n"},
    )
