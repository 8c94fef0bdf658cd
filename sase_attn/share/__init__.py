"""Publish a model: its card, a push to the Hugging Face Hub, and the same folder written locally.

Weights are written as safetensors only. What is written is loaded back and compared before it is published, so that a
model that `timm.create_model` cannot rebuild from its name and arguments is refused here, not found broken later.

Publishing needs timm >= 1.0.31, the first to record the arguments that a model was made with.
"""

import copy
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import timm
import torch
from huggingface_hub import errors
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]
from safetensors import SafetensorError
from timm.models import push_to_hf_hub, save_for_hf
from timm.models._hub import generate_readme
from timm.utils import unwrap_model
from torch import nn

from sase_attn.modules import count_parameters

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

model = timm.create_model("{source}", pretrained=True).eval()
```"""
# Training-time rates describe a run, not the weights; timm leaves them out of what it exports as well.
_RUN_ARGS = r"drop_rate|drop_path_rate|drop_block_rate|.*_drop_rate"

# What was wanted and what to do, by the error that came; the first row that matches counts.
_BY_TYPE: tuple[tuple[type[BaseException], str, str], ...] = (
    (errors.OfflineModeIsEnabled, "access to the Hub", "unset HF_HUB_OFFLINE"),
    (errors.LocalEntryNotFoundError, "an answer from the Hub", "check the network and HF_ENDPOINT, then run again"),
    (errors.GatedRepoError, "access to a gated repository", "ask for access on its page, then run `hf auth login`"),
    (errors.RepositoryNotFoundError, "a repository that this token can see", "check the name, or run `hf auth login`"),
    (errors.RevisionNotFoundError, "an existing revision", "name another, or make it by huggingface_hub.create_branch"),
    (errors.EntryNotFoundError, "config.json and model.safetensors", "check the files of the repository"),
    (SafetensorError, "a whole safetensors file", "the weights are damaged: clear the cached file, or publish again"),
    (json.JSONDecodeError, "JSON in config.json", "the file is damaged: clear the cached file, or publish again"),
)
_BY_STATUS = {
    401: ("a valid token", "pass token=... or run `hf auth login`"),
    403: ("a token that may write there", "use a token with write access to that organisation"),
}
_HTTP_LIBRARIES = ("httpx2", "httpx", "requests", "urllib3")


class HubError(RuntimeError):
    """A model could not be published; the message says what was wanted, what came and what to do."""


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
        description: opening paragraph; by default one that names the architecture.
        metrics: results to show, such as `{"CIFAR-10 top-1 (%)": 93.1}`.

    Raises:
        ValueError: `repo_id` is not of the form "org/name".
        HubError: the model was not made by timm, or one of its arguments cannot be written as JSON.
    """
    return _card(_plain(model), f"hf-hub:{_checked(repo_id)}", license, description, metrics)


def save(
    model: nn.Module,
    folder: str | os.PathLike[str],
    *,
    repo_id: str | None = None,
    license: str = "apache-2.0",
    description: str | None = None,
    metrics: Mapping[str, float] | None = None,
) -> Path:
    """Write the folder that `timm.create_model("local-dir:<folder>", pretrained=True)` loads, with a model card.

    It holds config.json, model.safetensors and README.md. It appears complete or not at all: it is written and loaded
    back under a temporary name beside the target.

    Args:
        model: a classifier made by `timm.create_model`; compiled and DistributedDataParallel models are unwrapped.
        folder: a path that does not exist yet, or an empty folder.
        repo_id: the Hub name for the card's usage lines; by default they name the folder.
        license, description, metrics: see `model_card`.

    Returns:
        The folder.

    Raises:
        FileExistsError: the target is a file or a non-empty folder.
        ValueError: `repo_id` is not of the form "org/name".
        HubError: timm cannot rebuild the model from what was saved.
    """
    target = Path(folder).resolve()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise FileExistsError(f"cannot save to {target}: wanted a new or empty folder, got one in use; name another")
    source = f"local-dir:{target.name}" if repo_id is None else f"hf-hub:{_checked(repo_id)}"
    plain = _plain(model)
    card = _card(plain, source, license, description, metrics)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    partial.mkdir(parents=True)
    try:
        _write(plain, partial)
        title = target.name if repo_id is None else repo_id.partition("/")[2]
        (partial / "README.md").write_text(generate_readme(card, title), encoding="utf-8")
        if target.exists():
            target.rmdir()  # fails, rightly, where somebody has filled it meanwhile
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Path(folder)


def push(
    model: nn.Module,
    repo_id: str,
    *,
    private: bool = False,
    token: str | None = None,
    revision: str | None = None,
    commit_message: str = "Add model",
    license: str = "apache-2.0",
    description: str | None = None,
    metrics: Mapping[str, float] | None = None,
) -> str:
    """Publish a model on the Hugging Face Hub (or on `HF_ENDPOINT`) as config.json, model.safetensors and README.md.

    The repository is made if it does not exist. A README.md that is already there is kept.

    Args:
        model: a classifier made by `timm.create_model`; compiled and DistributedDataParallel models are unwrapped.
        repo_id: "org/name".
        private: make a new repository private; an existing one keeps its visibility.
        token: a token with write access; by default the one of `hf auth login` or HF_TOKEN.
        revision: an existing branch to push to; by default the main one.
        commit_message: title of the commit.
        license, description, metrics: see `model_card`.

    Returns:
        The address of the model's page.

    Raises:
        ValueError: `repo_id` is not of the form "org/name".
        HubError: timm cannot rebuild the model from what would be published, there is no valid token, the revision
            does not exist, or the Hub cannot be reached.
    """
    plain = _plain(model)
    card = model_card(plain, repo_id=repo_id, license=license, description=description, metrics=metrics)
    what = f"push {plain.pretrained_cfg['architecture']} to {repo_id}" + (f"@{revision}" if revision else "")
    if token is None and huggingface_hub.get_token() is None:
        raise HubError(_message(what, "a token", "none", _BY_STATUS[401][1]))
    with tempfile.TemporaryDirectory() as folder:
        _write(plain, Path(folder))
    try:
        commit = push_to_hf_hub(
            plain,
            repo_id,
            commit_message=commit_message,
            token=token,
            revision=revision,
            private=private,
            model_card=card,
            model_args=_model_args(plain),
            safe_serialization=True,
        )
    except Exception as error:
        reason = _reason(error, what)
        if reason is None:
            raise
        raise HubError(reason) from error
    return str(commit.repo_url) + (f"/tree/{revision}" if revision else "")


def pull_error(error: BaseException, what: str) -> str:
    """One line for an error of `timm.create_model(what, pretrained=True)`: what was wanted, what came, what to do.

    timm and huggingface_hub name a missing repository themselves, but report a missing model.safetensors as a missing
    pytorch_model.bin, a download that was cut short as a closed connection, and a missing import as an unknown model.

    Args:
        error: the exception that was raised.
        what: the name of the model as it was asked for.
    """
    return _reason(error, f"load {what}") or f"cannot load {what}: {_first_words(error)}"


def _checked(repo_id: str) -> str:
    try:
        if repo_id.count("/") != 1:
            raise ValueError("it has no organisation or user" if "/" not in repo_id else "it has more than one slash")
        validate_repo_id(repo_id)
    except ValueError as error:
        raise ValueError(f'repo_id: wanted "org/name", got {repo_id!r}: {_first_words(error)}') from None
    return repo_id


def _plain(model: nn.Module) -> Any:
    """`model` without compile and parallel wrappers, all tensors in the contiguous layout that safetensors wants."""
    plain = unwrap_model(model)
    if "architecture" not in getattr(plain, "pretrained_cfg", {}) or not hasattr(plain, "num_features"):
        raise HubError(
            f"cannot publish {type(plain).__name__}: wanted a classifier from timm.create_model, got a module without "
            "its pretrained_cfg or num_features; make it with timm.create_model and without features_only"
        )
    if all(tensor.is_contiguous() for tensor in plain.state_dict().values()):
        return plain
    return copy.deepcopy(plain).to(memory_format=torch.contiguous_format)


def _model_args(model: Any) -> dict[str, Any]:
    """Arguments that rebuild `model` as it is now: those of its making, with today's classes, channels and pooling."""
    name = model.pretrained_cfg["architecture"]
    recorded = getattr(model, "_model_args", None)
    if recorded is None:  # without them, another genotype would load as the default one
        raise HubError(
            f"cannot publish {name}: wanted the arguments it was made with in model._model_args, got a model without; "
            "make it with timm.create_model of timm>=1.0.31, which records them"
        )
    args = {key: value for key, value in recorded.items() if not re.fullmatch(_RUN_ARGS, key)}
    args |= {key: getattr(model, key) for key in ("num_classes", "in_chans") if hasattr(model, key)}
    for owner in (getattr(model, "head", None), model):
        pool = getattr(owner, "global_pool", None)
        pool = getattr(pool, "pool_type", pool)
        if isinstance(pool, str):
            args["global_pool"] = pool
            break
    for key, value in args.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError):
            raise HubError(
                f"cannot publish {name}: wanted model arguments that JSON can hold, got {key}={value!r}; "
                "use a registered model whose options are numbers and strings"
            ) from None
    return args


def _card(
    model: Any, source: str, license: str, description: str | None, metrics: Mapping[str, float] | None
) -> dict[str, Any]:
    name = model.pretrained_cfg["architecture"]
    size = model.pretrained_cfg.get("input_size", (3, 224, 224))
    details: dict[str, Any] = {
        "Model Type": "Image classification",
        "Architecture": f"`{name}`",
        "Arguments": f"`{json.dumps(_model_args(model))}`",
        "Parameters": f"{count_parameters(model):,}",
        "Image size": f"{size[-2]} x {size[-1]}",
        "Library": "`pip install sase-attn`",
        "Papers": [f"SASE: A Searching Architecture for Squeeze and Excitation Operations: {PAPER}"],
    }
    if metrics:
        details["Metrics"] = {metric: f"{float(value):.6g}" for metric, value in metrics.items()}
    return {
        "tags": list(TAGS),
        "library_name": "timm",
        "license": license,
        "description": description or f"`{name}` of sase-attn: a network with squeeze-and-excitation style attention.",
        "details": details,
        "usage": _USAGE.format(source=source),
        "citation": CITATION,
    }


def _write(model: Any, folder: Path) -> None:
    """Write config.json and model.safetensors, and prove that timm loads the same model from them."""
    name = model.pretrained_cfg["architecture"]
    try:
        save_for_hf(model, str(folder), model_args=_model_args(model), safe_serialization=True)
        with torch.random.fork_rng(devices=[]):  # a checkpoint must not move the random stream of its run
            problem = _difference(model, timm.create_model(f"local-dir:{folder}", pretrained=True))
    except HubError:
        raise
    except (RuntimeError, TypeError, ValueError, AssertionError, AttributeError) as error:
        problem = _first_words(error)
    if problem:
        raise HubError(
            f"cannot publish {name}: wanted a model that timm.create_model rebuilds from its name and arguments, got "
            f"{problem}; make it with timm.create_model (import sase_attn first) and change only its weights. What "
            "attach, replace and tile do, the model 'attached' does by arguments that are saved with it: "
            "timm.create_model('attached', base=..., after= or replace= or tile=...)"
        )


def _difference(model: Any, twin: Any) -> str | None:
    """What sets `twin`, loaded back, apart from `model`: tensors, attention, or logits.

    Attention is compared by itself because tiles, say, can leave the logits at one size as they are.
    """
    ours, theirs = model.state_dict(), twin.state_dict()
    if keys := sorted(ours.keys() ^ theirs.keys()):
        return f"{len(keys)} tensors on one side only, the first {keys[0]!r}"
    for key, tensor in ours.items():
        if not torch.equal(tensor.nan_to_num(), theirs[key].to(tensor).nan_to_num()):
            return f"other values in {key!r}"
    attention, again = _attention(model), _attention(twin)
    for name in attention | again:
        if attention.get(name) != again.get(name):
            return f"{again.get(name, 'another module')} instead of {attention.get(name, 'another module')} in {name!r}"
    weight = next(model.parameters())
    channels, *size = model.pretrained_cfg.get("input_size", (3, 224, 224))
    x = torch.randn(2, _model_args(model).get("in_chans", channels), *size).to(weight)
    with torch.inference_mode():
        wanted, got = (copy.deepcopy(network).to(weight).eval()(x).nan_to_num() for network in (model, twin))
    close = (wanted - got).abs().max() <= 1e-2 * wanted.abs().max()
    return None if close else "other logits from the same weights"


def _attention(model: nn.Module) -> dict[str, str]:
    """Our modules of a network, by name, in words: class and settings. Norms, which training swaps, do not count."""
    return {
        name: f"{type(module).__name__}({module.extra_repr()})"
        for name, module in model.named_modules()
        if type(module).__module__.startswith("sase_attn.") and not isinstance(module, nn.modules.batchnorm._NormBase)
    }


def _reason(error: BaseException, what: str) -> str | None:
    """One line for a known error, also one that was raised from it; None for others."""
    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__:
        error = error.__cause__  # "not in the cache" because of this
    for kind, wanted, todo in _BY_TYPE:
        if isinstance(error, kind):
            return _message(what, wanted, _first_words(error), todo)
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        later = "run again later" if status >= 500 else "see what the Hub says"
        wanted, todo = _BY_STATUS.get(status, ("success from the Hub", later))
        return _message(what, wanted, _first_words(error), todo)
    words = _first_words(error)
    if any(sign in words for sign in ("Consistency check failed", "closed connection", "IncompleteRead")):
        return _message(what, "a whole file", words, "the transfer was cut short: run again")
    if type(error).__module__.partition(".")[0] in _HTTP_LIBRARIES:
        endpoint = huggingface_hub.constants.ENDPOINT
        return _message(what, f"an answer from {endpoint}", words, "check the network and HF_ENDPOINT")
    if words.startswith("RuntimeError: Unknown model"):
        return _message(what, "a registered architecture", words, "import sase_attn first, or upgrade it")
    return _reason(error.__cause__, what) if error.__cause__ else None


def _message(what: str, wanted: str, came: str, todo: str) -> str:
    return f"cannot {what}: wanted {wanted}, got {came}; {todo}"


def _first_words(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: " + (text if len(text) <= 200 else text[:197] + "...")
