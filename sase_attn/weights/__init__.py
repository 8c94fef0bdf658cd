"""State dicts: reading and writing files of weights, warm starts, and the authors' checkpoints."""

from sase_attn.weights.authors import Imported as Imported
from sase_attn.weights.authors import from_authors as from_authors
from sase_attn.weights.authors import import_checkpoint as import_checkpoint
from sase_attn.weights.files import read_metadata as read_metadata
from sase_attn.weights.state_dicts import read_checkpoint as read_checkpoint
from sase_attn.weights.state_dicts import write_safetensors as write_safetensors
from sase_attn.weights.warm_start import warm_start as warm_start
from sase_attn.weights.wrappers import StateDict as StateDict
from sase_attn.weights.wrappers import state_dict_of as state_dict_of
