"""Pictures. matplotlib is imported when something is drawn."""

from sase_attn.plot.genotype import draw_genotype

__all__ = ["draw_genotype"]
