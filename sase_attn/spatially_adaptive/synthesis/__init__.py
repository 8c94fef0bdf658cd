"""Image synthesis from few images: FastGAN's generator and discriminator with spatially-adaptive skips."""

from sase_attn.spatially_adaptive.synthesis.config import SynthesisConfig as SynthesisConfig
from sase_attn.spatially_adaptive.synthesis.generator import Generator as Generator
from sase_attn.spatially_adaptive.synthesis.result import SynthesisResult as SynthesisResult
from sase_attn.spatially_adaptive.synthesis.run import train_synthesis as train_synthesis
from sase_attn.spatially_adaptive.synthesis.saved_generator import load_generator as load_generator
from sase_attn.spatially_adaptive.synthesis.scores import Scores as Scores
from sase_attn.spatially_adaptive.synthesis.sheets import save_png as save_png
