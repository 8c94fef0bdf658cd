"""Messages of one line for errors of the Hub, of timm and of damaged files: what was wanted, what came, what to do."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import huggingface_hub
from huggingface_hub import errors
from safetensors import SafetensorError

LOG_IN = "pass token=... or run `hf auth login`"
# What was wanted and what to do, by the type of the error; the first row that matches is used.
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
    401: ("a valid token", LOG_IN),
    403: ("a token that may write there", "use a token with write access to that organisation"),
}
TOO_MANY_REQUESTS = 429
_HTTP_LIBRARIES = ("httpx2", "httpx", "requests", "urllib3")


class HubError(RuntimeError):
    """A model could not be published or fetched; the message says what was wanted, what came and what to do."""


def pull_error(error: BaseException, what: str) -> str:
    """One line for an error of `timm.create_model(what, pretrained=True)`: what was wanted, what came, what to do.

    timm and huggingface_hub name a missing repository themselves, but report a missing model.safetensors as a missing
    pytorch_model.bin, a download that was cut short as a closed connection, and a missing import as an unknown model.

    Args:
        error: the exception that was raised.
        what: the name of the model as it was asked for.
    """
    return explanation(error, f"load {what}") or f"cannot load {what}: {first_words(error)}"


@contextmanager
def one_report() -> Iterator[None]:
    """A context in which the Hub's client does not log each of its retries; its error is raised once."""
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def explanation(error: BaseException, what: str) -> str | None:
    """One line for an error of a known type, or for its cause; None for others.

    Args:
        error: the exception that was raised.
        what: what could not be done, as the line says it after "cannot": "load NAME", for example.
    """
    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__:
        error = error.__cause__  # the reason why the cache was looked at
    for kind, wanted, todo in _BY_TYPE:
        if isinstance(error, kind):
            return message(what, wanted, first_words(error), todo)
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        later = "run again later" if status >= 500 or status == TOO_MANY_REQUESTS else "see what the Hub says"
        wanted, todo = _BY_STATUS.get(status, ("success from the Hub", later))
        return message(what, wanted, first_words(error), todo)
    words = first_words(error)
    if any(sign in words for sign in ("Consistency check failed", "closed connection", "IncompleteRead")):
        return message(what, "a whole file", words, "the transfer was cut short: run again")
    if type(error).__module__.partition(".")[0] in _HTTP_LIBRARIES:
        endpoint = huggingface_hub.constants.ENDPOINT
        return message(what, f"an answer from {endpoint}", words, "check the network and HF_ENDPOINT")
    if words.startswith("RuntimeError: Unknown model"):
        return message(what, "a registered architecture", words, "import sase_attn first, or upgrade it")
    return explanation(error.__cause__, what) if error.__cause__ else None


def message(what: str, wanted: str, came: str, todo: str) -> str:
    """The common form of these lines."""
    return f"cannot {what}: wanted {wanted}, got {came}; {todo}"


def first_words(error: BaseException) -> str:
    """The kind of an error and the beginning of its message, in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: " + (text if len(text) <= 200 else text[:197] + "...")
