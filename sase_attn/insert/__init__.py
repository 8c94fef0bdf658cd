"""Put attention into an existing network: `attach` and `replace`."""

from sase_attn.insert.attach import Insertion as Insertion
from sase_attn.insert.attach import attach as attach
from sase_attn.insert.attached import Attached as Attached
from sase_attn.insert.kinds import list_kinds as list_kinds
from sase_attn.insert.replace import Replacement as Replacement
from sase_attn.insert.replace import replace as replace
from sase_attn.insert.squeeze_excite import SqueezeExcitation as SqueezeExcitation
from sase_attn.insert.squeeze_excite import describe_se as describe_se
from sase_attn.insert.squeeze_excite import known_se as known_se
from sase_attn.insert.squeeze_excite import pointwise as pointwise
from sase_attn.insert.squeeze_excite import register_se as register_se
from sase_attn.insert.start import init_weights as init_weights
