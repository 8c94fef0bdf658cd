"""Networks compared fairly: the same seeds, the same start, and what could have been seen: `compare(networks, …)`."""

from sase_attn.comparison.networks import attended as attended
from sase_attn.comparison.paired import Difference as Difference
from sase_attn.comparison.paired import paired_differences as paired_differences
from sase_attn.comparison.result import Comparison as Comparison
from sase_attn.comparison.result import Network as Network
from sase_attn.comparison.run import compare as compare
