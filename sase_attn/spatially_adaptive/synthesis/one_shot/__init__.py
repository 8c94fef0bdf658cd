"""Image synthesis from a single image: SinGAN with the spatially-adaptive skip at every scale above the coarsest."""

from sase_attn.spatially_adaptive.synthesis.one_shot.config import OneShotConfig as OneShotConfig
from sase_attn.spatially_adaptive.synthesis.one_shot.measures import Measures as Measures
from sase_attn.spatially_adaptive.synthesis.one_shot.measures import measure as measure
from sase_attn.spatially_adaptive.synthesis.one_shot.model import OneShotModel as OneShotModel
from sase_attn.spatially_adaptive.synthesis.one_shot.result import OneShotResult as OneShotResult
from sase_attn.spatially_adaptive.synthesis.one_shot.run import train_one_shot as train_one_shot
from sase_attn.spatially_adaptive.synthesis.one_shot.saved_model import load_one_shot as load_one_shot
