"""Import of detectors trained with mmdetection, such as the authors': they compute the same here as there."""

from sase_attn.detection.authors.load import ImportedDetector as ImportedDetector
from sase_attn.detection.authors.load import import_detector as import_detector
from sase_attn.detection.authors.load import load_authors_detector as load_authors_detector
