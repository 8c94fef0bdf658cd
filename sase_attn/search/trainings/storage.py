"""`Storage`: Optuna's storage of the trainings of a search, a journal file in the folder or a database."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from sase_attn.errors import in_words
from sase_attn.search.trainings.journal_lock import JournalLock

JOURNAL = "journal.log"
PATIENCE = 60.0
TRIES = 4
"""Attempts to create the tables of a database: of workers that start together, all but one may fail to."""


class StorageError(ConnectionError):
    """The storage does not answer. Nothing that was trained is lost: start the command again to continue."""


class Storage:
    """Optuna's storage at a URL, or the journal of a folder.

    Args:
        folder: the folder of the search, which exists.
        url: as `postgresql://user@host/database` or `sqlite:///file.db`; by default `journal.log` in the folder.
        patience: seconds for which a server that has answered once may be away.

    Raises:
        ImportError: optuna, or the driver of the database, is not installed.
        ValueError: no such kind of storage, or the journal is damaged. StorageError: the server does not answer.
    """

    def __init__(self, folder: Path, url: str | None = None, *, patience: float = PATIENCE) -> None:
        if find_spec("optuna") is None:
            raise ImportError('a search by trainings needs optuna: pip install "sase-attn[search]"')
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.name = str(folder / JOURNAL) if url is None else shown(url)
        self._is_journal, self._patience = url is None, patience
        if url is not None:
            self._optuna = self._database(url)
            return
        from optuna.storages.journal import JournalFileBackend

        with self._in_words():
            backend = JournalFileBackend(self.name, lock_obj=cast(Any, JournalLock(folder)))
            self._optuna = optuna.storages.JournalStorage(backend)

    def use(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of Optuna's `BaseStorage`, and return its result.

        Raises:
            ValueError: the journal is damaged. StorageError: the server does not answer.
            Optuna's errors of the method itself are raised, too.
        """
        start = time.monotonic()
        while True:
            try:
                with self._in_words():
                    return getattr(self._optuna, method)(*arguments, **options)
            except StorageError:
                if time.monotonic() - start > self._patience:
                    raise
                time.sleep(1)

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        from optuna.exceptions import DuplicatedStudyError, StorageInternalError, UpdateFinishedTrialError

        try:
            yield
        except (OSError, MemoryError, DuplicatedStudyError, UpdateFinishedTrialError):
            raise
        except Exception as error:
            if self._is_journal:  # Optuna raises errors of many types for a damaged journal
                raise ValueError(f"{self.name} is no whole journal of a search: {in_words(error)}") from None
            if isinstance(error, StorageInternalError) or type(error).__module__.startswith("sqlalchemy"):
                raise StorageError(f"the storage {self.name} does not answer: {_reason(error)}") from error
            raise

    def _database(self, url: str) -> Any:
        import optuna
        from sqlalchemy.exc import NoSuchModuleError

        if url.startswith("postgresql:") and (find_spec("psycopg2") or not find_spec("psycopg")):
            url = url.replace("postgresql:", "postgresql+psycopg2:", 1)  # the default depends on SQLAlchemy
        for left in reversed(range(TRIES)):
            try:
                with self._in_words():
                    return optuna.storages.get_storage(url)
            except StorageError as error:
                if isinstance(error.__cause__, NoSuchModuleError):
                    raise _no_url(self.name) from None
                if not left or not _is_made_by_another(error.__cause__):
                    raise
            except ImportError as error:
                driver = getattr(error.__cause__, "name", None) or "a driver"
                hint = '"sase-attn[postgresql]"' if driver == "psycopg2" else driver
                raise ImportError(f"the storage {self.name} needs {driver}: pip install {hint}") from None
        raise AssertionError


def shown(url: str) -> str:
    """A URL without its password."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        raise _no_url(url) from None


def _no_url(got: str) -> ValueError:
    return ValueError(f"storage: wanted a URL as postgresql://user@host/database or sqlite:///file.db, got {got!r}")


def _is_made_by_another(error: BaseException | None) -> bool:
    """Whether the error means that another worker has just created the same table or unique row."""
    from sqlalchemy.exc import IntegrityError

    return isinstance(error, IntegrityError) or "already exists" in str(error)


def _reason(error: BaseException) -> str:
    """The message of the driver, without the SQL statement."""
    while error.__cause__ is not None and getattr(error, "orig", None) is None:
        error = error.__cause__
    return in_words(getattr(error, "orig", None) or error)
