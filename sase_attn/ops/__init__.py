"""The squeeze and excitation operations of a block: four sets of modules with one signature."""

from sase_attn.ops.op import Excite as Excite
from sase_attn.ops.op import Op as Op
from sase_attn.ops.registry import OP_SETS as OP_SETS
from sase_attn.ops.registry import RELEASE_OPS as RELEASE_OPS
from sase_attn.ops.registry import create_op as create_op
from sase_attn.ops.registry import get_op as get_op
from sase_attn.ops.registry import list_ops as list_ops
from sase_attn.ops.registry import register_op as register_op
