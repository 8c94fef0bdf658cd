"""The twins of statistics and gates: in pieces on the CPU (`chunked`), in Triton on CUDA (`operators`).

Each is imported at the first map that it takes. `use` chooses between them and the definition; see `router` for where
the definition is taken anyway.
"""

from sase_attn.kernels.backend import use as use
