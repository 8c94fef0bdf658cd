"""State dict in, state dict out: files of weights, warm starts, and the authors' checkpoints."""

from sase_attn.weights.authors import Imported as Imported
from sase_attn.weights.authors import from_authors as from_authors
from sase_attn.weights.authors import genotype_of as genotype_of
from sase_attn.weights.authors import import_checkpoint as import_checkpoint
from sase_attn.weights.files import is_named_like_weights as is_named_like_weights
from sase_attn.weights.files import read_file as read_file
from sase_attn.weights.files import read_metadata as read_metadata
from sase_attn.weights.fitting import fitted as fitted
from sase_attn.weights.gains import asked_gain as asked_gain
from sase_attn.weights.gains import take_gains as take_gains
from sase_attn.weights.gains import take_unasked_gains as take_unasked_gains
from sase_attn.weights.genotypes import check_record as check_record
from sase_attn.weights.genotypes import noted as noted
from sase_attn.weights.genotypes import read_record as read_record
from sase_attn.weights.genotypes import record_of as record_of
from sase_attn.weights.state_dicts import check_state_dict as check_state_dict
from sase_attn.weights.state_dicts import read_checkpoint as read_checkpoint
from sase_attn.weights.state_dicts import write_safetensors as write_safetensors
from sase_attn.weights.warm_start import fit_pretrained as fit_pretrained
from sase_attn.weights.warm_start import warm_start as warm_start
from sase_attn.weights.warm_start import without_replaced as without_replaced
from sase_attn.weights.wrappers import StateDict as StateDict
from sase_attn.weights.wrappers import state_dict_of as state_dict_of
