"""GLM-Image: maps of the letters of quoted text, which are all that its denoiser is given of a prompt."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch

import diffvis_widget as dv
from diffvis_widget.traces import Trace
from tests.pipelines_glm_image import SIZE, glm_image
from tests.tiny_parts import random_image
from tests.tracer.recorder import Attention, recording
from tests.tracer.reference import assert_stored

# prompt -> the words that the denoiser is given, with the positions of their letters
PROMPTS = {
    "A sign that says 'OPEN'": {"OPEN": (0, 1, 2, 3)},
    "A shop 'OPEN' at \"9 am\"": {"OPEN": (1, 2, 3, 4), "9": (7,), "am": (8, 9, 10)},  # padding before both
    "Doors 'A' \u201cBC\u201d and 「D」": {"A": (0,), "BC": (2, 3), "D": (5,)},
}
LAYERS = ["transformer_blocks.0.attn1", "transformer_blocks.1.attn1"]


@functools.cache
def build() -> Any:
    return glm_image()


def call(prompt: Any, **more: Any) -> np.ndarray:
    rows = 1 if isinstance(prompt, str) else len(prompt)
    arguments = {**SIZE, "prior_token_ids": SIZE["prior_token_ids"].repeat(rows, 1), "output_type": "np", **more}
    return build()(prompt, generator=torch.Generator().manual_seed(1), **arguments).images


def traces_of(prompt: Any, **more: Any) -> tuple[np.ndarray, list[Trace]]:
    with dv.Tracer(build(), keep="heads", output=True) as tracer:
        images = call(prompt, **more)
    return images, tracer.traces


def tokens_of(trace: Trace) -> dict[str, tuple[int, ...]]:
    return {word.text: word.tokens for word in trace.words if word.kind == "word"}


def of_prompt(calls: dict[str, list[Attention]], layer: str) -> list[Attention]:
    """The evaluations of the prompt: each step evaluates it first, then the empty one."""
    return calls[layer][::2]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_image_is_the_same_and_the_maps_are_exact(prompt: str) -> None:
    with recording(build().transformer) as calls:
        plain = call(prompt)
    images, (trace,) = traces_of(prompt)
    assert np.array_equal(plain, images)
    assert trace.typed_prompt == prompt
    assert trace.prompt == " ".join(" ".join(PROMPTS[prompt]).split())
    assert tokens_of(trace) == PROMPTS[prompt]
    assert [layer.name for layer in trace.layers] == LAYERS
    length = 1 + max(token for word in trace.words for token in word.tokens)
    for index, layer in enumerate(trace.layers):
        for step, attention in enumerate(of_prompt(calls, layer.name)):
            assert attention.key.shape[2] == length + 8 * 12
            shares, outputs = attention.probabilities(0)[:, length:], attention.outputs(0)
            stored = trace.records[step].outputs
            assert stored is not None
            for place, word in enumerate(trace.words):
                expected = shares[:, :, list(word.tokens)].sum(axis=-1).reshape(-1, *layer.grid)
                assert_stored(trace.records[step].maps[index][:, place], expected, 1e-5)
                vector = outputs[:, list(word.tokens)].mean(axis=1)
                scores = np.einsum("hpc,hc->hp", outputs[:, length:], vector) / vector.shape[-1]
                assert_stored(stored[index][:, place], scores.reshape(-1, *layer.grid), 1e-5)
    assert np.abs(trace.frames("prediction")[-1].astype(int) - trace.decoded_image).mean() < 4


def test_a_change_of_a_letter_changes_its_key() -> None:
    prompt = "A shop 'OPEN' at \"9 am\""
    before = _first_keys(prompt, None)
    for token in (1, 7, 10):
        changed = (_first_keys(prompt, token) != before).any(dim=2).any(dim=0).nonzero()[:, 0].tolist()
        assert changed == [token]


def _first_keys(prompt: str, position: int | None) -> torch.Tensor:
    def disturb(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        text = kwargs["encoder_hidden_states"].clone()
        if position is not None and text.shape[1] > position:
            text[:, position] += 1.0
        return args, {**kwargs, "encoder_hidden_states": text}

    handle = build().transformer.register_forward_pre_hook(disturb, with_kwargs=True)
    try:
        with recording(build().transformer) as calls:
            call(prompt)
    finally:
        handle.remove()
    return of_prompt(calls, LAYERS[0])[0].key[0]


def test_shorter_rows_of_a_batch_are_padded_in_front() -> None:
    """The padding takes part in attention."""
    _, (first, second) = traces_of(["A sign 'GO'", "A sign 'OPEN'"])
    assert tokens_of(first) == {"GO": (2, 3)}
    assert tokens_of(second) == {"OPEN": (0, 1, 2, 3)}
    assert [word.tokens for word in first.words if word.kind == "padding"] == [(0, 1)]


def test_a_prompt_without_quotes_has_no_words() -> None:
    images, (trace,) = traces_of("a red circle")
    assert np.array_equal(images, call("a red circle"))
    assert trace.typed_prompt == "a red circle"
    assert tokens_of(trace) == {}


def test_words_are_dropped_and_weighted_by_their_letters() -> None:
    prompt = "A shop 'OPEN' at \"9 am\""
    plain = call(prompt)
    with dv.intervene.on(build(), dv.intervene.drop("OPEN")):
        dropped = call(prompt)
    assert np.abs(dropped - plain).max() > 1e-5
    with dv.Tracer(build(), interventions=[dv.intervene.drop("OPEN")]) as tracer:
        call(prompt)
    assert tracer.trace.heat_map("OPEN").max() == 0
    assert tracer.trace.heat_map("am").max() > 0


def test_places_and_the_denoiser() -> None:
    _, (trace,) = traces_of("A sign that says 'OPEN'")
    probe = dv.denoiser(trace, -1)
    np.testing.assert_allclose(probe.clean(probe.latents, probe.output)[0], trace.predictions[-1], atol=1e-3)
    image = trace.attention_from((0.3, 0.7), 1)
    words = trace.attention_rows((0.3, 0.7), 1)[0].words
    assert image.shape == (8, 12)
    np.testing.assert_allclose(trace.attention_from((0.3, 0.7), 1, 0).sum() + words.sum(), 1, atol=1e-5)


def test_images_are_refused_with_the_reason() -> None:
    with pytest.raises(RuntimeError, match=r"GLM-Image with images is not traced.*pass no image"):
        dv.trace(build(), "A sign 'GO'", seed=1, image=[random_image(32, 48)], **SIZE)
