"""Relevance against attention matrices kept in the graph, the rules in closed form, and what it costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor

from diffvis_widget import explain
from diffvis_widget.explain import attention_gradients as attention
from diffvis_widget.explain import relevance_pass
from diffvis_widget.explain import relevance_rules as walk
from diffvis_widget.tracer import trace
from tests import pipelines
from tests.explain import relevance_reference

PROMPT = "a red circle above a blue square"


@pytest.mark.parametrize("build", [pipelines.stable_diffusion, pipelines.stable_diffusion_xl])
def test_against_matrices_kept_in_the_graph(build: Any) -> None:
    pipe = build()
    relevance = explain.relevance(pipe, PROMPT, seed=1, num_inference_steps=2, progress=False)
    words = relevance.trace.words
    assert relevance.raw.shape == (2, len(words))
    assert relevance.raw.dtype == relevance.scaled.dtype == np.float32
    for step in range(2):
        tokens = relevance_reference.relevance(pipe, relevance.trace, step)
        expected = np.stack([tokens[:, list(word.tokens)].sum(axis=1) for word in words])
        np.testing.assert_allclose(relevance.raw[step], expected.sum(axis=1), rtol=2e-3)
        maps = relevance.maps[step].reshape(len(words), -1)
        np.testing.assert_allclose(maps, expected, rtol=1e-2, atol=2e-3 * expected.max())


def test_curves_are_scaled_over_the_typed_words_of_a_step() -> None:
    relevance = explain.relevance(
        pipelines.stable_diffusion(), "a triangle, a red circle", seed=1, num_inference_steps=2, progress=False
    )
    typed = np.array([word.kind == "word" for word in relevance.trace.words])
    assert np.isnan(relevance.scaled[:, ~typed]).all()
    for raw, scaled in zip(relevance.raw[:, typed], relevance.scaled[:, typed], strict=True):
        np.testing.assert_allclose(scaled, (raw - raw.min()) / (raw.max() - raw.min()), atol=1e-6)
    np.testing.assert_allclose(relevance.scores, relevance.scaled.sum(axis=0))


def test_the_run_that_was_made_keeps_it_and_a_given_one_is_left_alone() -> None:
    pipe = pipelines.stable_diffusion()
    relevance = explain.relevance(pipe, PROMPT, seed=1, num_inference_steps=2, progress=False)
    (stored,) = relevance.trace.relevance
    assert stored.schedule == "uniform"
    np.testing.assert_array_equal(stored.timesteps, relevance.trace.timesteps)
    np.testing.assert_array_equal(stored.raw, relevance.raw)
    np.testing.assert_array_equal(stored.scaled(relevance.trace.words), relevance.scaled)
    np.testing.assert_array_equal(stored.maps, relevance.maps)
    again = explain.relevance_of(pipe, relevance.trace, progress=False)
    assert len(relevance.trace.relevance) == 1
    np.testing.assert_array_equal(again.stored.raw, stored.raw)


def test_words_that_were_cut_off_have_none() -> None:
    prompt = "red " * 80 + "circle"
    relevance = explain.relevance(pipelines.stable_diffusion(), prompt, seed=1, num_inference_steps=1, progress=False)
    lost = np.array([word.kind == "truncated" for word in relevance.trace.words])
    assert lost.any()
    assert np.isnan(relevance.raw[:, lost]).all()
    assert np.isfinite(relevance.raw[:, ~lost]).all()


def test_a_reduced_grid_agrees_with_the_full_one() -> None:
    pipe = pipelines.stable_diffusion()
    full = explain.relevance(pipe, PROMPT, seed=1, num_inference_steps=2, progress=False)
    half = explain.relevance(pipe, PROMPT, seed=1, num_inference_steps=2, grid=8, progress=False)
    # a sum over a quarter of the positions
    np.testing.assert_allclose(4 * half.raw, full.raw, rtol=0.1)
    np.testing.assert_allclose(half.scaled, full.scaled, atol=0.1)


def test_one_pass_over_the_run() -> None:
    pipe = pipelines.stable_diffusion()
    calls: list[int] = []
    handle = pipe.unet.register_forward_pre_hook(lambda module, args: calls.append(len(args[0])) if args else None)
    counted = pipe.unet.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(len(kwargs["sample"])) if "sample" in kwargs else None,
        with_kwargs=True,
    )
    reports: list[tuple[int, int]] = []
    explain.relevance(
        pipe, PROMPT, seed=1, num_inference_steps=4, progress=lambda done, total: reports.append((done, total))
    )
    handle.remove()
    counted.remove()
    # the run, one check that the model still answers alike, and one row with its gradient per step, all in one batch
    assert calls == [2] * 4 + [2] + [4]
    assert reports == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("build", [pipelines.stable_diffusion, pipelines.stable_diffusion_xl])
def test_steps_in_a_batch_are_those_one_by_one(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = build()
    made = trace(pipe, PROMPT, seed=1, num_inference_steps=5)
    by_batch: dict[int, explain.Relevance] = {}
    for rows in (1, 2, 5):
        monkeypatch.setattr(relevance_pass, "_ROWS", rows)
        by_batch[rows] = explain.relevance_of(pipe, made, progress=False)
    for rows in (2, 5):
        np.testing.assert_allclose(by_batch[rows].maps, by_batch[1].maps, rtol=1e-3, atol=1e-5 * by_batch[1].maps.max())


def test_arguments_of_rows_become_those_of_a_batch_or_are_refused() -> None:
    first, two = torch.ones(1, 3), torch.zeros(1, 3)
    rows = [{"t": torch.tensor(9), "text": part, "more": [part, None], "scale": 1.0} for part in (first, two)]
    joined = relevance_pass.merge_arguments(rows)
    assert joined["t"].tolist() == [9, 9]
    assert joined["text"].tolist() == joined["more"][0].tolist() == [[1, 1, 1], [0, 0, 0]]
    assert joined["more"][1] is None
    assert joined["scale"] == 1.0
    for wrong in ({"scale": 2.0}, {"text": torch.zeros(1, 4)}, {"text": torch.zeros(2, 3)}, {"more": [first]}):
        assert relevance_pass.merge_arguments([rows[0] | wrong, rows[1]]) is None
        assert relevance_pass.merge_arguments([rows[0], rows[1] | wrong]) is None


@pytest.mark.parametrize("frozen", [True, False])
def test_it_leaves_nothing_behind(frozen: bool) -> None:
    pipe = pipelines.stable_diffusion()
    for part in (pipe.unet, pipe.text_encoder):
        part.requires_grad_(not frozen)
    pipe.text_encoder.set_attn_implementation("eager")
    kernel = F.scaled_dot_product_attention
    relevance = explain.relevance(pipe, PROMPT, seed=1, num_inference_steps=1, progress=False)
    assert (relevance.raw > 0).all()
    assert F.scaled_dot_product_attention is kernel
    assert pipe.text_encoder.config._attn_implementation == "eager"
    for part in (pipe.unet, pipe.text_encoder):
        assert all(parameter.grad is None for parameter in part.parameters())
        assert not any(child._forward_hooks or child._forward_pre_hooks for child in part.modules())


def test_bad_input() -> None:
    pipe = pipelines.stable_diffusion()
    with pytest.raises(TypeError, match="prompt must be one text, not list"):
        explain.relevance(pipe, ["a", "b"])  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="grid must be an integer from 1 to 4096, not 0"):
        explain.relevance(pipe, PROMPT, grid=0)
    with pytest.raises(TypeError, match="takes no guidance_scal="):
        explain.relevance(pipe, PROMPT, guidance_scal=3)
    pipe.unet.set_attn_processor(AttnProcessor())
    with pytest.raises(ValueError, match=r"no attention to words was seen.*set_default_attn_processor"):
        explain.relevance(pipe, PROMPT, num_inference_steps=1)


# -- the rules ---------------------------------------------------------------------------------------------------------


def test_normalised_rows() -> None:
    relevance = torch.tensor([[1.0, 0.0, 0.0], [1.0, 2.0, 2.0], [0.0, 3.0, 1.0]])
    expected = [[1, 0, 0], [0.25, 1.25, 0.5], [0, 1, 1]]
    np.testing.assert_allclose(walk.normalised(relevance), expected)


def test_a_walk_by_hand() -> None:
    """Cross, self, cross on two positions and two words, worked out on paper."""
    state = walk.ImageText((1, 2), torch.eye(2))
    state.cross_layer(torch.tensor([[0.2, 0.0], [0.0, 0.4]]))
    np.testing.assert_allclose(state.on_text, [[0.2, 0], [0, 0.4]])
    state.self_layer(torch.tensor([[0.0, 0.5], [0.0, 0.0]]))
    np.testing.assert_allclose(state.on_text, [[0.2, 0.2], [0, 0.4]])
    np.testing.assert_allclose(state.on_image, [[1, 0.5], [0, 1]])
    state.cross_layer(torch.tensor([[0.1, 0.0], [0.0, 0.1]]))
    # norm(R_ii) = [[1, 1], [0, 1]]; transposed, the second position also gets what the first looked at
    np.testing.assert_allclose(state.on_text, [[0.3, 0.2], [0.1, 0.5]], atol=1e-7)


def test_resizing_keeps_the_sums_of_rows() -> None:
    shares = torch.rand(3, 16, generator=torch.Generator().manual_seed(0))
    for target in ((8, 8), (2, 2), (4, 4)):
        resized = walk.resized_keys(shares, (4, 4), target)
        assert resized.shape == (3, target[0] * target[1])
        np.testing.assert_allclose(resized.sum(dim=1), shares.sum(dim=1), rtol=1e-5)
    np.testing.assert_allclose(walk.resized(torch.arange(4.0)[:, None], (2, 2), (1, 1)), [[1.5]])


@pytest.mark.parametrize("case", ["plain", "causal", "boolean", "additive", "grouped"])
def test_cams_against_autograd(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Softmax written out, its gradient by autograd; also in chunks of two rows."""
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(1, 4, 5, 3, generator=generator)
    k, v = (torch.randn(1, 2 if case == "grouped" else 4, 5, 3, generator=generator) for _ in range(2))
    weights = torch.randn(1, 4, 5, 3, generator=generator)
    options: dict[str, Any] = {"scale": 0.7}
    hidden = torch.zeros(5, 5)
    if case == "causal":
        options["is_causal"] = True
        hidden = torch.full((5, 5), -torch.inf).triu(1)
    elif case == "boolean":
        options["attn_mask"] = torch.tensor([True, True, False, True, True]).expand(1, 1, 5, 5)
        hidden = torch.where(options["attn_mask"][0, 0], 0.0, -torch.inf)
    elif case == "additive":
        options["attn_mask"] = hidden = torch.randn(5, 5, generator=generator)
        options["attn_mask"] = hidden[None, None]
    elif case == "grouped":
        options["enable_gqa"] = True

    class Site(torch.nn.Module):
        def forward(self, query: torch.Tensor) -> torch.Tensor:
            return F.scaled_dot_product_attention(query, k, v, **options)

    module = Site()
    with attention.recording_attention({"site": module}) as recording:
        F.scaled_dot_product_attention(q, k, v, **options)  # outside of the site
        total = (module(q) * weights).sum()
    (call,) = recording
    (slope,) = torch.autograd.grad(total, [call.output])
    whole_k, whole_v = (part.repeat_interleave(4 // part.shape[1], dim=1) for part in (k, v))
    shares = (q @ whole_k.mT * 0.7 + hidden).softmax(dim=-1).requires_grad_()
    (gradient,) = torch.autograd.grad((shares @ whole_v * weights).sum(), [shares])
    expected = (gradient * shares).clamp_min(0).mean(dim=1)[0].detach()
    np.testing.assert_allclose(call.cam(slope), expected, atol=1e-6)
    monkeypatch.setattr(attention, "_CHUNK", 2 * 4 * 5)
    np.testing.assert_allclose(call.cam(slope), expected, atol=1e-6)
    np.testing.assert_allclose(call.cam(slope, lambda rows: rows[:, :2]), expected[:, :2], atol=1e-6)
    assert call.cam(None).abs().max() == 0


def test_a_run_of_one_word_and_one_step() -> None:
    pipe = pipelines.stable_diffusion()
    relevance = explain.relevance(pipe, "circle", seed=1, num_inference_steps=1, progress=False)
    index = next(i for i, word in enumerate(relevance.trace.words) if word.kind == "word")
    assert relevance.raw[0, index] > 0
    assert relevance.scaled[0, index] == 0  # nothing to compare it with
    assert np.array_equal(relevance.trace.latents, trace(pipe, "circle", seed=1, num_inference_steps=1).latents)
