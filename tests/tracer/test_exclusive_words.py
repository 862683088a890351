"""Words outside the prompt that exclude each other compete in their refined maps, against the same computed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import diffvis_widget as dv
from diffvis_widget import scenes
from diffvis_widget.scenes import world
from diffvis_widget.tracer import Tracer
from diffvis_widget.tracer.exclusive_words import (
    COLOURS,
    OBJECTS,
    SETTINGS,
    compete,
    compete_in_prompt,
    exclusive_words,
    find_rivals,
    find_rivals_in_prompt,
)
from diffvis_widget.traces import Word
from diffvis_widget.wire.recorded_run import record
from tests import pipelines
from tests.tracer.recorder import recording
from tests.tracer.test_refined import refined_by_hand

PROMPT = "a Green boat at night"
LAYER = "up_blocks.2.attentions.1.transformer_blocks.0"
COLOUR_CONCEPTS = ("Blue", "red", "green")


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
            colour = concept in COLOUR_CONCEPTS
            maps = trace.heat_maps(step, f"{LAYER}.attn2").astype(np.float64) if colour else means
            heat = means[places[concept]]
            share = maps[places[concept]] / sum(maps[places[other]] for other in (concept, *others))
            without = refined_by_hand(weights, heat[None])[0]
            if colour:
                won, whole = (weights @ (weights @ values.ravel()) for values in (heat * share, heat))
                expected = without * ((won / whole) ** 8).reshape(heat.shape)
                expected /= expected.mean()
            elif concept == "sea":
                expected = refined_by_hand(weights, share[None])[0]
            else:
                expected = refined_by_hand(weights, (heat * share**4)[None])[0]
            measured = stored[places[concept]].astype(np.float64)
            assert np.abs(expected - measured).max() < 1e-2 * expected.max()
            if others and step:  # the maps of pure noise are flat
                assert np.abs(without - measured).max() > 3e-2 * expected.max()


@pytest.mark.parametrize("concepts", [[], ["star", "sea", "night"]], ids=str)
def test_a_setting_of_the_prompt_competes_with_its_objects(concepts: list[str]) -> None:
    pipe: Any = scenes.load()
    with recording(pipe.unet) as calls:
        plain = run(pipe, PROMPT)
    with Tracer(pipe, concepts=concepts) as tracer:
        assert np.array_equal(run(pipe, PROMPT), plain)
    trace = tracer.trace
    places = {word.text: index for index, word in enumerate(trace.words) if word.kind == "word"}
    for step, attention in enumerate(calls[f"{LAYER}.attn1"]):
        weights = attention.probabilities(1).astype(np.float64).mean(axis=0)
        means = trace.heat_maps(step).astype(np.float64)
        night, boat = means[places["night"]], means[places["boat"]]
        expected = refined_by_hand(weights, np.stack([night / (night + boat), boat]))
        stored = trace.records[step].refined
        assert stored is not None
        for word, refined in zip(("night", "boat"), expected, strict=True):
            np.testing.assert_allclose(stored[places[word]], refined, atol=1e-2 * refined.max())


def test_the_trace_the_page_and_files_say_which_maps_are_of_shares(tmp_path: Path) -> None:
    pipe: Any = scenes.load()
    with Tracer(pipe, concepts=["star", "sea"]) as tracer:
        run(pipe, PROMPT)
    trace = tracer.trace
    assert trace.meta["refined_shares"] == ["night", "sea"]
    assert record(trace).payload.run.content["shares"] == ["night", "sea"]
    trace.save(tmp_path / "run.safetensors")
    for opened in (trace, dv.open_trace(tmp_path / "run.safetensors")):
        for word in ("night", "sea"):
            description = opened.describe_map(word, kind="refined")
            assert description.is_share
            assert "as a share among the words that the word excludes, refined by" in str(description)
        assert not opened.describe_map("night").is_share
        assert not opened.describe_map("star", kind="refined").is_share
    with Tracer(pipe) as tracer:
        run(pipe, "a green boat")
    assert "refined_shares" not in tracer.trace.meta
    assert "shares" not in record(tracer.trace).payload.run.content


def test_a_setting_alone_keeps_its_map() -> None:
    words = [Word(text, (index,), "word") for index, text in enumerate(("the", "sea", "with", "red"))]
    rivals = [find_rivals_in_prompt((COLOURS, OBJECTS, SETTINGS), words)]
    maps = torch.rand(1, 4, 2, 3, generator=torch.Generator().manual_seed(0))
    assert compete_in_prompt(rivals, maps) is maps


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
    maps, competition = compete(rivals, parts, last, frames=2)
    assert competition.powers.tolist() == [8, 0, 8]
    for row in range(4):
        words = [text.lower() for text in prompts[row // 2]]
        blue = sum(last[0][row, index] for index, text in enumerate(words) if text == "blue")
        total = last[1][row, 0] + last[1][row, 2] + blue
        boat = parts[0][row, 2] if row < 2 else 0.0
        star = parts[1][row, 1]
        torch.testing.assert_close(competition.shares[row, ::2], last[1][row, ::2] / total)
        torch.testing.assert_close(maps[row, 1], star * (star / (star + boat)) ** 4)
    assert (competition.shares[:, 1] == 1).all()
    assert torch.equal(maps[:, ::2], parts[1][:, ::2])


def test_each_frame_of_a_video_has_its_own_share_of_a_setting() -> None:
    maps = torch.rand(4, 3, 2, 3, generator=torch.Generator().manual_seed(0))
    prompts = [["sea", "boat", "a"], ["a", "red", "boat"]]
    rivals = [
        find_rivals_in_prompt((SETTINGS,), [Word(text, (index,), "word") for index, text in enumerate(words)])
        for words in prompts
    ]
    weighted = compete_in_prompt(rivals, maps, frames=2)
    torch.testing.assert_close(weighted[:2, 0], maps[:2, 0] / (maps[:2, 0] + maps[:2, 1]))
    assert torch.equal(weighted[:2, 1:], maps[:2, 1:])
    assert torch.equal(weighted[2:], maps[2:])


def test_only_colours_compete_in_other_models() -> None:
    assert exclusive_words(pipelines.stable_diffusion()) == (COLOURS,)
    words = [Word("boat", (1,), "word"), Word("red", (2,), "truncated")]
    assert find_rivals((COLOURS,), ["star", "blue"], words) == []
    assert find_rivals_in_prompt((COLOURS,), [Word("sea", (1,), "word"), Word("boat", (2,), "word")]) == []


def test_the_words_that_compete_are_those_of_the_scenes_world() -> None:
    assert set(world.SHAPES) == OBJECTS.words == SETTINGS.others
    assert set(world.SETTINGS) == SETTINGS.words
    assert set(world.COLOURS) <= COLOURS.words
