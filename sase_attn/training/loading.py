"""`load_network`: load the network of a run, a saved model, a weights file or a name of timm, as for `evaluate`."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import timm
from torch import Tensor, nn

from sase_attn import share
from sase_attn.errors import UnknownNameError
from sase_attn.models.names import check_name
from sase_attn.training.checkpoint import NAME as CHECKPOINT
from sase_attn.training.checkpoint import is_run_checkpoint, load_run
from sase_attn.training.class_names import class_names_of, places_of, saved_class_names
from sase_attn.training.data.view import View
from sase_attn.training.data_config import take_data_config
from sase_attn.training.imagenet_names import imagenet_synsets
from sase_attn.training.network import create_network, normalised_by_model
from sase_attn.training.recipes import Recipe
from sase_attn.weights import StateDict, read_checkpoint, read_metadata, state_dict_of
from sase_attn.weights.files import is_named_like_weights
from sase_attn.weights.gains import take_unasked_gains
from sase_attn.weights.genotypes import KEY as GENOTYPE
from sase_attn.weights.genotypes import read_record
from sase_attn.weights.state_dicts import check_state_dict


def recipe_of(source: str) -> Recipe | None:
    """The recipe of a run, given its folder, its `model/` or a weights file of it; None if it is not recorded."""
    path = Path(source)
    if path.is_dir():
        found = next((f for f in (path / "recipe.json", path.parent / "recipe.json") if f.is_file()), None)
        return None if found is None else Recipe.get(found)
    if not path.is_file():
        return None
    if is_run_checkpoint(path):
        return load_run(path.parent).settings
    text = read_metadata(path).get("recipe")
    try:
        return None if text is None else Recipe.from_json(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


class LoadedNetwork(NamedTuple):
    """A network, and how to feed it data.

    Attributes:
        model: the network.
        is_normalised: whether its `pretrained_cfg` says how to normalise images; otherwise the data set does.
        names: the names of its classes, if they are known.
        places: the index of the output for each class of the data, found by name, int64; None if the network has no
            class names, so that the classes are its first, second, … output.
    """

    model: nn.Module
    is_normalised: bool
    names: tuple[str, ...] | None
    places: Tensor | None

    @property
    def view(self) -> View:
        """How to resize and crop test images for it, by its `pretrained_cfg`."""
        cfg: dict[str, Any] = getattr(self.model, "pretrained_cfg", None) or {}
        return View.of(cfg) if self.is_normalised else View()

    def targets(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of the data, with targets as indices of the network's outputs."""
        for images, targets in batches:
            yield images, targets if self.places is None else self.places[targets]


def load_network(source: str, recipe: Recipe, *, classes: Sequence[str] | None, in_chans: int) -> LoadedNetwork:
    """The network of a run's folder, of a folder that timm can load, of a weights file, or timm's by name.

    For a run that has not finished, the weights are those of its checkpoint. If the run averages its weights, the
    average is loaded. A network with class names may have more classes than the data, or another order: outputs are
    found by name.

    Args:
        source: the folder, the file or the name; a name may carry timm's `hf-hub:` or `local-dir:`.
        recipe: for files, its `model` and `model_kwargs` make the network.
        classes, in_chans: the classes and channels of the data. Without classes the network may have any.

    Raises:
        UnknownNameError: no such model, or no such operation or attention in it.
        ValueError: the weights are not those of the network or of its genotype, or the network is for other classes or
            channels.
        FileNotFoundError: no such file, or a folder without weights.
        HubError: timm cannot load the folder, or the weights on the Hub.
    """
    path = Path(source)
    folder = next((f for f in (path, path / "model") if (f / "config.json").is_file()), None)
    knows_data = is_timms = folder is not None or not path.exists()
    if is_timms:
        model = _from_timm(source if folder is None else f"local-dir:{folder}", recipe)
        names = class_names_of(model)
        if names is None and folder is None:
            names = imagenet_synsets(model, classes)
    else:
        file = path / CHECKPOINT if path.is_dir() else path
        if not file.is_file():
            raise FileNotFoundError(f"{path} holds no network: wanted a run's folder, or a saved model's")
        names = saved_class_names(file)
        uninitialised = recipe.override(init_from=None)
        outputs = len(names or classes or ()) or _outputs(file, uninitialised, in_chans)
        model = create_network(uninitialised, num_classes=outputs, in_chans=in_chans)
        weights, genotype = _weights(file, model)
        take_unasked_gains(genotype, model, source=source)
        check_state_dict(weights, model, source=source, genotype=genotype)
        model.load_state_dict(weights)
        knows_data = take_data_config(model, file)
        if not knows_data and is_run_checkpoint(file):
            knows_data = take_data_config(model, file.with_name("best.safetensors"))  # of the same run
    own = getattr(model, "num_classes", None) if names is None and classes is None else len(names or classes or ())
    for name, wanted in (("num_classes", own), ("in_chans", in_chans)):
        came = getattr(model, name, wanted)
        if came != wanted:
            raise ValueError(f"{source} has {name} {came}, the data {wanted}; fine-tune it first, or name other data")
    places = None if names is None else places_of(names if classes is None else classes, names, source)
    return LoadedNetwork(model, knows_data or normalised_by_model(recipe), names, places)


def _from_timm(name: str, recipe: Recipe) -> nn.Module:
    if name.startswith(("local-dir:", "hf-hub:", "hf_hub:")):
        try:
            with share.one_report():
                model: nn.Module = timm.create_model(name, pretrained=True)
        except (MemoryError, UnknownNameError):  # the caller explains an unknown name
            raise
        except Exception as error:  # the Hub, HTTP libraries and damaged files raise errors of many types
            raise share.HubError(share.pull_error(error, name)) from error
        return model
    if is_named_like_weights(name):
        raise FileNotFoundError(f"no such file or folder: {name}")
    check_name(name)
    cfg = timm.models.get_pretrained_cfg(name)
    classes, channels = (cfg.num_classes, cfg.input_size[0]) if cfg is not None else (1000, 3)
    named = recipe.override(model=name, init_from="pretrained", model_kwargs={})
    return create_network(named, num_classes=classes, in_chans=channels)


def _outputs(file: Path, recipe: Recipe, in_chans: int) -> int:
    """The number of classes of weights, by the layer that is the classifier of the recipe's model."""
    model = create_network(recipe, num_classes=1, in_chans=in_chans)
    weights, _ = _weights(file, model)
    cfg: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    weight = weights.get(f"{cfg.get('classifier')}.weight")
    return 1 if weight is None else len(weight)


def _weights(path: Path, model: nn.Module) -> tuple[StateDict, str | None]:
    """The weights in a checkpoint or a weights file, and the record of their genotype."""
    if is_run_checkpoint(path):
        state = load_run(path.parent).state
        return state_dict_of(state.get("ema") or state.get("model"), source=str(path)), state.get(GENOTYPE)
    return read_checkpoint(path, model), read_record(path)
