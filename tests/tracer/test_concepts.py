"""Words outside the prompt: the output stays the same, and the maps are those of an attention computed the long way."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from diffvis_widget.files import open_trace
from diffvis_widget.scenes import load as scenes_pipeline
from diffvis_widget.tracer import Tracer
from diffvis_widget.tracer import trace as run
from diffvis_widget.tracer.families import find_family
from diffvis_widget.traces import Trace
from tests import pipelines
from tests.pipelines_joint import CASES
from tests.tracer.families.test_families import build
from tests.tracer.reference import assert_stored, projections

PROMPT = "a red circle above a blue square"
CONCEPTS = ["sky", "green star"]
JOINT = ("sd3", "sd3-unguided", "flux", "flux-two-calls", "flux-schnell")


def hooks_of(module: torch.nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


def concepts_of(trace: Trace) -> dict[str, int]:
    return {word.text: index for index, word in enumerate(trace.words) if word.kind == "concept"}


def call_twice(pipe: Any, **arguments: Any) -> tuple[Any, Trace]:
    """Run with and without concepts: the same image and random state, and every hook comes off."""
    denoiser = find_family(pipe)[1]
    before, attention, results = hooks_of(denoiser), F.scaled_dot_product_attention, []
    tracer = Tracer(pipe, keep="heads", output=find_family(pipe)[0].sequence_layout is not None, concepts=CONCEPTS)
    for traced in (False, True):
        torch.manual_seed(3)
        generator = torch.Generator().manual_seed(5)
        settings = {"prompt": PROMPT, "output_type": "np", **arguments, "generator": generator}
        if traced:
            with tracer:
                images = pipe(**settings).images
        else:
            images = pipe(**settings).images
        results.append((images, torch.get_rng_state(), generator.get_state()))
    assert all(np.array_equal(plain, seen) for plain, seen in zip(*results, strict=True))
    assert hooks_of(denoiser) == before
    assert F.scaled_dot_product_attention is attention
    return pipe, tracer.trace


# -- cross-attention ---------------------------------------------------------------------------------------------------


def shares_by_hand(query: Any, keys: dict[str, Any], tokens: dict[str, list[int]], heads: int) -> np.ndarray:
    """float64 (heads, image tokens, concepts): a softmax over one prompt's keys and the tokens of other concepts."""
    width = query.shape[1] // heads
    result = np.zeros((heads, len(query), len(keys)))
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        for place, row in enumerate(query[:, part]):
            exponentials = {name: np.exp(key[:, part] @ row / np.sqrt(width)) for name, key in keys.items()}
            sums = {name: sum(exponentials[name][token] for token in tokens[name]) for name in keys}
            for index, name in enumerate(keys):
                others = sum(sums[other] for other in keys if other != name)
                result[head, place, index] = sums[name] / (exponentials[name].sum() + others)
    return result


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (pipelines.stable_diffusion, {"guidance_scale": 7.5}),
        (pipelines.stable_diffusion, {"guidance_scale": 1.0}),
        (pipelines.stable_diffusion_xl, {"negative_prompt": "fog"}),
    ],
)
def test_a_unet_gives_the_softmax_over_a_prompt_of_the_concept_and_the_other_concepts(make: Any, settings: Any) -> None:
    pipe = make()
    with projections(pipe.unet) as seen:
        _, trace = call_twice(pipe, num_inference_steps=2, **settings)
    prompts = {text: f"a {text}" for text in CONCEPTS}
    encoded = (
        {text: pipe.encode_prompt(prompt, "cpu", 1, False) for text, prompt in prompts.items()}
        if not hasattr(pipe, "tokenizer_2")
        else {text: pipe.encode_prompt(prompt, None, "cpu", 1, False) for text, prompt in prompts.items()}
    )
    places = concepts_of(trace)
    assert list(places) == CONCEPTS
    # "a", then the words of the concept: the first token starts the text
    tokens = {text: list(range(2, 2 + len(trace.words[places[text]].tokens))) for text in CONCEPTS}
    assert [len(part) for part in tokens.values()] == [len(pipe.tokenizer(text).input_ids) - 2 for text in CONCEPTS]
    for number, layer in enumerate(trace.layers):
        module = pipe.unet.get_submodule(layer.name)
        with torch.no_grad():
            keys = {text: module.to_k(embeddings[0])[0].double().numpy() for text, embeddings in encoded.items()}
        # the two runs follow one another, and the prompt's row is the last one
        for step, call in enumerate(seen[layer.name][len(seen[layer.name]) // 2 :][: len(trace.steps)]):
            expected = shares_by_hand(call["q"][-1].double().numpy(), keys, tokens, layer.heads)
            stored = trace.records[step].maps[number][:, list(places.values())]
            assert_stored(stored.reshape(layer.heads, 2, -1), np.moveaxis(expected, 2, 1), 1e-5)


def test_the_maps_of_the_prompt_do_not_change() -> None:
    plain = run(pipelines.stable_diffusion(), PROMPT, seed=1, num_inference_steps=2)
    trace = run(pipelines.stable_diffusion(), PROMPT, seed=1, num_inference_steps=2, concepts=CONCEPTS)
    count = len(plain.words)
    assert trace.words[:count] == plain.words
    for kind in ("probability", "refined"):
        maps = [part.heat_maps(kind=kind)[:count] for part in (plain, trace)]
        assert np.allclose(*maps, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("slices", [None, 1])
def test_sliced_attention_and_batches(slices: int | None) -> None:
    pipe = pipelines.stable_diffusion()
    if slices:
        pipe.enable_attention_slicing(slices)
    with Tracer(pipe, concepts=CONCEPTS) as tracer:
        pipe([PROMPT, "a dog"], num_inference_steps=2, generator=[torch.Generator().manual_seed(k) for k in (1, 2)])
    for seed, trace in zip((1, 2), tracer.traces, strict=True):
        prompt = trace.prompt
        alone = run(pipelines.stable_diffusion(), prompt, seed=seed, num_inference_steps=2, concepts=CONCEPTS)
        assert [word.text for word in trace.words] == [word.text for word in alone.words]
        assert np.allclose(trace.heat_map("sky"), alone.heat_map("sky"), atol=1e-4)


# -- joint attention ---------------------------------------------------------------------------------------------------


@contextmanager
def seen_blocks(denoiser: Any) -> Iterator[list[tuple[Any, dict[str, Any]]]]:
    """The calls of all blocks, as they were made."""
    calls: list[tuple[Any, dict[str, Any]]] = []

    def note(module: Any, args: Any, kwargs: Any) -> None:
        bound = inspect.signature(module.forward).bind(*args, **kwargs)
        calls.append((module, dict(bound.arguments)))

    blocks = [module for module in denoiser.modules() if hasattr(module, "attn")]
    handles = [block.register_forward_pre_hook(note, with_kwargs=True) for block in blocks]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def seen_attention() -> Iterator[list[tuple[torch.Tensor, ...]]]:
    original, calls = F.scaled_dot_product_attention, []

    def note(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        output = original(query, key, value, *args, **kwargs)
        calls.append((query, key, output))
        return output

    F.scaled_dot_product_attention = note
    try:
        yield calls
    finally:
        F.scaled_dot_product_attention = original


def stream_by_hand(pipe: Any, calls: list[Any], row: int, tokens: torch.Tensor, text: int) -> Iterator[Any]:
    """What each block itself makes of the concepts in the place of the text: they attend to themselves and the image.

    Yields keys and attention outputs of the concepts, (heads, n, width) each.
    """
    image_first = "SD3" in type(pipe.transformer).__name__
    tokens = pipe.transformer.context_embedder(tokens)[None]
    count = tokens.shape[1]
    for block, arguments in calls:
        kwargs = {name: value for name, value in arguments.items() if name not in ("image_rotary_emb", "temb")}
        kwargs |= {"hidden_states": arguments["hidden_states"][row : row + 1], "encoder_hidden_states": tokens}
        kwargs["temb"] = arguments["temb"][row : row + 1]
        if (rotary := arguments.get("image_rotary_emb")) is not None:
            kwargs["image_rotary_emb"] = tuple(torch.cat([part[:count], part[text:]]) for part in rotary)
        with torch.no_grad(), seen_attention() as attention:
            tokens, _ = block(**kwargs)
        _, key, output = attention[0]  # a dual block's second attention is the image's alone
        place = slice(key.shape[2] - count, None) if image_first else slice(0, count)
        yield key[0, :, place].double().numpy(), output[0, :, place].double().numpy()


@pytest.mark.parametrize("name", JOINT)
def test_a_concept_stream_is_what_the_blocks_make_of_it_in_the_place_of_the_text(name: str) -> None:
    pipe = build(name)
    arguments = CASES[name].arguments
    with seen_blocks(pipe.transformer) as blocks, seen_attention() as attention:
        pipe(prompt=PROMPT, **arguments, generator=torch.Generator().manual_seed(5))
    pipe, trace = call_twice(pipe, **arguments)
    layers = len(trace.layers)
    guided = {"batch": 1, "two calls": 0, "embedded": 0, "none": 0}[CASES[name].guided]
    sequences = 2 if CASES[name].guided == "two calls" else 1
    places = concepts_of(trace)
    words = [trace.words[place] for place in places.values()]
    counts = [len(word.tokens) for word in words]
    if "flux" in name:
        encoded = pipe.encode_prompt(list(CONCEPTS), device="cpu")[0]
    else:
        encoded = pipe.encode_prompt(list(CONCEPTS), None, None, "cpu", do_classifier_free_guidance=False)[0]
    offset = 77 + 256 - encoded.shape[1] if "sd3" in name else 0
    assert offset == 0
    rows = []
    for index, text in enumerate(CONCEPTS):
        if "flux" in name:
            positions = list(range(counts[index]))
        else:  # behind the start token of CLIP, and at the beginning of T5
            clip = len(pipe.tokenizer(text).input_ids) - 2
            positions = [*range(1, 1 + clip), *range(77, 77 + counts[index] - clip)]
        rows.append(encoded[index, positions])
    words_before = max(token for word in trace.words if word.kind != "concept" for token in word.tokens) + 1
    wide = [call for call in attention if call[0].shape[2] > 96]  # dual attention sees the 96 image tokens alone
    for step in range(len(trace.steps)):
        start = step * sequences * layers
        stream = stream_by_hand(pipe, blocks[start : start + layers], guided, torch.cat(rows), words_before)
        for index, (keys, outputs) in enumerate(stream):
            query, key, output = (part[guided].double().numpy() for part in wide[start + index])
            image = slice(words_before, None) if "flux" in name else slice(0, 96)
            width = query.shape[-1]
            scores = np.exp(query[:, image] @ keys.transpose(0, 2, 1) / np.sqrt(width))
            total = np.exp(query[:, image] @ key.transpose(0, 2, 1) / np.sqrt(width)).sum(-1) + scores.sum(-1)
            ends = np.cumsum(counts)
            for concept, place in enumerate(places.values()):
                part = slice(ends[concept] - counts[concept], ends[concept])
                expected = scores[..., part].sum(-1) / total
                stored = trace.records[step].maps[index][:, place].reshape(expected.shape)
                assert_stored(stored, expected, 1e-5)
                scored = trace.records[step].outputs
                assert scored is not None
                products = (output[:, image] * outputs[:, part].mean(axis=1)[:, None]).sum(-1) / width
                assert_stored(scored[index][:, place].reshape(products.shape), products, 1e-4)


# -- the trace ---------------------------------------------------------------------------------------------------------


@functools.cache
def recorded() -> Trace:
    return run(pipelines.stable_diffusion(), PROMPT, seed=1, num_inference_steps=2, concepts=[*CONCEPTS, "circle"])


def test_concepts_are_words_of_the_trace() -> None:
    trace = recorded()
    places = concepts_of(trace)
    assert trace.heat_map("sky").max() <= 1
    assert np.array_equal(trace.heat_map("SKY"), trace.heat_map(places["sky"]))
    assert np.array_equal(trace.heat_map("green star"), trace.heat_map(places["green star"]))
    # a word of the prompt comes first; the concept of the same text has its index
    assert not np.array_equal(trace.heat_map("circle"), trace.heat_map(places["circle"]))
    assert abs(trace.heat_map("sky", kind="refined").mean() - 1) < 1e-2
    share = trace.heat_map("sky", kind="refined", among=["sky", "circle"])
    assert share.min() >= 0
    assert share.max() <= 1
    with pytest.raises(KeyError, match="its concepts are: 'sky', 'green star'"):
        trace.heat_map("moon")


def test_maps_of_the_prompt_are_those_of_a_run_without_concepts() -> None:
    plain, beside = (
        run(scenes_pipeline(), PROMPT, seed=7, num_inference_steps=6, concepts=concepts) for concepts in ((), CONCEPTS)
    )
    for step in range(6):
        for kind in ("probability", "refined"):
            alone, maps = (trace.heat_maps(step=step, kind=kind) for trace in (plain, beside))
            np.testing.assert_array_equal(alone, maps[: len(alone)])


@pytest.mark.parametrize("keep", ["words", "layers", "heads"])
def test_files_hold_them(keep: Any, tmp_path: Path) -> None:
    trace = run(pipelines.stable_diffusion(), PROMPT, seed=1, num_inference_steps=2, concepts=CONCEPTS, keep=keep)
    opened = open_trace(trace.save(tmp_path / "run.safetensors"))
    assert opened.words == trace.words
    for kind in ("probability", "refined"):
        assert np.array_equal(opened.heat_map("sky", kind=kind), trace.heat_map("sky", kind=kind))
    compact = open_trace(trace.save(tmp_path / "small.diffvis", compact=True))
    assert [word.kind for word in compact.words if word.text in CONCEPTS] == ["concept", "concept"]


def test_a_family_without_is_refused_before_the_run() -> None:
    pipe = build("qwen")
    with pytest.raises(ValueError, match="concepts: maps of words outside the prompt are not known for the Qwen-Image"):
        Tracer(pipe, concepts=["sky"])


@pytest.mark.parametrize(
    ("concepts", "error", "message"),
    [
        ("sky", TypeError, "concepts must be a list of words"),
        ([1], TypeError, "concepts must be a list of words"),
        ([" "], ValueError, "concepts must be texts of 1 to 80 characters"),
        (["x" * 81], ValueError, "concepts must be texts of 1 to 80 characters"),
        ([str(number) for number in range(65)], ValueError, "concepts must be at most 64 texts, not 65"),
    ],
)
def test_wrong_lists_are_refused(concepts: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Tracer(pipelines.stable_diffusion(), concepts=concepts)


def test_repeated_concepts_count_once() -> None:
    trace = run(pipelines.stable_diffusion(), "a dog", seed=1, num_inference_steps=1, concepts=["sky", " sky "])
    assert list(concepts_of(trace)) == ["sky"]
