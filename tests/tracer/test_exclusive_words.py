"""Words outside the prompt that exclude each other compete in their refined maps, against the same computed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from diffvis_widget import scenes
from diffvis_widget.scenes import world
from diffvis_widget.tracer import Tracer
from diffvis_widget.tracer.exclusive_words import COLOURS, OBJECTS, SETTINGS, compete, exclusive_words, find_rivals
from diffvis_widget.traces import Word
from tests import pipelines
from tests.tracer.recorder import recording
from tests.tracer.test_refined import refined_by_hand

PROMPT = "a Green boat at night"
LAYER = "up_blocks.2.attentions.1.transformer_blocks.0"
POWERS = {"Blue": 8, "red": 8, "green": 8}  # all others: 4


def run(pipe: Any, prompt: Any, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return pipe(prompt, num_inference_steps=3, output_type="np", generator=generator).images


@pytest.mark.parametrize(
    "rivals",
    [
        {"red": ["Blue", "Green"], "Blue": ["red", "Green"], "small": []},
        {"green": ["red"], "red": ["green"]},
        {"green": [], "star": ["boat"]},
        {"star": ["Moon", "boat"], "Moon": ["star", "boat"], "sea": ["star", "Moon", "boat", "night"]},
    ],
    ids=lambda rivals: ", ".join(rivals),
)
def test_a_concept_competes_with_those_of_its_kind_and_with_words_of_the_prompt(rivals: dict[str, list[str]]) -> None:
    pipe: Any = scenes.load()
    with recording(pipe.unet) as calls:
        plain = run(pipe, PROMPT)
    with Tracer(pipe) as alone:
        run(pipe, PROMPT)
    with Tracer(pipe, concepts=list(rivals)) as tracer:
        assert np.array_equal(run(pipe, PROMPT), plain)
    trace = tracer.trace
    places = {word.text: index for index, word in enumerate(trace.words)}
    for step, attention in enumerate(calls[f"{LAYER}.attn1"]):
        weights = attention.probabilities(1).astype(np.float64).mean(axis=0)
        stored = trace.records[step].refined
        before = alone.trace.records[step].refined
        assert stored is not None
        assert before is not None
        np.testing.assert_allclose(stored[: len(before)], before, rtol=2e-3, atol=1e-6)
        means = trace.heat_maps(step).astype(np.float64)
        for concept, others in rivals.items():
            colour = concept in POWERS
            maps = trace.heat_maps(step, f"{LAYER}.attn2").astype(np.float64) if colour else means
            heat = means[places[concept]]
            share = maps[places[concept]] / sum(maps[places[other]] for other in (concept, *others))
            won, whole = (weights @ (weights @ values.ravel()) for values in (heat * share, heat))
            without = refined_by_hand(weights, heat[None])[0]
            expected = without * ((won / whole) ** POWERS.get(concept, 4)).reshape(heat.shape)
            expected /= expected.mean()
            measured = stored[places[concept]].astype(np.float64)
            assert np.abs(expected - measured).max() < 1e-2 * expected.max()
            if others and step:  # the maps of pure noise are flat
                assert np.abs(without - measured).max() > 3e-2 * expected.max()


def test_each_image_of_a_batch_has_the_rivals_of_its_own_prompt() -> None:
    pipe: Any = scenes.load()
    prompts = ["a green boat", "a boat at sea"]
    noise = torch.randn(2, 4, 12, 12, generator=torch.Generator().manual_seed(0))
    with Tracer(pipe, concepts=["red"]) as tracer:
        pipe(prompts, latents=noise, num_inference_steps=2, output_type="latent")
    for index, trace in enumerate(tracer.traces):
        with Tracer(pipe, concepts=["red"]) as single:
            pipe(prompts[index], latents=noise[index, None], num_inference_steps=2, output_type="latent")
        expected = single.trace.heat_map("red", 1, kind="refined")
        np.testing.assert_allclose(trace.heat_map("red", 1, kind="refined"), expected, atol=1e-2 * expected.max())


def test_the_frames_of_a_video_compete_with_the_words_of_its_prompt() -> None:
    generator = torch.Generator().manual_seed(0)
    parts = [torch.rand(4, count, 2, 3, generator=generator) for count in (3, 3)]
    last = [torch.rand(4, count, 2, 3, generator=generator) for count in (3, 3)]
    prompts = [["a", "blue", "boat"], ["blue", "BLUE", "night"]]
    concepts = ["red", "star", "pink"]
    rivals = [
        find_rivals((COLOURS, OBJECTS), concepts, [Word(text, (index,), "word") for index, text in enumerate(words)])
        for words in prompts
    ]
    competition = compete(rivals, parts, last, frames=2)
    assert competition.powers.tolist() == [0, 0, 0, 8, 4, 8]
    for row in range(4):
        words = [text.lower() for text in prompts[row // 2]]
        blue = sum(last[0][row, index] for index, text in enumerate(words) if text == "blue")
        total = last[1][row, 0] + last[1][row, 2] + blue
        boat = parts[0][row, 2] if row < 2 else 0.0
        star = parts[1][row, 1]
        expected = [last[1][row, 0] / total, star / (star + boat), last[1][row, 2] / total]
        torch.testing.assert_close(competition.shares[row, 3:], torch.stack(expected))
    assert (competition.shares[:, :3] == 1).all()


def test_only_colours_compete_in_other_models() -> None:
    assert exclusive_words(pipelines.stable_diffusion()) == (COLOURS,)
    words = [Word("boat", (1,), "word"), Word("red", (2,), "truncated")]
    assert find_rivals((COLOURS,), ["star", "blue"], words) == []


def test_the_words_that_compete_are_those_of_the_scenes_world() -> None:
    assert set(world.SHAPES) == OBJECTS.words == SETTINGS.others
    assert set(world.SETTINGS) == SETTINGS.words
    assert set(world.COLOURS) <= COLOURS.words
