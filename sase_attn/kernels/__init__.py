"""Statistics and gates of a map in few reads: in pieces on the CPU (`cpu`), by Triton on CUDA (`triton`).

Each is imported at the first map that it takes. `set_backend` and `backend(…)` choose between them and the definition;
see `dispatch.py` for where the definition is taken anyway, and `reader.py` for how a map is read.
"""

from sase_attn.kernels.dispatch import backend as backend
from sase_attn.kernels.dispatch import get_backend as get_backend
from sase_attn.kernels.dispatch import set_backend as set_backend
