"""A whole run for a prompt of each script: the map of a part of the prompt sums exactly the tokens that cover it."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from diffusers import StableDiffusionPipeline

import diffvis_widget as dv
from tests import pipelines
from tests.tracer.reference import assert_stored, probabilities, projections

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
SCRIPTS = {
    "Arabic": (
        "\u0642\u0637\u0629 \u0633\u0648\u062f\u0627\u0621 \u0639\u0644\u0649 \u0627\u0644\u0639\u0634\u0628",
        "\u0633\u0648\u062f\u0627\u0621",
    ),
    "pointed Hebrew": (
        "\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd \u05e2\u05d5\u05dc\u05dd",
        "\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd",
    ),
    "Hindi": ("हिन्दी में काली बिल्ली", "बिल्ली"),
    "Thai": ("แมวดำบนน้ำ", "น้ำ"),
    "Chinese": ("一只黑猫在草地上", "黑猫"),
    "Japanese": ("草の上の猫、カメラ", "カメラ"),
    "Korean": ("풀밭 위의 고양이", "고양이"),
    "composed accents": ("a caf\u00e9 in na\u00efve colours", "caf\u00e9"),
    "decomposed accents": ("a cafe\u0301 in nai\u0308ve colours", "cafe\u0301"),
    "an emoji of three people": (f"a {FAMILY} on grass", FAMILY),
    "capitals that grow": ("\u0130stanbul at NIGHT", "NIGHT"),
}
Pipe = StableDiffusionPipeline


@pytest.fixture(scope="module")
def pipe() -> Pipe:
    made = pipelines.stable_diffusion()
    made.set_progress_bar_config(disable=True)
    return made


def covering(tokenizer: Any, prompt: str, part: str) -> list[int]:
    """Positions of the tokens whose characters overlap the part, by the tokenizer's own offsets."""
    start = prompt.index(part)
    offsets = tokenizer(prompt, return_offsets_mapping=True)["offset_mapping"]
    return [at for at, (first, last) in enumerate(offsets) if first < start + len(part) and start < last]


def traced(pipe: Pipe, prompt: str) -> tuple[dv.Trace, dict[str, Any]]:
    with projections(pipe.unet) as calls:
        trace = dv.trace(pipe, prompt, seed=0, num_inference_steps=1, guidance_scale=1.0)
    return trace, calls


def assert_map_of_tokens(trace: dv.Trace, calls: dict[str, Any], query: str | list[int], tokens: list[int]) -> None:
    for layer in trace.layers:
        shares = probabilities(calls[layer.name][0], layer.heads, 0)[:, :, tokens].sum(axis=2).mean(axis=0)
        assert_stored(trace.heat_map(query, layer=layer.name), shares.reshape(layer.grid), 1e-5 * len(tokens))


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_map_of_a_part_sums_the_tokens_that_cover_it(pipe: Pipe, script: str) -> None:
    prompt, part = SCRIPTS[script]
    trace, calls = traced(pipe, prompt)
    tokens = covering(pipe.tokenizer, prompt, part)
    assert tokens, "the test's own tokenizer finds the part"
    assert_map_of_tokens(trace, calls, part, tokens)
    typed = [word.text for word in trace.words if word.kind == "word"]
    assert "".join(typed) == "".join(prompt.split())


def test_a_composed_word_finds_a_decomposed_one(pipe: Pipe) -> None:
    prompt, part = SCRIPTS["decomposed accents"]
    trace, calls = traced(pipe, prompt)
    assert_map_of_tokens(trace, calls, unicodedata.normalize("NFC", part), covering(pipe.tokenizer, prompt, part))


@pytest.mark.parametrize(
    ("packages", "prompt", "word", "part"),
    [
        (["jieba"], "一只黑猫在草地上", "草地", "草"),
        (["fugashi", "unidic_lite"], "草の上のカメラ", "カメラ", "メ"),
    ],
    ids=["Chinese", "Japanese"],
)
def test_dictionaries_make_words(pipe: Pipe, packages: list[str], prompt: str, word: str, part: str) -> None:
    for package in packages:
        pytest.importorskip(package, reason='the extra "cjk" is not installed: pip install "diffvis-widget[cjk]"')
    trace, calls = traced(pipe, prompt)
    assert word in [entry.text for entry in trace.words]
    tokens = covering(pipe.tokenizer, prompt, word)
    assert_map_of_tokens(trace, calls, word, tokens)
    assert_map_of_tokens(trace, calls, part, tokens)  # a letter has the map of its word
