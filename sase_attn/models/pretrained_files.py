"""The weights that come with the package: the files `pretrained/ARCHITECTURE.TAG.safetensors`.

timm loads one by its name, `timm.create_model("ARCHITECTURE.TAG", pretrained=True)`. The header of a file holds the
identity of the data, the classes, the normalisation and the recipe. The recipe has the starting gain of a network of
that name, which is not among the weights. `benchmarks/pretrained.py` makes the files.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from timm.models import get_arch_pretrained_cfgs, resolve_pretrained_cfg
from torch import nn

from sase_attn.weights import read_metadata

FOLDER = Path(__file__).parent / "pretrained"
TAGS = ("cifar10_jpeg", "fashion_mnist_6k")
"""Tags name the images. Without one, `pretrained=True` loads the first for which an architecture has a file."""
UNTRAINED = "untrained"
_GAIN = "gain"
Network = TypeVar("Network", bound=nn.Module)


def tagged(architecture: str, base: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """timm's configurations of an architecture by `ARCHITECTURE.TAG`, one for each file and one without weights.

    Args:
        architecture: name in timm's registry.
        base: what all configurations have in common.
    """
    files = [(tag, FOLDER / f"{architecture}.{tag}.safetensors") for tag in TAGS]
    found = {f"{architecture}.{tag}": {**base, **_config(file)} for tag, file in files if file.is_file()}
    return found | {f"{architecture}.{UNTRAINED}": dict(base)}


def named_config(name: str, pretrained: bool) -> str:
    """The name of the configuration of a network for which there may be weights here.

    A network that is made without weights and without a tag belongs to no images, and has no class names.
    """
    untrained = f"{name}.{UNTRAINED}"
    return name if pretrained or untrained not in get_arch_pretrained_cfgs(name) else untrained


def configured(
    architecture: str, pretrained: bool, arguments: Mapping[str, Any]
) -> tuple[dict[str, Any], str | float | None]:
    """The arguments of a network with its configuration, and the gain of its weights file, if it has one.

    For a configuration with a tag, the gain is that of its own file, whatever weights its overlay names. Without a tag,
    an overlay may name other weights; there is then only a gain if they are a file that comes with the package.

    Args:
        architecture: name in timm's registry.
        pretrained: whether weights are loaded.
        arguments: the arguments of the model's function. A gain among them replaces that of the file.
    """
    named = arguments.get("pretrained_cfg")
    config = named or named_config(architecture, pretrained).partition(".")[2] or None
    resolved = resolve_pretrained_cfg(architecture, config, None if named else arguments.get("pretrained_cfg_overlay"))
    asked = arguments.get(_GAIN) is not None
    gain = None if asked or resolved.state_dict else gain_of_file(resolved.file)  # timm prefers a state dict to a file
    return {**arguments, "pretrained_cfg": config} | ({} if gain is None else {_GAIN: gain}), gain


def gain_of_file(file: str | None) -> str | float | None:
    """The argument `gain` that a network was trained with, if its file is one of these and records one.

    Raises:
        ValueError: the file is damaged. OSError: it cannot be read.
    """
    if file is None or Path(file).parent != FOLDER:
        return None
    return _header(Path(file), "recipe").get("model_kwargs", {}).get(_GAIN)


def arguments_of_tag(name: str) -> dict[str, Any]:
    """The arguments that `ARCHITECTURE.TAG` implies: the gain of its file, if it has one; none for other names."""
    config = get_arch_pretrained_cfgs(name).get(name)
    gain = None if config is None else gain_of_file(config.file)
    return {} if gain is None else {_GAIN: gain}


def note_gain(model: Network, gain: str | float | None) -> Network:
    """Add the gain of a file to the arguments that rebuild the network; returns the network."""
    if gain is not None:
        model._model_args = {_GAIN: gain}  # type: ignore[assignment]
    return model


def _header(file: Path, name: str) -> dict[str, Any]:
    """What the header of a file says under a name. Raises ValueError if it is damaged, OSError if it cannot be read."""
    metadata = read_metadata(file)
    try:
        found = json.loads(metadata[name])
    except (KeyError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{file} is damaged: wanted its {name} in its header; install the package again")
    return found


def _config(file: Path) -> dict[str, Any]:
    """How timm takes a file. Of a damaged one nothing else is known; whoever loads it is told so."""
    try:
        images = _header(file, "data_config")
    except (OSError, ValueError):
        return {"file": str(file)}
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in images.items()}
    return {**{key: value for key, value in values.items() if value is not None}, "file": str(file)}
