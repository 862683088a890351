"""DF-CAM: the image tokens of each layer that a step's output depends on, from one backward pass.

J.-H. Park, Y.-J. Ju, S.-W. Lee, Expert Systems with Applications 248 (2024) 123231, arXiv 2402.10404, Eq. 10-11; after
R. R. Selvaraju et al., "Grad-CAM", ICCV 2017, arXiv 1610.02391.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diffvis_widget.arguments import items, shorten
from diffvis_widget.tracer import Denoiser, denoiser, prompt_sequence
from diffvis_widget.traces import Trace
from diffvis_widget.traces.resize import resize
from diffvis_widget.traces.results.saliency import Saliency, scale
from diffvis_widget.traces.types import Floats

from .image_stream import ImageStream
from .stored_maps import store_map


def df_cam(trace: Trace, step: int, layers: str | Sequence[str] | None = None) -> Saliency:
    """Compute DF-CAM of one step and store it in `trace.saliency`, in place of an earlier one of this step.

    For each layer the map is ReLU(sum_k alpha_k A_k), alpha_k the mean over positions of dy / dA_k; y is the sum of all
    elements of the denoiser's raw output, A the layer's output (K, u, v). With guidance both branches are combined like
    the output, A = A_uncond + g (A_text - A_uncond) and likewise the gradients, before the product.

    Args:
        trace: A run made in this process.
        step: Index into `trace.steps`.
        layers: One name or several, as in the result's `layers`; None is all: every attention, resnet, down- and
            upsampler block of a U-Net, every block of a transformer.

    Returns:
        layers: float32 (h, w) >= 0 by name, raw, resized bilinearly to the latent grid; map: the mean of the layers'
        maps, each scaled to 0..1.

    Raises:
        KeyError: If a layer does not exist; the error lists those that do.
        ValueError: If `layers` is empty, or the run has no live pipeline.

    Example:
        >>> trace = dv.trace(dv.load(), "a red circle", seed=7, num_inference_steps=2)
        >>> dv.explain.df_cam(trace, step=1).map.shape == trace.latents.shape[2:]
        True
    """
    probe = denoiser(trace, step)
    modules = probe.family.cam_layers(probe.module)
    chosen = modules if layers is None else _chosen(layers, modules)
    height, width = int(probe.latents.shape[2]), int(probe.latents.shape[3])
    maps: dict[str, Floats] = {}
    for name, (activations, gradients) in _activations(probe, chosen).items():
        alpha = gradients.mean(dim=(1, 2), keepdim=True)
        heat: Floats = (alpha * activations).sum(dim=0).clamp_min(0).cpu().numpy()
        maps[name] = resize(heat, (height, width))
    summary = np.stack([scale(heat_map) for heat_map in maps.values()]).mean(axis=0).astype(np.float32)
    return store_map(trace, Saliency("df_cam", probe.index, summary, layers=maps))


def _chosen(layers: str | Sequence[str], modules: dict[str, nn.Module]) -> dict[str, nn.Module]:
    wanted = (
        [layers] if isinstance(layers, str) else items("layers", layers, "a layer's name, a list of names, or None")
    )
    if not wanted:
        raise ValueError("layers: the list is empty; name at least one layer, or None for all")
    for name in wanted:
        if not isinstance(name, str) or name not in modules:
            raise KeyError(f"layers: {shorten(name)} is not there; the layers are: {', '.join(modules)}")
    return {name: modules[name] for name in wanted}


def _activations(probe: Denoiser, layers: dict[str, nn.Module]) -> dict[str, tuple[Tensor, Tensor]]:
    """Per layer its activations and their gradients, float32 (K, u, v), the parts of the guidance combined."""
    size = (int(probe.latents.shape[2]), int(probe.latents.shape[3]))
    image = ImageStream(probe.family, size, probe.joined, prompt_sequence(probe).layout)
    with torch.inference_mode(False), torch.enable_grad(), probe.held(), _watching(layers) as outputs_by_layer:
        # so that there is a graph where the parameters are frozen
        answers = probe.answers(probe.latents.clone().requires_grad_())
        total = torch.stack([answer.float().sum() for answer in answers.values()]).sum()
        images = {name: [image.pick(output) for output in outputs] for name, outputs in outputs_by_layer.items()}
        flat = [tensor for streams in images.values() for tensor in streams]
        gradients = iter(torch.autograd.grad(total, flat))
    result: dict[str, tuple[Tensor, Tensor]] = {}
    for name, streams in images.items():
        pairs = [(image.lay(tensor.detach()), image.lay(next(gradients))) for tensor in streams]
        activations, slopes = (_guided(torch.cat(parts), probe) for parts in zip(*pairs, strict=True))
        result[name] = activations, slopes
    return result


def _guided(rows: Tensor, probe: Denoiser) -> Tensor:
    """(1 to 3, K, u, v), in the order of the evaluations, to (K, u, v)."""
    parts = dict(zip(probe.branches, rows, strict=True))
    form = probe.guidance_form
    if form.scale is None or "negative" not in parts:
        return parts["prompt"]
    return form.linear(parts["prompt"], parts["negative"], parts.get("references"))


@contextmanager
def _watching(layers: dict[str, nn.Module]) -> Iterator[dict[str, list[Any]]]:
    """What each layer returns, call by call. The hooks come off, whatever happens."""
    outputs: dict[str, list[Any]] = {name: [] for name in layers}
    handles: list[Any] = []

    def keep(name: str) -> Any:
        return lambda module, args, output: outputs[name].append(output)

    try:
        for name, module in layers.items():
            handles.append(module.register_forward_hook(keep(name)))
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
