"""A model of one image as a safetensors file, whose header says which networks it holds: `load_one_shot`."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from sase_attn.spatially_adaptive.synthesis.file_record import file_record
from sase_attn.spatially_adaptive.synthesis.one_shot.config import LARGEST_SIDE, MOST_SCALES
from sase_attn.spatially_adaptive.synthesis.one_shot.model import OneShotModel
from sase_attn.weights import read_checkpoint, write_safetensors
from sase_attn.weights.state_dicts import check_state_dict

NAME = "one_shot.safetensors"
_KEY = "sase_attn.one_shot"


@dataclass(frozen=True)
class _Record:
    """The record of a model in its file: (height, width) of each scale, and the channels at the coarsest."""

    sizes: tuple[tuple[int, int], ...]
    width: int

    def network(self) -> OneShotModel:
        """A model of this description, with initial weights. Raises ValueError if no training could have made it."""
        fits = 1 <= len(self.sizes) <= MOST_SCALES and 4 <= self.width <= 256 and self.width % 4 == 0
        if not fits or not all(1 <= side <= LARGEST_SIDE for size in self.sizes for side in size):
            raise ValueError(f"no model of one image has sizes {self.sizes} and width {self.width}")
        return OneShotModel(torch.zeros(3, *self.sizes[-1], dtype=torch.uint8), self.sizes, self.width)


def save_one_shot(model: OneShotModel, folder: Path) -> None:
    """Write a trained model to the folder of its run, atomically. Raises OSError."""
    text = json.dumps(asdict(_Record(model.sizes, model.width)))
    write_safetensors(model.state_dict(), folder / NAME, metadata={_KEY: text})


def load_one_shot(source: str | Path) -> OneShotModel:
    """The model that a run has learned from its image, in eval mode; `sample()` makes images like it.

    Args:
        source: the folder of a run that has finished, or the file that it has written.

    Raises:
        FileNotFoundError: no such folder or file, or a folder without a finished run of this kind.
        ValueError: the file is damaged, or holds something else.
    """
    path = Path(source)
    if path.is_dir():
        path = path / NAME
        if not path.is_file():
            raise FileNotFoundError(f"{source} holds no {NAME}: wanted the folder of a finished one-shot training")
    elif not path.exists():
        raise FileNotFoundError(f"no such folder of a run or file of a one-shot model: {path}")
    otherwise = f"holds no model of one image: wanted {NAME} of a one-shot training"
    model = file_record(path, _KEY, _Record, otherwise).network()
    state = read_checkpoint(path)
    check_state_dict(state, model, source=str(path))
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)
