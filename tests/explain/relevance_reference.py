"""Relevance the long way: attention matrices kept in the graph, float64, one head and one layer after the other."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor

from diffvis_widget.tracer import find_live_call
from diffvis_widget.traces.resize import resize


def relevance(pipe: Any, trace: Any, step: int) -> np.ndarray:
    """R_iq at one step, float64 (image positions of the finest attention grid, text positions)."""
    embeddings, pooled, text_maps = _text(pipe, trace.prompt)
    call, _ = find_live_call(trace)
    (evaluation,) = call.steps[step].evaluations
    model = copy.deepcopy(pipe.unet).double()
    model.set_attn_processor(AttnProcessor())
    matrices: list[tuple[bool, Tensor]] = []
    for _, module in model.named_modules():
        if hasattr(module, "get_attention_scores"):
            module.get_attention_scores = _keeping(module, matrices)
    arguments: dict[str, Any] = {}
    if pooled is not None:
        ids = evaluation.arguments["added_cond_kwargs"]["time_ids"][-1:]
        arguments["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": ids}
    latents = torch.from_numpy(trace.latents[step][None]).double()
    timestep = evaluation.arguments["timestep"]
    with torch.enable_grad():
        total = model(latents, timestep, embeddings, **arguments, return_dict=False)[0].sum()
    flat = [attention for maps in text_maps for attention in maps] + [probabilities for _, probabilities in matrices]
    gradients = torch.autograd.grad(total, flat, allow_unused=True)
    cams = [_cam(attention, slope) for attention, slope in zip(flat, gradients, strict=True)]
    layers = [len(maps) for maps in text_maps]
    on_text = np.mean([_stack(cams[sum(layers[:i]) : sum(layers[: i + 1])]) for i in range(len(layers))], axis=0)
    image = cams[sum(layers) :]
    finest = round(max(len(cam) for cam in image) ** 0.5)
    return _walk(on_text, [cross for cross, _ in matrices], image, (finest, finest))


def _text(pipe: Any, prompt: str) -> tuple[Tensor, Tensor | None, list[list[Tensor]]]:
    """Embeddings as the pipeline makes them (SD: the last layer's; SDXL: the last but one's), and all attention."""
    parts: list[Tensor] = []
    maps: list[list[Tensor]] = []
    pooled: Tensor | None = None
    two = getattr(pipe, "text_encoder_2", None)
    for encoder, tokenizer in [(pipe.text_encoder, pipe.tokenizer)] + ([(two, pipe.tokenizer_2)] if two else []):
        model = copy.deepcopy(encoder).double()
        model.set_attn_implementation("eager")
        ids = tokenizer(prompt, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
        with torch.enable_grad():
            outputs = model(ids, output_attentions=True, output_hidden_states=True)
        parts.append(outputs.hidden_states[-2] if two else outputs.last_hidden_state)
        maps.append(list(outputs.attentions))
        pooled = getattr(outputs, "text_embeds", None)
    return torch.cat(parts, dim=-1), pooled, maps


def _keeping(module: Any, matrices: list[tuple[bool, Tensor]]) -> Any:
    original = module.get_attention_scores

    def scores(query: Tensor, key: Tensor, mask: Tensor | None = None) -> Tensor:
        probabilities = original(query, key, mask)
        matrices.append((module.is_cross_attention, probabilities))
        return probabilities

    return scores


def _cam(probabilities: Tensor, gradient: Tensor | None) -> np.ndarray:
    """(heads, n, m), or (1, heads, n, m), to (n, m): mean over heads of max(0, gradient * attention)."""
    values = probabilities.detach().numpy()
    slopes = np.zeros_like(values) if gradient is None else gradient.numpy()
    heads = np.maximum(values * slopes, 0).reshape(-1, *values.shape[-2:])
    return heads.sum(axis=0) / len(heads)


def _stack(cams: list[np.ndarray]) -> np.ndarray:
    result = np.eye(len(cams[0]))
    for cam in cams:
        result = result + cam @ result
    return result


def _normalised(matrix: np.ndarray) -> np.ndarray:
    result = np.eye(len(matrix))
    for row in range(len(matrix)):
        added = matrix[row] - np.eye(len(matrix))[row]
        if added.sum() > 0:
            result[row] += added / added.sum()
    return result


def _walk(on_text: np.ndarray, cross: list[bool], cams: list[np.ndarray], grid: tuple[int, int]) -> np.ndarray:
    cells = grid[0] * grid[1]
    on_image, both = np.eye(cells), np.zeros((cells, len(on_text)))
    for is_cross, cam in zip(cross, cams, strict=True):
        halvings = round(np.log2(cells / len(cam)) / 2)
        source = (grid[0] >> halvings, grid[1] >> halvings)
        laid = _on_grid(cam.T, source, grid).T
        if is_cross:
            both = both + _normalised(on_image).T @ (laid @ _normalised(on_text))
        else:
            laid = _on_grid(laid, source, grid) / 4**halvings
            both, on_image = both + laid @ both, on_image + laid @ on_image
    return both


def _on_grid(rows: np.ndarray, source: tuple[int, int], grid: tuple[int, int]) -> np.ndarray:
    """(k, positions) on another grid."""
    maps = resize(rows.reshape(len(rows), *source).astype(np.float32), grid)
    return maps.reshape(len(rows), -1).astype(np.float64)
