"""Search for the operations of a block: `search(model, space, data, config, output=…) -> SearchResult`.

By a super-network with shared weights, such as the differentiable search of the paper, or by trainings from scratch.
"""

from sase_attn.search.config import SEARCHES as SEARCHES
from sase_attn.search.config import SearchConfig as SearchConfig
from sase_attn.search.result import SearchResult as SearchResult
from sase_attn.search.run import search as search
from sase_attn.search.shared_weights.halves import SearchData as SearchData
from sase_attn.search.shared_weights.scorer import Scorer as Scorer
from sase_attn.search.signal import Signal as Signal
from sase_attn.search.signal import SignalPlan as SignalPlan
from sase_attn.search.space import SearchSpace as SearchSpace
from sase_attn.search.supernet.architecture import Architecture as Architecture
from sase_attn.search.supernet.block import SearchBlock as SearchBlock
