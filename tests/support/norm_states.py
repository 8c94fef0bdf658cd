"""States that tools put a batch norm into; each function changes a norm in place as some tool does."""

from torch import nn


def averaging(norm: nn.BatchNorm2d) -> None:
    """`torch.optim.swa_utils.update_bn` and Lightning's averaging: statistics are means over all batches."""
    norm.reset_running_stats()
    norm.momentum = None


def adapting(norm: nn.BatchNorm2d) -> None:
    """Test-time adaptation, such as Tent: normalise by the batch in eval mode too."""
    norm.track_running_stats, norm.running_mean, norm.running_var = False, None, None


def untracked(norm: nn.BatchNorm2d) -> None:
    """As built without running statistics; `torch.func.replace_all_batch_norm_modules_` makes them so."""
    adapting(norm)
    norm.num_batches_tracked = None


def keeping(norm: nn.BatchNorm2d) -> None:
    """Running statistics are not updated, and are used in eval mode."""
    norm.track_running_stats = False


def without_weights(norm: nn.BatchNorm2d) -> None:
    """As built with `affine=False`."""
    norm.affine, norm.weight, norm.bias = False, None, None


def uncounted(norm: nn.BatchNorm2d) -> None:
    """Without a number of batches there is no mean over them: torch leaves the statistics as they are."""
    norm.momentum, norm.num_batches_tracked = None, None


STATES = [averaging, adapting, untracked, keeping, without_weights, uncounted]


def in_state(module: nn.Module, state) -> nn.Module:
    """`module` with every batch norm in it changed by `state`."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            state(norm)
    return module
