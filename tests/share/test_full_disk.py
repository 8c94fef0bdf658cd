"""A model that cannot be written: the error names the folder that was asked for, and nothing is left."""

import errno
import os

import pytest
import timm
from safetensors import SafetensorError

from sase_attn import share

FULL = os.strerror(errno.ENOSPC)


@pytest.mark.parametrize(
    "error",
    [
        lambda folder: OSError(errno.ENOSPC, FULL),
        lambda folder: OSError(errno.ENOSPC, FULL, str(folder / "model.safetensors")),
        lambda folder: SafetensorError(f"Error while serializing: I/O error: {FULL} (os error 28)"),
    ],
    ids=["nameless", "temporary", "safetensors"],
)
def test_a_full_disk_is_said_with_the_folder(tmp_path, monkeypatch, error):
    def fail(model, folder):
        raise error(folder)

    monkeypatch.setattr("sase_attn.share.folder.write_model", fail)
    with pytest.raises(OSError, match=FULL) as caught:
        share.save(timm.create_model("resnet20_cifar", layers=[1, 1, 1]), tmp_path / "saved")
    assert str(tmp_path / "saved") in str(caught.value) and ".tmp" not in str(caught.value)
    assert not any(path.is_dir() for path in tmp_path.iterdir())
