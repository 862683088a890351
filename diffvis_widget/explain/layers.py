"""Which modules of a denoiser DF-CAM looks at, and how their outputs lie on a grid."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

_UNET_PARTS = ("attentions", "resnets", "downsamplers", "upsamplers")


def cam_layers(denoiser: nn.Module) -> dict[str, nn.Module]:
    """By dotted path, in the order of the model: blocks of a U-Net's stages, or the blocks of a transformer."""
    lists = {name: module for name, module in denoiser.named_modules() if isinstance(module, nn.ModuleList)}
    unet = {name: module for name, module in lists.items() if name.split(".")[-1] in _UNET_PARTS}
    # a transformer's blocks lie in lists of its own; lists further down hold parts of a block
    chosen = unet or {name: module for name, module in lists.items() if "." not in name and _attends(module)}
    found = {f"{name}.{index}": block for name, blocks in chosen.items() for index, block in enumerate(blocks)}
    stages = {"down_blocks": 0, "mid_block": 1, "up_blocks": 2}
    return dict(sorted(found.items(), key=lambda item: stages.get(item[0].split(".")[0], 3)))


def _attends(blocks: nn.ModuleList) -> bool:
    return any(hasattr(module, "processor") for module in blocks.modules())


def image_stream(output: Any, size: tuple[int, int]) -> Tensor:
    """Of what a block returned, the image's part: (rows, K, u, v), or (rows, positions, K) of a transformer."""
    parts = [output] if isinstance(output, Tensor) else [part for part in output if isinstance(part, Tensor)]
    fitting = [part for part in parts if part.ndim == 4 or (part.ndim == 3 and _grid(part.shape[1], size))]
    if not fitting:
        shapes = ", ".join(str(tuple(part.shape)) for part in parts)
        raise ValueError(f"a block of this denoiser returns {shapes}: no image positions on a grid of {size} latents")
    return fitting[0]


def lay(stream: Tensor, size: tuple[int, int]) -> Tensor:
    """An image stream, or its gradient, as float32 (rows, K, u, v)."""
    stream = stream.float()
    if stream.ndim == 4:
        return stream
    grid = _grid(stream.shape[1], size)
    assert grid is not None
    return stream.mT.unflatten(2, grid)


def _grid(positions: int, size: tuple[int, int]) -> tuple[int, int] | None:
    """(h, w) of that many positions: the latents in square patches of some side."""
    for side in range(1, min(size) + 1):
        height, width = size[0] // side, size[1] // side
        if height * width == positions:
            return height, width
    return None
