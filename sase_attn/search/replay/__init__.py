"""Test search methods in seconds, on simulated trainings: `replay("race", world, trainings=42).gain`."""

from sase_attn.search.replay.replay import Replayed as Replayed
from sase_attn.search.replay.replay import replay as replay
from sase_attn.search.replay.table import SpaceTable as SpaceTable
from sase_attn.search.replay.world import World as World
from sase_attn.search.replay.world import world_at as world_at
from sase_attn.search.trained import Trained as Trained
from sase_attn.search.trained import Training as Training
