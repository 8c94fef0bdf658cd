"""`Scaled`: a module that multiplies its result by a number, which state dicts store although it is no tensor."""

from typing import Any

from torch import nn

_KEY = "scale"


class Scaled(nn.Module):
    """A module with a `scale`: it refuses to load weights that were trained with another scale.

    `state_dict()` keeps the scale in its metadata, which `torch.save` writes. A state dict that is copied into a plain
    dict, as `safetensors` and timm's `checkpoint_path` do, has no metadata, and is loaded without a check.
    """

    scale: float

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        metadata = getattr(destination, "_metadata", {}).get(prefix[:-1])
        if metadata is not None:
            metadata[_KEY] = float(self.scale)

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        saved = local_metadata.get(_KEY, self.scale)
        if abs(saved - self.scale) > 1e-9 * abs(saved):
            name = prefix[:-1] or type(self).__name__
            error_msgs.append(
                f"{name}: wanted weights of starting gain {1 / self.scale:.6g} divided out, got weights of "
                f"{1 / saved:.6g}; make the network with gain={1 / saved:.6g}"
            )
