"""Pictures of detections: boxes with names and scores, masks, and sheets of many images."""

from sase_attn.detection.drawing.picture import draw_detections as draw_detections
from sase_attn.detection.drawing.sheet import Tile as Tile
from sase_attn.detection.drawing.sheet import draw_sheet as draw_sheet
from sase_attn.detection.drawing.sheet import draw_tile as draw_tile
