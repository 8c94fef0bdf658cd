"""The one training loop: `train(recipe, output)` and `evaluate(model, batches)`; recipes by name in `RECIPES`."""

from sase_attn.training.evaluate import Metrics as Metrics
from sase_attn.training.evaluate import evaluate as evaluate
from sase_attn.training.initial_weights import start_from as start_from
from sase_attn.training.network import create_network as create_network
from sase_attn.training.recipes import RECIPES as RECIPES
from sase_attn.training.recipes import Recipe as Recipe
from sase_attn.training.result import TrainResult as TrainResult
from sase_attn.training.run import train as train
