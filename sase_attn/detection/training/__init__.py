"""The training of a detector: steps, schedule, the run that resumes, and its result."""

from sase_attn.detection.training.result import DetectionResult as DetectionResult
from sase_attn.detection.training.run import train_detector as train_detector
