"""Each model family, built small from its real classes: the image unchanged, the maps exact, the words right."""

from __future__ import annotations

import functools
import inspect
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from diffvis_widget.tracer import Tracer
from diffvis_widget.tracer.families import find_family
from diffvis_widget.tracer.packing import pack
from diffvis_widget.traces import Trace, Word
from tests.pipelines_dit import FAMILIES
from tests.tiny_parts import Case
from tests.tracer.recorder import Attention, recording
from tests.tracer.reference import assert_stored

PROMPT = "A tiny red circle, above a blue square"
TYPED = ["A", "tiny", "red", "circle", ",", "above", "a", "blue", "square"]
UNKNOWN = ("kandinsky22",)
TRACED = [name for name in FAMILIES if name not in UNKNOWN]
JOINT = [
    *("sd3", "flux", "flux-two-calls", "chroma", "qwen", "aura-flow", "lumina2", "z-image", "hidream"),
    *("flux2", "flux2-klein", "krea2", "prx", "if"),
    *("qwen-2.1", "qwen-2.1-uncached", "ernie-image", "hunyuan-image", "longcat-image", "bria", "fibo"),
    *("nucleus-moe", "ideogram4", "prx-pixel", "cogview3", "cogview4", "cogview4-control", "ovis", "joyimage"),
    *("z-image-turbo", "z-image-omni", "z-image-img2img", "z-image-controlnet", "z-image-controlnet-inpaint"),
    *("sd3-unguided", "sd3-img2img", "sd3-inpaint", "sd3-pag", "sd3-controlnet", "qwen-img2img", "qwen-controlnet"),
    *("flux-schnell", "flux-img2img", "flux-inpaint", "flux-kontext", "flux-controlnet", "flux-control"),
    *("flux2-klein-distilled", "omnigen"),
]
REFINED = (
    "lumina2",
    *(name for name in JOINT if name.startswith("z-image")),
    "krea2",
    "hunyuan-image",
)  # the text goes through blocks of its own before it meets the image
POOLED = ("if",)  # a mean over the text modulates the image


@functools.cache
def build(name: str) -> Any:
    """One pipeline per family for all tests: what a test leaves changed, the next would notice."""
    return FAMILIES[name].build()


def call(name: str, pipe: Any, **more: Any) -> Any:
    arguments = {"prompt": PROMPT, "output_type": "np"} | FAMILIES[name].arguments | more
    torch.manual_seed(0)  # some encode a control image without the call's generator
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # diffusers and transformers on their own deprecations
        output = pipe(**arguments, generator=torch.Generator().manual_seed(1))
    return np.asarray(output.image if name == "kandinsky5" else output.images)


def trace_of(name: str, keep: Any = "layers", **more: Any) -> tuple[np.ndarray, Tracer]:
    pipe = build(name)
    with Tracer(pipe, keep=keep) as tracer:
        images = call(name, pipe, **more)
    return images, tracer


def prompt_row(name: str, attention: Attention) -> int:
    """Which row of a batch of one image carries the prompt: the last, or the first; PAG repeats it."""
    negative_first = find_family(build(name))[0].negative_first
    return len(attention.query) - (2 if name.endswith("pag") else 1) if negative_first else 0


def per_step(case: Case, calls: list[Attention], steps: int) -> list[Attention]:
    """The prompt's own evaluation of each step. Guided by two calls, pipelines make it first."""
    each = len(calls) // steps
    assert each * steps == len(calls)
    assert each == (2 if case.guided == "two calls" else 1)
    return calls[::each]


def split(name: str, trace: Trace, attention: Attention) -> tuple[slice, slice]:
    """Where text and image lie in this attention's keys and queries, by the family's own entry."""
    family, _ = find_family(build(name))
    text = 1 + max(position for word in trace.words for position in word.tokens)
    if family.sequence_layout is None:
        return slice(0, text), slice(0, attention.query.shape[2])
    height, width = trace.layers[0].grid
    places = family.sequence_layout(attention.key.shape[2], text, height * width)
    assert places is not None
    return places


def reaches_the_image(name: str, trace: Trace, attention: Attention) -> bool:
    """Whether text and image are keys: Qwen-Image 2.1 has calls of the text alone before."""
    return not name.startswith("qwen-2.1") or attention.key.shape[2] > trace.layers[0].grid[0] * trace.layers[0].grid[1]


@pytest.mark.parametrize("name", TRACED)
def test_the_image_is_the_same_and_the_maps_are_exact(name: str) -> None:
    assert_same_image_and_exact_maps(name)


def assert_same_image_and_exact_maps(name: str, tolerance: float = 1e-5) -> None:
    pipe = build(name)
    _, denoiser = find_family(pipe)
    with recording(denoiser) as calls:
        plain = call(name, pipe)
    images, tracer = trace_of(name, keep="heads")
    trace = tracer.trace
    assert np.array_equal(plain, images)
    assert trace.layers
    for index, layer in enumerate(trace.layers):
        seen = calls[layer.name]
        if name == "ip-adapter":
            seen = seen[::2]  # each text attention is followed by the image's
        seen = [attention for attention in seen if reaches_the_image(name, trace, attention)]
        for step, attention in enumerate(per_step(FAMILIES[name], seen, len(trace.steps))):
            shares = attention.probabilities(prompt_row(name, attention))
            text, image = split(name, trace, attention)
            image = image if attention.query.shape[2] == attention.key.shape[2] else slice(None)
            stored = trace.records[step].maps[index]
            for place, word in enumerate(trace.words):
                if word.kind == "padding" and layer.kind == "joint":
                    assert np.isnan(stored[:, place]).all()
                    continue
                columns = shares[:, image, text][:, :, list(word.tokens)]
                if find_family(pipe)[0].side_by_side:  # a grid twice as wide, of which the image is the left half
                    height, width = layer.grid
                    columns = columns.reshape(len(columns), height, 2, width, -1)[:, :, 0].reshape(
                        len(columns), height * width, -1
                    )
                assert_stored(stored[:, place], columns.sum(axis=-1).reshape(-1, *layer.grid), tolerance)


@pytest.mark.parametrize("name", TRACED)
def test_words_and_images(name: str) -> None:
    _, tracer = trace_of(name)
    trace = tracer.trace
    streams = {word.encoder for word in trace.words}
    for stream in streams:
        typed = [word.text for word in trace.words if word.kind == "word" and word.encoder == stream]
        assert "".join(typed) == "".join(TYPED)
        assert {"red", "circle", "blue", "square"} <= {text.strip(",") for text in typed}
    positions = [position for word in trace.words for position in word.tokens]
    assert sorted(positions) == list(range(len(positions)))
    assert trace.heat_map("blue square").min() >= 0
    assert trace.heat_map("blue square").max() <= 1
    assert trace.latents.shape[1:] == trace.predictions.shape[1:]
    assert (trace.guidance is None) == (FAMILIES[name].guided in ("embedded", "none"))
    frames = trace.frames("prediction")
    assert frames.shape[1:] == trace.decoded_image.shape
    # the last prediction is, but for the last step's arithmetic, what is painted; not so where a mask restores the rest
    if "inpaint" not in name:
        assert np.abs(frames[-1].astype(int) - trace.decoded_image).mean() < 4


@pytest.mark.parametrize("name", JOINT)
def test_a_change_of_the_text_is_found_where_the_entry_says(name: str) -> None:
    """Perturb the text that the denoiser is given: the keys that change are the text's, or diffusers has reordered."""
    pipe = build(name)
    family, denoiser = find_family(pipe)
    _, tracer = trace_of(name)
    trace = tracer.trace
    first = trace.layers[0].name
    before = _first_keys(name, denoiser, first, None)
    row = prompt_row(name, before)
    text, image = split(name, trace, before)
    for word in [word for word in trace.words if word.kind == "word"][:2]:
        position = word.tokens[0]
        after = _first_keys(name, denoiser, first, position)
        changed = (after.key[row] != before.key[row]).any(dim=2).any(dim=0).nonzero()[:, 0].tolist()
        if name in REFINED:
            assert text.start + position in changed
            assert not set(changed) & set(range(image.start, image.stop))
        elif name in POOLED:
            assert [key for key in changed if text.start <= key < text.stop] == [text.start + position]
        else:
            assert changed == [text.start + position]
    assert family.sequence_layout is not None


def _first_keys(name: str, denoiser: Any, site: str, position: int | None) -> Attention:
    """A site's first attention, with noise on one position of the prompt's text."""
    family, _ = find_family(build(name))

    def disturb(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        bound = inspect.signature(module.forward).bind(*args, **kwargs)
        text = bound.arguments[family.text_argument]
        if position is not None and name == "z-image-omni":  # the text of each row is in pieces, here in one
            pieces = [[piece.clone() for piece in row] for row in text]
            pieces[0][0][position] += 1.0
            bound.arguments[family.text_argument] = pieces
        elif position is not None:
            rows = [row.clone() for row in text]
            first = name.startswith(("z-image", "omnigen"))
            rows[0 if first else -2 if name.endswith("pag") else -1][position] += 1
            bound.arguments[family.text_argument] = rows if isinstance(text, list) else torch.stack(rows)
        return bound.args, bound.kwargs

    handle = denoiser.register_forward_pre_hook(disturb, with_kwargs=True)
    try:
        with recording(denoiser) as calls:
            call(name, build(name))
    finally:
        handle.remove()
    return next(attention for attention in calls[site] if reaches_the_image(name, trace_of(name)[1].trace, attention))


@pytest.mark.parametrize("name", ["sd3", "flux2-klein", "pixart-alpha", "aura-flow", "hidream", "hunyuan-dit", "sana"])
def test_maps_lie_on_the_image(name: str) -> None:
    """Perturb one latent pixel: the first image position that changes is the one that the grid puts there."""
    pipe = build(name)
    _, denoiser = find_family(pipe)
    _, tracer = trace_of(name)
    trace = tracer.trace
    site, grid = trace.layers[0].name, trace.layers[0].grid
    with recording(denoiser) as calls:
        call(name, pipe)
    before = calls[site][0]
    start = torch.from_numpy(trace.latents[0]).clone()
    height, width = start.shape[1:]
    y, x = height - 1, width // 2
    images: list[Attention] = []
    for bump in (0.0, 5.0):
        noise = start.clone()
        noise[:, y, x] += bump
        with recording(denoiser) as calls:
            call(name, pipe, latents=noise[None])
        images.append(calls[site][0])
    _, image = split(name, trace, before)
    row = prompt_row(name, before)
    change = (images[0].query[row] - images[1].query[row]).abs().sum(dim=(0, 2))[image]
    assert int(change.argmax()) == (y * grid[0] // height) * grid[1] + x * grid[1] // width


@pytest.mark.parametrize("name", ["flux-two-calls", "qwen", "sd3", "pixart-alpha", "lumina2", "chroma", "hunyuan-dit"])
def test_the_negative_prompt_has_words_and_maps(name: str) -> None:
    pipe = build(name)
    _, denoiser = find_family(pipe)
    with recording(denoiser) as calls:
        call(name, pipe, negative_prompt="green fog")
    _, tracer = trace_of(name, negative_prompt="green fog")
    negative = tracer.trace.negative
    assert tracer.trace.negative_prompt == "green fog"
    assert negative is not None
    for stream in {word.encoder for word in negative.words}:
        assert [word.text for word in negative.words if word.kind == "word" and word.encoder == stream] == [
            "green",
            "fog",
        ]
    layer = negative.layers[0]
    attention = calls[layer.name][1 if FAMILIES[name].guided == "two calls" else 0]
    shares = attention.probabilities(0).mean(axis=0)
    family, _ = find_family(pipe)
    length = 1 + max(position for word in negative.words for position in word.tokens)
    text, image = slice(0, length), slice(0, len(shares))
    if family.sequence_layout is not None:
        places = family.sequence_layout(shares.shape[1], length, layer.grid[0] * layer.grid[1])
        assert places is not None
        text, image = places
    word = next(index for index, word in enumerate(negative.words) if word.text == "fog")
    expected = shares[image, text][:, list(negative.words[word].tokens)].sum(axis=1).reshape(layer.grid)
    np.testing.assert_allclose(negative.heat_map(word, step=0, layer=0), expected, atol=5e-4)


# several images of several prompts: diffusers 0.42 gives Sana's and Lumina 2's rows one another's masks
@pytest.mark.parametrize(
    ("name", "images"),
    [
        ("flux", 2),
        ("sd3", 2),
        ("z-image", 2),
        ("z-image-omni", 2),
        ("hidream", 2),
        ("qwen", 1),
        ("lumina2", 1),
        ("pixart-sigma", 1),
        ("sana", 1),
    ],
)
def test_several_prompts_and_images(name: str, images: int) -> None:
    prompts = [PROMPT, "two green houses"]
    negative = {"negative_prompt": ["fog", "fog"]} if name in ("qwen", "sana", "sd3") else {}
    _, tracer = trace_of(name, prompt=list(prompts), num_images_per_prompt=images, **negative)
    assert [trace.prompt for trace in tracer.traces] == [prompts[0]] * images + [prompts[1]] * images
    for trace in tracer.traces:
        typed = "".join(word.text for word in trace.words if word.kind == "word" and word.encoder in ("", "T5"))
        assert typed == "".join(trace.prompt.split())
    together = tracer.traces[images]
    negative = {"negative_prompt": "fog"} if negative else {}
    alone = trace_of(name, prompt=prompts[1], latents=_start(together, name), **negative)[1].trace
    words = [index for index, word in enumerate(together.words) if word.kind == "word"]
    words_alone = [index for index, word in enumerate(alone.words) if word.kind == "word"]
    assert len(words) == len(words_alone)
    np.testing.assert_allclose(together.heat_maps()[words], alone.heat_maps()[words_alone], atol=2e-3)


def _start(trace: Trace, name: str) -> torch.Tensor:
    """The initial noise in the form that the pipeline takes it."""
    latents = torch.from_numpy(trace.latents[:1])
    side = find_family(build(name))[0].packing
    return latents if side is None else pack(latents, side)


def words(prompt: str, name: str, **more: Any) -> list[Word]:
    return trace_of(name, prompt=prompt, **more)[1].trace.words


def test_sd3_reads_prompt_3_in_the_stream_of_t5() -> None:
    by_encoder = words("a red circle", "sd3", prompt_3="a blue square")
    assert [word.text for word in by_encoder if word.kind == "word" and word.encoder == "CLIP"] == [
        "a",
        "red",
        "circle",
    ]
    assert [word.text for word in by_encoder if word.kind == "word" and word.encoder == "T5"] == ["a", "blue", "square"]


def test_flux_reads_prompt_2_alone() -> None:
    traced_words = words("a red circle", "flux", prompt_2="a blue square")
    assert [word.text for word in traced_words if word.kind == "word"] == ["a", "blue", "square"]


@pytest.mark.parametrize("name", ["flux", "sd3", "sana", "lumina2", "pixart-alpha"])
def test_a_prompt_that_is_too_long_is_cut_where_the_model_cuts_it(name: str) -> None:
    long = " ".join(["red circle"] * 200)
    stream = "T5" if name == "sd3" else ""
    encoder_words = [word for word in words(long, name) if word.encoder == stream]
    assert sum(word.kind in ("word", "truncated") for word in encoder_words) == 400
    cut = [word.kind for word in encoder_words if word.kind in ("word", "truncated")]
    assert cut[0] == "word"
    assert cut[-1] == "truncated"
    assert cut == sorted(cut, reverse=True)


@pytest.mark.parametrize("prompt", ["user", "assistant", "a"])
@pytest.mark.parametrize("name", ["qwen", "z-image", "flux2-klein"])
def test_a_prompt_that_occurs_in_the_template(prompt: str, name: str) -> None:
    traced_words = words(prompt, name)
    assert [word.text for word in traced_words if word.kind == "word"] == [prompt]
    index = next(index for index, word in enumerate(traced_words) if word.kind == "word")
    assert {word.kind for word in traced_words[:index]} <= {"template", "special"}
    if prompt == "assistant":  # the template's own comes after it
        assert "assistant" in [word.text for word in traced_words[index + 1 :]]


@pytest.mark.parametrize("name", ["flux", "pixart-alpha", "qwen"])
def test_embeddings_without_text_have_positions_as_words(name: str) -> None:
    pipe = build(name)
    arguments = {"max_sequence_length": FAMILIES[name].arguments["max_sequence_length"]}
    encoded = pipe.encode_prompt(prompt=PROMPT, **arguments)
    names = {
        "flux": ("prompt_embeds", "pooled_prompt_embeds"),
        "pixart-alpha": (
            "prompt_embeds",
            "prompt_attention_mask",
            "negative_prompt_embeds",
            "negative_prompt_attention_mask",
        ),
        "qwen": ("prompt_embeds", "prompt_embeds_mask"),
    }[name]
    embeddings = dict(zip(names, encoded, strict=False))
    more = {"negative_prompt": None} if name != "flux" else {}
    _, tracer = trace_of(name, prompt=None, **embeddings, **more)
    assert {word.kind for word in tracer.trace.words} == {"word"}
    assert [word.text for word in tracer.trace.words][:3] == ["0", "1", "2"]
    named = trace_of(name)[1].trace
    index = next(index for index, word in enumerate(named.words) if word.text == "circle")
    one_by_one = tracer.trace.heat_maps(step=0)[list(named.words[index].tokens)].sum(axis=0)
    np.testing.assert_allclose(one_by_one, named.heat_map(index, step=0), atol=2e-3)
