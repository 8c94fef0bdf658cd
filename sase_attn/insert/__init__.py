"""Put attention into a network that exists."""

from sase_attn.insert.attach import Attached as Attached
from sase_attn.insert.attach import Insertion as Insertion
from sase_attn.insert.attach import absorbing as absorbing
from sase_attn.insert.attach import attach as attach
from sase_attn.insert.attach import constant_gain as constant_gain
