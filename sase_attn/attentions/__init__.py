"""The attentions of the literature, one file per paper, all built alike: `create_attention("srm", channels=64)`."""

from sase_attn.attention import Attention as Attention
from sase_attn.attention import no_weight_decay as no_weight_decay
from sase_attn.attentions.registry import ATTENTIONS as ATTENTIONS
from sase_attn.attentions.registry import attention_factory as attention_factory
from sase_attn.attentions.registry import create_attention as create_attention
from sase_attn.attentions.registry import get_attention as get_attention
from sase_attn.attentions.registry import list_attentions as list_attentions
from sase_attn.attentions.registry import register_attention as register_attention
from sase_attn.attentions.starting_gain import measure_gain as measure_gain
from sase_attn.attentions.starting_gain import set_gain as set_gain
from sase_attn.attentions.starting_gain import starting_gain as starting_gain
