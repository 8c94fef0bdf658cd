"""Squeeze-and-excitation style attention for PyTorch and timm.

Importing the package registers its models with timm: `import sase_attn; timm.create_model("sase_resnet50")`.
"""

from sase_attn import models as models
from sase_attn.attentions import create_attention as create_attention
from sase_attn.attentions import list_attentions as list_attentions
from sase_attn.attentions import register_attention as register_attention
from sase_attn.block import SASEBlock as SASEBlock
from sase_attn.fusion import fuse as fuse
from sase_attn.fusion import unfuse as unfuse
from sase_attn.genotype import Genotype as Genotype
from sase_attn.genotype import genotypes as genotypes
from sase_attn.insert import attach as attach
from sase_attn.insert import init_weights as init_weights
from sase_attn.insert import replace as replace
from sase_attn.ops import create_op as create_op
from sase_attn.ops import list_ops as list_ops
from sase_attn.ops import register_op as register_op
from sase_attn.tiling import tile as tile

__version__ = "0.1.0"
