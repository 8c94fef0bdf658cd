"""`save`: write a model as a folder that timm loads, and verify it by loading it back."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from timm.models import save_for_hf
from timm.models._hub import generate_readme
from torch import nn

from sase_attn import quoting
from sase_attn.files import naming, parse_json, remove_temporaries, temporary_beside, write_json
from sase_attn.lock import one_writer
from sase_attn.share.card import card_of, checked_repo_id
from sase_attn.share.errors import HubError, first_words
from sase_attn.share.publishable import model_args, publishable
from sase_attn.share.verify import difference
from sase_attn.weights import write_safetensors
from sase_attn.weights.genotypes import noted


def save(
    model: nn.Module,
    folder: str | os.PathLike[str],
    *,
    repo_id: str | None = None,
    license: str = "apache-2.0",
    description: str | None = None,
    metrics: Mapping[str, float] | None = None,
    texts: Mapping[str, str] | None = None,
) -> Path:
    """Write the folder that `timm.create_model("local-dir:<folder>", pretrained=True)` loads, with a model card.

    It holds config.json, model.safetensors and README.md. It appears complete or not at all: it is written and loaded
    back under a temporary name beside the target.

    Args:
        model: a classifier made by `timm.create_model`; compiled and DistributedDataParallel models are unwrapped.
        folder: a path that does not exist yet, or an empty folder.
        repo_id: the Hub name for the card's usage lines; by default they name the folder.
        license, description, metrics: see `model_card`.
        texts: the texts of further files to write, by file name.

    Returns:
        The folder.

    Raises:
        FileExistsError: the target is a file or a non-empty folder, or another process writes it (`InUseError`).
        ValueError: `repo_id` is not of the form "org/name".
        HubError: timm cannot rebuild the model from what was saved.
        OSError: the disk failed; the message names the folder.
    """
    with new_folder(folder) as target:
        source = f"local-dir:{target.name}" if repo_id is None else f"hf-hub:{checked_repo_id(repo_id)}"
        network = publishable(model)
        card = card_of(network, source, license, description, metrics)
        partial = temporary_beside(target)
        try:
            with naming(target):
                partial.mkdir(parents=True)
                write_model(network, partial)
                title = target.name if repo_id is None else repo_id.partition("/")[2]
                (partial / "README.md").write_text(generate_readme(card, quoting.markdown(title)), encoding="utf-8")
                for name, text in (texts or {}).items():
                    (partial / name).write_text(text, encoding="utf-8")
                if target.exists():
                    target.rmdir()  # fails, as it should, if it has been filled meanwhile
                partial.rename(target)
        except SafetensorError as error:  # the disk failed
            raise OSError(f"{target}: {error}") from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return Path(folder)


@contextmanager
def new_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """A context in which no other process writes to a new or empty folder. Yields its full path.

    Raises:
        FileExistsError: the folder is a file or has files, or another process writes it.
    """
    target = Path(folder).resolve()
    with one_writer(target):
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise FileExistsError(
                f"cannot save to {target}: wanted a new or empty folder, got one in use; name another"
            )
        remove_temporaries(target.parent, target.name)  # left by a process that was killed
        yield target


def write_model(model: Any, folder: Path) -> None:
    """Write config.json and model.safetensors, and check that timm loads the same model from them."""
    name = model.pretrained_cfg["architecture"]
    try:
        config = {"pretrained_cfg": noted(model), **_labels(model)}
        save_for_hf(model, str(folder), model_config=config, model_args=model_args(model), safe_serialization=True)
        _drop_duplicate_classes(folder / "config.json")
        write_safetensors(model.state_dict(), folder / "model.safetensors", metadata={}, model=model)
        with torch.random.fork_rng(devices=[]):  # a checkpoint must not move the random stream of its run
            problem = difference(model, timm.create_model(f"local-dir:{folder}", pretrained=True))
    except HubError:
        raise
    except (RuntimeError, TypeError, ValueError, AssertionError, AttributeError) as error:
        problem = first_words(error)
    if problem:
        raise HubError(
            f"cannot publish {name}: wanted a model that timm.create_model rebuilds from its name and arguments, got "
            f"{problem}; make it with timm.create_model (import sase_attn first) and change only its weights. What "
            "attach, replace and tile do, the model 'attached' does by arguments that are saved with it: "
            "timm.create_model('attached', base=..., after= or replace= or tile=...)"
        )


def _labels(model: Any) -> dict[str, list[str]]:
    """The class names under the key at which transformers looks for them; timm reads them there, too."""
    names = model.pretrained_cfg.get("label_names") or ()
    return {"label_names": list(names)} if len(names) == model.num_classes else {}


def _drop_duplicate_classes(config: Path) -> None:
    """Remove the number of classes from the arguments, and their names from the `pretrained_cfg`.

    Both are also at the top of the file. transformers passes the number itself, and refuses it twice.
    """
    content = parse_json(config.read_bytes())
    for part, name in (("model_args", "num_classes"), ("pretrained_cfg", "label_names")):
        if name in content and name in content.get(part, {}):
            del content[part][name]
    write_json(config, content)
