"""Pictures: `draw_genotype`, `saliency`, `draw_saliency`. matplotlib and captum are imported when they are used."""

from sase_attn.plot.genotype import draw_genotype
from sase_attn.plot.grad_cam import saliency
from sase_attn.plot.saliency_grid import draw_saliency

__all__ = ["draw_genotype", "draw_saliency", "saliency"]
