"""Statistics and gates of a map in few passes over it: piecewise on the CPU (`cpu`), by Triton on CUDA (`triton`).

Each of the two is imported when it is first needed. `set_backend` and `backend(…)` choose between them and the
definition, which is plain torch. `dispatch.py` says where the definition is used whatever was chosen, and `reader.py`
how a map is read.
"""

from sase_attn.kernels.dispatch import backend as backend
from sase_attn.kernels.dispatch import get_backend as get_backend
from sase_attn.kernels.dispatch import set_backend as set_backend
