"""Which implementation a call takes: `use` chooses, `takes` decides for a tensor.

The definition (plain torch) is taken for types without a kernel, while torch compiles, exports or traces, and under
function transforms and forward-mode derivatives, whatever was chosen.
"""

import threading
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType, TracebackType
from typing import Self

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

from sase_attn.errors import unknown_name

BACKENDS = ("auto", "torch", "triton")
TYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)

_own = threading.local()
_main = "auto"
MEASURED = ("cpu",)  # devices on which "auto" takes kernels; CUDA when they have been measured there


class use:
    """Choose how statistics and gates are computed: at once, and in a `with` statement until its end.

        sase_attn.kernels.use("torch")          # from here on
        with sase_attn.kernels.use("triton"):   # here only
            y = block(x)

    The choice is that of the calling thread; threads that have made none follow the main thread, as those do in which
    torch runs backward passes.

    Args:
        backend: "auto", which holds where nothing was chosen: on the CPU the definition in pieces that stay in the
            cache, with gradients of its own; on CUDA the definition, because the kernels have not been measured on a
            GPU yet; "torch", the definition everywhere; "triton", the kernels for CUDA, or an error where a tensor
            cannot have them.

    Raises:
        UnknownNameError: no such backend.
        RuntimeError: "triton", which is not installed.
    """

    def __init__(self, backend: str) -> None:
        if backend not in BACKENDS:
            raise unknown_name("backend", backend, BACKENDS)
        if backend == "triton" and not _installed():
            raise RuntimeError("kernels.use('triton') needs Triton, which is not installed: pip install triton")
        self._before = _main if _is_main() else getattr(_own, "backend", None)
        _choose(backend)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _choose(self._before)


def chosen() -> str:
    """The backend that holds in this thread."""
    return getattr(_own, "backend", None) or _main


def takes(x: object) -> bool:
    """Whether kernels compute what is asked of the map `x` (B, C, H, W).

    Raises:
        RuntimeError: "triton" was chosen and the tensor cannot have it.
    """
    if torch.compiler.is_compiling() or not isinstance(x, Tensor):
        return False
    backend = chosen()
    if backend == "torch" or (backend == "auto" and x.device.type not in MEASURED):
        return False
    if torch.jit.is_tracing() or transformed() or x.is_meta or x.numel() == 0:
        return False
    if backend == "auto":
        return _usual(x)
    reason = _reason(x)
    if reason is None:
        return True
    raise RuntimeError(f"kernels.use('triton') was called, but the kernels take {reason}")


def operators(x: Tensor) -> ModuleType:
    """The module whose functions compute what is asked of a map that is taken; Triton is imported with its own."""
    if x.is_cuda or chosen() == "triton":
        return import_module("sase_attn.kernels.triton.operators")
    return chunked()


def transformed() -> bool:
    """Under `torch.func` or forward-mode derivatives; assumed so where torch lacks its (private) way of telling."""
    active = getattr(torch._C, "_are_functorch_transforms_active", None)
    return active is None or active() or getattr(forward_ad, "_current_level", 0) >= 0


def is_batched(x: Tensor | None) -> bool:
    """Whether `x` is a batch of gradients (`is_grads_batched`); torch's way of telling is private here too."""
    told = getattr(torch._C._functorch, "is_legacy_batchedtensor", None)
    return x is not None and told is not None and bool(told(x))


@cache
def chunked() -> ModuleType:
    """The module for the CPU."""
    return import_module("sase_attn.kernels.cpu.operators")


def _usual(x: Tensor) -> bool:
    """Of a type that is taken without being asked for; no subclass, which may stand for what has no values.

    Not under a dispatch mode, such as one that counts operations: those of the definition are what it is to see.
    """
    if type(x) not in (Tensor, Parameter) or x.dtype not in TYPES or _modes() > 0:
        return False
    return not x.is_cuda or (x.dtype != torch.float64 and _reason(x) is None)


def _reason(x: Tensor) -> str | None:
    """What a tensor would have to be instead, None if kernels can take it."""
    if not _installed():
        return "an installed Triton: pip install triton"
    if not (x.is_cuda or (x.device.type == "cpu" and _interpreting())):
        return f"CUDA tensors (or CPU ones where TRITON_INTERPRET=1 was set at the start), got one on {x.device.type}"
    if x.dtype not in TYPES:
        return f"float16, bfloat16, float32 or float64, got {x.dtype}"
    elements = x.numel() // len(x)
    if elements >= 2**31:
        return f"samples of fewer than 2**31 elements, got {elements}"
    return None


def _modes() -> int:
    count = getattr(torch._C, "_len_torch_dispatch_stack", None)
    return 1 if count is None else count()


def _choose(backend: str | None) -> None:
    global _main
    if _is_main():
        _main = backend or "auto"
    else:
        _own.backend = backend


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()


def _installed() -> bool:
    global _found
    if _found is None:
        _found = find_spec("triton") is not None
    return _found


_found: bool | None = None


def _interpreting() -> bool:
    """Whether Triton interprets its kernels on the CPU."""
    from sase_attn.kernels.triton.operators import INTERPRETED

    return INTERPRETED
