"""Models of timm's registry; importing this package registers them."""

from sase_attn.models import attached as attached
from sase_attn.models import compared_resnet as compared_resnet
from sase_attn.models import sase_resnet as sase_resnet
from sase_attn.models import sase_resnet_cifar as sase_resnet_cifar
