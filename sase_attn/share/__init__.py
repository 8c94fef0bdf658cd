"""Publish a model: its card, a push to the Hugging Face Hub, and the same folder written locally.

Weights are written as safetensors only. What is written is loaded back and compared before it is published, so that a
model that `timm.create_model` cannot rebuild from its name and arguments is refused here, not found broken later.

Publishing needs timm >= 1.0.31, the first to record the arguments that a model was made with.
"""

from sase_attn.share.card import model_card as model_card
from sase_attn.share.errors import HubError as HubError
from sase_attn.share.errors import explanation as explanation
from sase_attn.share.errors import one_report as one_report
from sase_attn.share.errors import pull_error as pull_error
from sase_attn.share.folder import new_folder as new_folder
from sase_attn.share.folder import save as save
from sase_attn.share.push import push as push
