"""Models with attention; importing this package adds them to timm's registry."""

from sase_attn.models import attached as attached
from sase_attn.models import compared_resnet as compared_resnet
from sase_attn.models import sase_resnet as sase_resnet
from sase_attn.models import sase_resnet_cifar as sase_resnet_cifar
