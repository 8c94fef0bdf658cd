"""Differentiable search of a block's operations: the space, its super-network, and the bilevel step."""

from sase_attn.search.architecture import Architecture as Architecture
from sase_attn.search.mixed import SearchBlock as SearchBlock
from sase_attn.search.space import SearchSpace as SearchSpace
