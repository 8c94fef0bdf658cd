"""What commands share about models of timm's registry: an error, and the line that loads one."""

from collections.abc import Iterator
from contextlib import contextmanager

from sase_attn import quoting


def refused_arguments(name: str, error: Exception) -> ValueError:
    """The error to raise where a model does not take arguments, or refuses their values."""
    return ValueError(f"cannot make {name} with these arguments: {error or 'not allowed'}")


@contextmanager
def arguments_of(name: str) -> Iterator[None]:
    """Where a model is made with arguments that a person gave: what timm or the model makes of wrong ones."""
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
