"""Import of user modules, by name or by path, so that they register their operations, attentions or models."""

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from sase_attn.errors import in_words


def import_modules(names: Iterable[str]) -> None:
    """Import modules that are not imported yet.

    Args:
        names: names of modules, which may be in the current folder; or paths of `.py` files.

    Raises:
        ImportError: no such module, or its import failed; the message has the line. FileNotFoundError: no such file.
    """
    for name in names:
        _import_file(Path(name)) if name.endswith(".py") else _import_named(name)


def absolute(name: str) -> str:
    """A form that another process can import too: the name of a module unchanged, the path of a file made absolute."""
    return str(Path(name).absolute()) if name.endswith(".py") else name


def _import_named(name: str) -> None:
    if name in sys.modules:
        return
    here = os.getcwd()
    added = here not in sys.path and "" not in sys.path
    if added:
        sys.path.append(here)
    try:
        spec = importlib.util.find_spec(name)
        if spec is None:
            raise ImportError(f"--import {name}: no module of this name; wanted one that Python finds, or a .py file")
        if not _is_loaded(Path(spec.origin or "")):
            importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise _failed(name, error) from error
    finally:
        if added:
            sys.path.remove(here)


def _import_file(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"--import {path}: no such file")
    if _is_loaded(path):
        return
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"--import {path}: Python cannot import this file")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(path.stem)
    if before is None:
        sys.modules[path.stem] = module
    _FILES[str(path.resolve())] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        _FILES.pop(str(path.resolve()))
        if before is None:
            sys.modules.pop(path.stem, None)
        raise _failed(str(path), error) from error


_FILES: dict[str, ModuleType] = {}


def _is_loaded(path: Path) -> bool:
    """Whether a module of this file is loaded, `__main__` included: operations must not be registered twice."""
    real = path.resolve()
    if str(real) in _FILES:
        return True
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return real.suffix == ".py" and any(file and Path(file).resolve() == real for file in files)


def _failed(name: str, error: BaseException) -> ImportError:
    if isinstance(error, ImportError) and str(error).startswith("--import"):
        return error
    if isinstance(error, ModuleNotFoundError) and error.name == name.partition(".")[0]:
        return ImportError(f"--import {name}: no module of this name; wanted one that Python finds, or a .py file")
    if isinstance(error, SyntaxError):
        place = f"line {error.lineno} of {error.filename}"
    else:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if Path(frame.filename).name == f"{Path(name).stem.rpartition('.')[2]}.py"]
        last = (own or frames)[-1]
        place = f"line {last.lineno} of {last.filename}"
    return ImportError(f"--import {name}: {type(error).__name__} at {place}: {in_words(error)}")
