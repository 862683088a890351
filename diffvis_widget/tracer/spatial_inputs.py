"""The grids on which the transformers inside a U-Net work, as their inputs show them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from diffvis_widget.traces.types import Size

from .fault_guard import FaultGuard
from .module_hooks import hook_forward


class SpatialInputs:
    """Notes the size of the feature map that the transformer around each attention module receives.

    Args:
        denoiser: The denoiser.
        layers: Dotted paths of its attention modules.
        guard: Takes the errors of the hooks.
        side_by_side: See `Family.side_by_side`.
    """

    def __init__(
        self, denoiser: nn.Module, layers: Iterable[str], guard: FaultGuard, side_by_side: bool = False
    ) -> None:
        self._denoiser = denoiser
        self._guard, self._columns = guard, 2 if side_by_side else 1
        self._transformers = {layer: path for layer in layers if (path := _transformer(denoiser, layer)) is not None}
        self._sizes: dict[str, Size] = {}
        self._removers: list[Callable[[], None]] = []

    def attach(self) -> None:
        """Register the hooks; `detach` removes them."""
        for path in dict.fromkeys(self._transformers.values()):
            hook = self._guard.hook(self._entering(path))
            module = self._denoiser.get_submodule(path)
            self._removers.append(hook_forward(module, hook, _leaving, with_kwargs=True))

    def detach(self) -> None:
        """Remove the hooks."""
        while self._removers:
            self._removers.pop()()

    def grid(self, layer: str) -> Size | None:
        """The grid on which a layer worked last.

        Args:
            layer: Dotted path of an attention module.

        Returns:
            (h, w); None where no feature map was seen.
        """
        return self._sizes.get(self._transformers.get(layer, ""))

    def _entering(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            features = args[0] if args else kwargs.get("hidden_states")
            if isinstance(features, Tensor) and features.ndim == 4:
                self._sizes[path] = (int(features.shape[2]), int(features.shape[3]) // self._columns)

        return hook


def _leaving(module: nn.Module, args: Any, output: Any) -> None:
    """Nothing is read there."""


def _transformer(denoiser: nn.Module, layer: str) -> str | None:
    """The innermost module around a layer that consists of transformer blocks, other than the denoiser."""
    path = layer
    while "." in path:
        path = path.rpartition(".")[0]
        if hasattr(denoiser.get_submodule(path), "transformer_blocks"):
            return path
    return None
