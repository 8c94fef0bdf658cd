"""The fused twins of statistics and gates in Triton, which is imported at the first map that they take.

`use` chooses between them and the definition; see `router` for where the definition is taken anyway.
"""

from sase_attn.kernels.router import use as use
