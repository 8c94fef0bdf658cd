"""Test whether genotypes differ in accuracy, by trainings with common seeds: `signal(trained, plan) -> Signal`."""

from sase_attn.search.signal.plan import SignalPlan as SignalPlan
from sase_attn.search.signal.result import Signal as Signal
from sase_attn.search.signal.result import signal as signal
