"""Relevance in transformers, against softmax written out in the graph and matrices of full size, loop by loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diffvis_widget import explain
from diffvis_widget.tracer import Tracer, find_live_call
from diffvis_widget.tracer.locks import own_work
from tests import pipelines_joyimage
from tests.pipelines_dit import FAMILIES
from tests.tracer.families.test_families import build

PROMPT = "a red circle above a blue square"
IMAGE_FIRST = ("sd3", "sd3-unguided")


def find(name: str, **more: Any) -> explain.Relevance:
    arguments = {**FAMILIES[name].arguments, "progress": False, "seed": 1} | more
    return explain.relevance(build(name), PROMPT, **arguments)


def cams(trace: Any, step: int) -> list[np.ndarray]:
    """Of every softmax attention of the prompt's own evaluation, float64 (queries, keys), in order."""
    call, _ = find_live_call(trace)
    module = call.denoiser
    assert module is not None
    evaluation = next(each for each in call.steps[step].evaluations if "prompt" in each.branches)
    matrices: list[Tensor] = []

    def written_out(
        query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *_: Any, **more: Any
    ) -> Tensor:
        scores = query @ key.mT * (more.get("scale") or query.shape[-1] ** -0.5)
        if attn_mask is not None:
            scores = scores.masked_fill(~attn_mask, -1e9) if attn_mask.dtype == torch.bool else scores + attn_mask
        matrices.append(scores.softmax(dim=-1))
        return matrices[-1] @ value

    row = evaluation.branches["prompt"].start
    latents = torch.from_numpy(trace.latents[step][None])
    if len(evaluation.shape) == 3:  # rows of 2 x 2 squares, as FLUX has them
        _, channels, height, width = latents.shape
        squares = latents.view(1, channels, height // 2, 2, width // 2, 2)
        latents = squares.permute(0, 2, 4, 1, 3, 5).reshape(1, height * width // 4, channels * 4)
    arguments: Any = {evaluation.latents: torch.cat([latents] * evaluation.batch).requires_grad_()}
    original = F.scaled_dot_product_attention
    F.scaled_dot_product_attention = written_out
    try:
        with own_work(), torch.enable_grad():
            output = module(**arguments, **evaluation.arguments, return_dict=False)[0][row]
    finally:
        F.scaled_dot_product_attention = original
    channels = trace.latents.shape[1]
    total = (output if len(evaluation.shape) == 3 else output[:channels]).sum()  # PixArt's variance is no part of it
    results: list[np.ndarray] = []
    for shares, slopes in zip(matrices, torch.autograd.grad(total, matrices), strict=True):
        parts = (shares * slopes)[row].double().detach().numpy()
        results.append(np.maximum(parts, 0).sum(axis=0) / len(parts))
    return results


def walked(name: str, matrices: list[np.ndarray], length: int, cells: int) -> np.ndarray:
    """R_iq, float64 (image positions, text positions)."""
    if not any(cam.shape == (length + cells,) * 2 for cam in matrices):
        on_image, on_text = np.eye(cells), np.zeros((cells, length))
        for cam in matrices:
            if cam.shape == (cells, length):
                shares = on_image - np.eye(cells)
                rows = [row / row.sum() if row.sum() > 0 else row for row in shares]
                on_text = on_text + (np.array(rows) + np.eye(cells)).T @ cam
            else:
                assert cam.shape == (cells, cells)
                on_text, on_image = on_text + cam @ on_text, on_image + cam @ on_image
        return on_text
    text = np.arange(length) + (cells if name in IMAGE_FIRST else 0)
    image = np.arange(cells) + (0 if name in IMAGE_FIRST else length)
    both = np.eye(length + cells)
    for cam in matrices:
        if cam.shape == (cells, cells):  # the image alone
            whole = np.zeros_like(both)
            whole[np.ix_(image, image)] = cam
        else:
            assert cam.shape == both.shape
            whole = cam
        both = both + whole @ both
    return both[np.ix_(image, text)]


@pytest.mark.parametrize("name", ["pixart-alpha", "sana", "sd3", "sd3-unguided", "flux", "flux-two-calls"])
def test_against_matrices_of_full_size(name: str) -> None:
    relevance = find(name)
    words = relevance.trace.words
    length = 1 + max(token for word in words for token in word.tokens)
    height, width = relevance.maps.shape[2:]
    assert length != height * width
    for step in range(2):
        expected = walked(name, cams(relevance.trace, step), length, height * width)
        assert expected.max() > 0
        for maps, raw, word in zip(relevance.maps[step], relevance.raw[step], words, strict=True):
            word_relevance = expected[:, list(word.tokens)].sum(axis=1)
            np.testing.assert_allclose(maps.ravel(), word_relevance, rtol=5e-3, atol=1e-3 * expected.max())
            np.testing.assert_allclose(raw, word_relevance.sum(), rtol=5e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["sd3", "pixart-alpha"])
def test_a_reduced_grid_agrees_with_the_full_one(name: str) -> None:
    full, half = find(name), find(name, grid=6)
    height, width = full.maps.shape[2:]
    assert half.maps.shape[2:] == (height // 2, width // 2)
    typed = [index for index, word in enumerate(full.trace.words) if word.kind == "word"]
    # a sum over a quarter of the positions
    np.testing.assert_allclose(4 * half.raw[:, typed], full.raw[:, typed], rtol=0.2)


@pytest.mark.parametrize(
    "name",
    ["flux-kontext", "hunyuan-dit", "qwen", "aura-flow", "lumina2", "z-image", "z-image-omni", "hidream", "omnigen"],
)
def test_other_families_have_relevance_on_their_own_grid(name: str) -> None:
    relevance = find(name)
    typed = [index for index, word in enumerate(relevance.trace.words) if word.kind == "word" and word.tokens]
    assert relevance.maps.shape[2:] == relevance.trace.layers[0].grid
    assert (relevance.raw[:, typed] > 0).all()
    assert np.nanmin(relevance.scaled) == 0
    assert np.nanmax(relevance.scaled) == 1


def test_the_text_may_stand_behind_references() -> None:
    case = pipelines_joyimage.EDITING["joyimage-plus"]
    pipe = case.build()
    with Tracer(pipe) as tracer:
        pipe(**{"prompt": PROMPT, **case.arguments}, generator=torch.Generator().manual_seed(0))
    relevance = explain.relevance_of(pipe, tracer.trace, progress=False)
    typed = [index for index, word in enumerate(tracer.trace.words) if word.kind == "word"]
    assert relevance.maps.shape[2:] == tracer.trace.layers[0].grid
    assert (relevance.raw[:, typed] > 0).all()


def test_a_denoiser_without_words_is_refused() -> None:
    with pytest.raises(ValueError, match="relevance needs attention to words, and none is known in the"):
        find("kandinsky22")
