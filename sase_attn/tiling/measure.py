"""`buffering`: the activations that a chip must hold while squeeze-and-excitation waits for its mean."""

from typing import Any

from torch import nn

from sase_attn.insert.kinds import attention_inventory
from sase_attn.insert.meta_forward import meta_copy, meta_image, run_once
from sase_attn.insert.squeeze_excite import describe_se
from sase_attn.tiling.block import TiledSE
from sase_attn.tiling.dataflow import Flow
from sase_attn.tiling.report import BlockBuffer, BufferingReport, bits
from sase_attn.tiling.tiles import Tile, checked_tile


def buffering(
    model: nn.Module,
    size: int | tuple[int, int] | None = None,
    rows: int | None = None,
    columns: int | None = None,
    *,
    precision: str = "int8",
    projections: bool = False,
) -> BufferingReport:
    """Activations that a chip holds while squeeze-and-excitation waits, with and without tiles (arXiv 2107.02145).

    Such a chip streams maps row by row. The gated map cannot go on before its mean is known, nor can the map that will
    be added to it: of each, rows × width × channels activations are held. The number of rows is the map's height for
    squeeze-and-excitation, and at most that of a tile for tiles; tiles of whole columns are streamed by columns. The
    formula reproduces the paper's count for EfficientDet-D2, whose squeeze-and-excitation is that of EfficientNet-B2:
    50.734M → 4.766M at 768×768.

    Shortcuts are found in the graph of a trial pass on the meta device: they are maps that do not derive from the
    module's output, and are added to a result that does. If the module's input derives from the map, the map itself has
    to wait, and it counts; activations, scales or a batch norm on the way make no difference. If a projection (as in
    the first block of a ResNet's stage) or another branch computes the map, it is listed apart, and counts only with
    `projections`, by the map that is added. A map of another size counts by its elements, rounded up to whole channels
    of the gated map. Concatenations are not counted.

    Args:
        model: any network whose forward pass accepts one batch of images. `TiledSE` modules count with their own tiles.
        size: size of the images, one number or (height, width); by default the network's own, or 224.
        rows, columns: the tile that untiled squeeze-and-excitation modules would get; None is the whole extent. If both
            are None, it is the paper's, (7, None); but in a network with `TiledSE` modules, the others stay untiled.
        precision: type of an activation, a name of `PRECISIONS`.
        projections: count projected shortcuts too.

    Returns:
        One entry for each call of a module, in the order of execution.

    Raises:
        ValueError: no squeeze-and-excitation is reached (the network's attention is named), `size` or a side is not
            positive, or the network cannot run on such images.
        UnknownNameError: no such precision.
    """
    bits(precision)
    sides = None if size is None else tuple(size) if isinstance(size, tuple | list) else (size, size)
    if sides is not None and not (len(sides) == 2 and all(isinstance(side, int) and side > 0 for side in sides)):
        raise ValueError(f"size must be a positive number or (height, width), got {size!r}")
    copied = meta_copy(model)
    x = meta_image(model, sides)
    is_tiled = any(isinstance(module, TiledSE) for module in copied.modules())
    both = (rows, columns) == (None, None)
    default: Tile = checked_tile((7, None) if both and not is_tiled else (rows, columns))
    flow = Flow()
    calls: list[tuple[str, Tile, Any, int, int]] = []

    def watch(name: str, module: nn.Module, tile: Tile) -> None:
        inputs: list[int | None] = []
        module.register_forward_pre_hook(lambda _, args: inputs.append(flow.node(args[0])))

        def after(_: nn.Module, args: Any, output: Any) -> None:
            before, behind = inputs.pop(), flow.node(output)
            if before is not None and behind is not None:
                calls.append((name, tile, args[0].shape, before, behind))

        module.register_forward_hook(after)

    for name, module in copied.named_modules():
        if isinstance(module, TiledSE):
            watch(name, module, module.tile)
        elif describe_se(module) is not None:
            watch(name, module, default)
    with flow:
        flow.enter(x)
        run_once(copied, x)
    if not calls:
        raise ValueError(
            "no squeeze-and-excitation to count: got a model with attention-like modules: " + attention_inventory(model)
        )
    blocks = []
    for name, tile, shape, before, behind in calls:
        blocks.append(_block(name, tile, shape, flow.shortcuts(before, behind), projections))
    return BufferingReport(_name(model), (x.shape[2], x.shape[3]), precision, projections, tuple(blocks))


def _name(model: nn.Module) -> str:
    """timm's name of a network, for `attached` with the name of its base; for other networks, the class name."""
    name = (getattr(model, "pretrained_cfg", None) or {}).get("architecture") or type(model).__name__
    base = (getattr(model, "_model_args", None) or {}).get("base") if name == "attached" else None
    return f"{name} {base}" if base else name


def _block(name: str, tile: Tile, shape: Any, shortcuts: Any, projections: bool) -> BlockBuffer:
    gated, height, width = shape[1:]
    channels = {True: 0, False: 0}
    for shortcut in shortcuts:
        channels[shortcut.identity] += -(-shortcut.shape[1:].numel() // (height * width))
    held = gated + channels[True] + (channels[False] if projections else 0)
    rows, columns = tile
    positions = min(rows or height, height) * width
    if rows is None and columns is not None:
        positions = height * min(columns, width)
    return BlockBuffer(
        name, height, width, gated, channels[True], channels[False], tile, height * width * held, positions * held
    )
