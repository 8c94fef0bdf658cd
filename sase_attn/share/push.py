"""`push`: publish a model on the Hugging Face Hub, after it has been written and loaded back locally."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import huggingface_hub
import timm
from timm.models._hub import generate_readme
from torch import nn

from sase_attn.share.card import model_card
from sase_attn.share.errors import LOG_IN, HubError, explanation, message
from sase_attn.share.folder import write_model
from sase_attn.share.publishable import publishable


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
    network = publishable(model)
    card = model_card(network, repo_id=repo_id, license=license, description=description, metrics=metrics)
    what = f"push {network.pretrained_cfg['architecture']} to {repo_id}" + (f"@{revision}" if revision else "")
    if token is None and huggingface_hub.get_token() is None:
        raise HubError(message(what, "a token", "none", LOG_IN))
    with tempfile.TemporaryDirectory() as folder:
        write_model(network, Path(folder))
        try:
            api = huggingface_hub.HfApi(token=token, library_name="timm", library_version=timm.__version__)
            repo = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
            if not api.file_exists(repo, "README.md", revision=revision):
                (Path(folder) / "README.md").write_text(
                    generate_readme(card, repo.rpartition("/")[2]), encoding="utf-8"
                )
            commit = api.upload_folder(
                repo_id=repo, folder_path=folder, revision=revision, commit_message=commit_message
            )
        except Exception as error:
            reason = explanation(error, what)
            if reason is None:
                raise
            raise HubError(reason) from error
    return str(commit.repo_url) + (f"/tree/{revision}" if revision else "")
