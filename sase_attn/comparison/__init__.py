"""`compare(networks, …)`: compare networks by trainings with the same seeds and initial weights, with tests."""

from sase_attn.comparison.networks import attended as attended
from sase_attn.comparison.paired import Difference as Difference
from sase_attn.comparison.paired import paired_differences as paired_differences
from sase_attn.comparison.result import Comparison as Comparison
from sase_attn.comparison.result import Network as Network
from sase_attn.comparison.run import compare as compare
