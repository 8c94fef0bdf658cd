"""Helpers for models of timm's registry that commands share: `arguments_of` and `load_line`."""

from collections.abc import Iterator
from contextlib import contextmanager

from sase_attn import quoting


def refused_arguments(name: str, error: Exception) -> ValueError:
    """The error to raise if a model does not accept arguments or their values."""
    return ValueError(f"cannot make {name} with these arguments: {error or 'not allowed'}")


@contextmanager
def arguments_of(name: str) -> Iterator[None]:
    """A context for making a model with arguments of the user; errors of timm or the model become ValueError."""
    try:
        yield
    except (ValueError, OSError, MemoryError):
        raise
    except Exception as error:
        raise refused_arguments(name, error) from None


def load_line(name: str, **arguments: str | bool | int) -> str:
    """Python that loads a model."""
    shown = [quoting.python(name)]
    shown += [f"{key}={quoting.python(value) if isinstance(value, str) else value}" for key, value in arguments.items()]
    return f"import sase_attn, timm; model = timm.create_model({', '.join(shown)})"
