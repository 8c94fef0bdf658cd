"""Choice of the implementation: users choose by `set_backend` and `backend(…)`, `operators_for` decides for a map.

Whatever was chosen, the definition (plain torch) is used for types without a kernel, while torch compiles, exports or
traces, and under function transforms and forward-mode derivatives. It is also used, with a warning, where torch lacks
the private functions that tell whether one of these is going on (`private.py`).
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor
from torch.nn import Parameter

from sase_attn.errors import unknown_name
from sase_attn.kernels import private

BACKENDS = ("auto", "torch", "triton")
TYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
MEASURED = ("cpu",)  # devices on which "auto" uses kernels; CUDA is added once they have been measured there

_own = threading.local()
_main = "auto"


def set_backend(name: str) -> None:
    """Choose how statistics and gates are computed from here on: `sase_attn.kernels.set_backend("torch")`.

    The choice holds in the calling thread. Threads without a choice follow the main thread, also those in which torch
    runs backward passes.

    Args:
        name: "auto", the default: on the CPU, the definition computed in pieces that stay in the cache, with gradients
            written for it; on CUDA, the definition, because the kernels have not been measured on a GPU yet. "torch":
            the definition everywhere. "triton": the kernels for CUDA, or an error for a tensor that they do not accept.

    Raises:
        UnknownNameError: no such backend.
        RuntimeError: the backend is "triton", and Triton is not installed.
    """
    if name not in BACKENDS:
        raise unknown_name("backend", name, BACKENDS)
    if name == "triton" and not _is_installed():
        raise RuntimeError("the backend 'triton' needs Triton, which is not installed: pip install triton")
    _store(name)


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Choose a backend within a `with` statement: `with sase_attn.kernels.backend("torch"): y = block(x)`.

    At the end of the statement, the earlier choice holds again. Names and errors are those of `set_backend`.
    """
    before = _main if _is_main_thread() else getattr(_own, "backend", None)
    set_backend(name)
    try:
        yield
    finally:
        _store(before)


def get_backend() -> str:
    """The name of the backend that this thread uses."""
    return getattr(_own, "backend", None) or _main


def uses_kernels(x: object) -> bool:
    """Whether kernels compute the statistics and gates of the map `x` (B, C, H, W).

    Raises:
        RuntimeError: "triton" was chosen, and its kernels do not accept the tensor.
    """
    if torch.compiler.is_compiling() or not isinstance(x, Tensor):
        return False
    chosen = get_backend()
    if chosen == "torch" or (chosen == "auto" and x.device.type not in MEASURED):
        return False
    if private.are_missing() or torch.jit.is_tracing() or under_transform():
        return False
    if x.is_meta or x.numel() == 0 or x.dim() != 4:
        return False
    if chosen == "auto":
        return _is_usual(x)
    reason = _missing_for_triton(x)
    if reason is None:
        return True
    raise RuntimeError(f"the backend 'triton' was chosen, but its kernels take {reason}")


def operators_for(x: Tensor) -> ModuleType | None:
    """The module whose functions compute statistics and gates of the map `x`; None for the definition.

    Triton is imported only with its module. Raises RuntimeError as `uses_kernels` does.
    """
    if not uses_kernels(x):
        return None
    if x.is_cuda or get_backend() == "triton":
        return import_module("sase_attn.kernels.triton.operators")
    return cpu_operators()


@cache
def cpu_operators() -> ModuleType:
    """The module of operators for the CPU, imported at the first call."""
    return import_module("sase_attn.kernels.cpu.operators")


def under_transform() -> bool:
    """Whether a transform of `torch.func` or forward-mode differentiation is active."""
    return bool(private.of_transforms(torch)()) or private.of_forward_mode(torch) >= 0


def is_batched(x: Tensor | None) -> bool:
    """Whether `x` is a batch of gradients (`is_grads_batched`)."""
    return x is not None and bool(private.of_batches(torch)(x))


def _is_usual(x: Tensor) -> bool:
    """Whether "auto" uses kernels for this tensor: a plain one of a supported type, with no dispatch mode active.

    A subclass may stand for a tensor without values. A dispatch mode, such as one that counts operations, is to see
    the operations of the definition.
    """
    if type(x) not in (Tensor, Parameter) or x.dtype not in TYPES or private.of_modes(torch)():
        return False
    return not x.is_cuda or (x.dtype != torch.float64 and _missing_for_triton(x) is None)


def _missing_for_triton(x: Tensor) -> str | None:
    """What Triton's kernels require and the tensor lacks, in the words of an error; None if they accept it."""
    if not _is_installed():
        return "an installed Triton: pip install triton"
    if not (x.is_cuda or (x.device.type == "cpu" and _is_interpreted())):
        return f"CUDA tensors (or CPU ones where TRITON_INTERPRET=1 was set at the start), got one on {x.device.type}"
    if x.dtype not in TYPES:
        return f"float16, bfloat16, float32 or float64, got {x.dtype}"
    elements = x.numel() // len(x)
    if elements >= 2**31:
        return f"samples of fewer than 2**31 elements, got {elements}"
    return None


def _store(name: str | None) -> None:
    global _main
    if _is_main_thread():
        _main = name or "auto"
    else:
        _own.backend = name


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@cache
def _is_installed() -> bool:
    return find_spec("triton") is not None


def _is_interpreted() -> bool:
    """Whether Triton interprets its kernels on the CPU."""
    from sase_attn.kernels.triton.operators import INTERPRETED

    return INTERPRETED
