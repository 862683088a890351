"""Maps in output space: how alike the attention outputs of image positions and words are, against a naive attention."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffvis_widget.files import open_trace
from diffvis_widget.tracer import Tracer, estimate
from diffvis_widget.tracer import trace as make_trace
from diffvis_widget.tracer.families import find_family, registered_families
from diffvis_widget.traces import Trace, TraceFileError
from tests import pipelines
from tests.pipelines_dit import FAMILIES
from tests.tracer.families.test_families import PROMPT, build, call, per_step, prompt_row, split
from tests.tracer.recorder import recording
from tests.tracer.reference import assert_stored
from tests.traces.build import make_trace as by_hand

# one of every family with joint attention
JOINT = [
    *("sd3", "flux", "flux2-klein", "chroma", "qwen", "aura-flow", "lumina2", "z-image", "hidream"),
    *("z-image-omni", "omnigen"),
    *("cogview3", "cogview4", "ovis", "krea2", "ernie-image", "hunyuan-image", "longcat-image", "bria", "fibo"),
    *("ideogram4", "joyimage"),
]
# the image attends to the keys of words, which ask nothing themselves: they have no output
KEYS_ONLY = ["prx", "prx-pixel", "if", "qwen-2.1", "nucleus-moe"]
# videos, in families/test_video_families.py; FLUX.3, which is modular only: test_modular.py; an editor, in
# families/test_editing.py; GLM-Image, whose words are those of quoted text, in families/test_glm_image.py
ELSEWHERE = {
    *("CogVideoX", "CogVideoX 1.5", "EasyAnimate", "HunyuanVideo", "HunyuanVideo 1.5", "Mochi", "Motif-Video"),
    *("FLUX.3", "JoyImage-Edit-Plus", "GLM-Image"),
}


@functools.cache
def record(name: str, keep: Any = "layers") -> tuple[np.ndarray, Trace]:
    with Tracer(build(name), keep=keep, output=True) as tracer:
        images = call(name, build(name))
    return images, tracer.trace


def test_every_family_with_joint_attention_is_tried() -> None:
    joint = {family.name for family in registered_families() if family.sequence_layout is not None}
    assert {find_family(build(name))[0].name for name in JOINT + KEYS_ONLY} == joint - ELSEWHERE


@pytest.mark.parametrize("name", KEYS_ONLY)
def test_words_without_an_output_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="words have no attention output to compare with the image's"):
        Tracer(build(name), output=True)


@pytest.mark.parametrize("name", JOINT)
def test_the_image_is_the_same_and_the_scores_are_exact(name: str) -> None:
    pipe = build(name)
    with recording(find_family(pipe)[1]) as calls:
        plain = call(name, pipe)
    images, trace = record(name, "heads")
    assert np.array_equal(plain, images)
    for index, layer in enumerate(trace.layers):
        for step, attention in enumerate(per_step(FAMILIES[name], calls[layer.name], len(trace.steps))):
            outputs = trace.records[step].outputs
            assert outputs is not None
            expected = attention.outputs(prompt_row(name, attention))
            text, image = split(name, trace, attention)
            for place, word in enumerate(trace.words):
                if word.kind == "padding":
                    assert np.isnan(outputs[index][:, place]).all()
                    continue
                vector = expected[:, [text.start + token for token in word.tokens]].mean(axis=1)
                scores = np.einsum("hpc,hc->hp", expected[:, image], vector) / vector.shape[-1]
                assert_stored(outputs[index][:, place], scores.reshape(-1, *layer.grid), 1e-5)


@pytest.mark.parametrize("name", ["flux", "sd3"])
def test_what_is_kept(name: str) -> None:
    """The mean over heads is the product of the whole vectors; the mean over layers, and the default of all."""
    heads, layers, words = (record(name, keep)[1] for keep in ("heads", "layers", "words"))
    for layer in range(len(layers.layers)):
        every = [heads.heat_maps(1, layer, head, kind="output") for head in range(heads.layers[layer].heads)]
        mean = layers.heat_maps(1, layer, kind="output")
        np.testing.assert_allclose(mean, np.mean(every, axis=0), atol=2e-3 * np.nanmax(np.abs(mean)))
    some = layers.heat_maps(1, kind="output")
    np.testing.assert_allclose(words.heat_maps(1, kind="output"), some, atol=2e-3 * np.nanmax(np.abs(some)))
    apart = heads.records[1].outputs
    assert apart is not None
    assert min(np.nanmin(scores) for scores in apart) < 0  # a product may be negative


def test_several_words_are_averaged() -> None:
    _, trace = record("flux")
    both = trace.heat_map(["circle", "square"], step=0, kind="output")
    circle, square = (trace.heat_map(word, step=0, kind="output") for word in ("circle", "square"))
    np.testing.assert_allclose(both, (circle + square) / 2, rtol=1e-5, atol=1e-7)
    assert trace.heat_map("circle", kind="output", size=(20, 30)).shape == (20, 30)


def test_each_image_of_a_batch_has_its_own() -> None:
    pipe = FAMILIES["sd3"].build()
    with Tracer(pipe, output=True) as tracer:
        call("sd3", pipe, num_images_per_prompt=2, num_inference_steps=1)
    maps = [trace.heat_map("circle", kind="output") for trace in tracer.traces]
    assert not np.allclose(maps[0], maps[1])
    arguments = {**FAMILIES["sd3"].arguments, "num_inference_steps": 1}
    start = torch.from_numpy(tracer.traces[1].latents[:1])
    alone = make_trace(pipe, PROMPT, output=True, **arguments, latents=start)
    np.testing.assert_allclose(alone.heat_map("circle", kind="output"), maps[1], atol=2e-3 * np.abs(maps[1]).max())


@pytest.mark.parametrize("keep", ["words", "layers", "heads"])
def test_they_are_saved_and_read(keep: str, tmp_path: Path) -> None:
    _, trace = record("flux", keep)
    back = open_trace(trace.save(tmp_path / "run.safetensors"))
    np.testing.assert_array_equal(back.heat_maps(kind="output"), trace.heat_maps(kind="output"))
    np.testing.assert_array_equal(back.heat_maps(), trace.heat_maps())
    back.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "run.safetensors").read_bytes()


def test_a_file_with_some_layers_missing_is_refused(tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    path = record("flux")[1].save(tmp_path / "run.safetensors", frames=False)
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    parts = load_file(path)
    del parts["outputs.1"]
    save_file(parts, path, metadata=metadata)
    with pytest.raises(TraceFileError, match=r"'outputs\.1' is missing"):
        open_trace(path)


def test_without_asking_they_are_not_there() -> None:
    pipe = build("flux")
    with Tracer(pipe) as tracer:
        call("flux", pipe)
    assert tracer.trace.records[0].outputs is None
    with pytest.raises(ValueError, match=r"kind=\"output\" was not traced.*output=True"):
        tracer.trace.heat_map("circle", kind="output")
    with pytest.raises(ValueError, match=r"kind must be one of 'probability', 'output', 'refined', not 'outputs'"):
        tracer.trace.heat_map("circle", kind="outputs")  # pyright: ignore[reportArgumentType]


def test_cross_attention_has_none() -> None:
    with pytest.raises(ValueError, match=r"output=True: in the cross-attention U-Net of StableDiffusionPipeline"):
        Tracer(pipelines.stable_diffusion(), output=True)
    with pytest.raises(ValueError, match=r"kind=\"output\" is not there: in cross-attention"):
        by_hand().heat_map("square", kind="output")


def test_the_negative_prompt_has_none() -> None:
    pipe = build("qwen")
    with Tracer(pipe, output=True) as tracer:
        call("qwen", pipe)
    negative = tracer.trace.negative
    assert negative is not None
    assert negative.heat_map("green").max() > 0
    with pytest.raises(ValueError, match="not for those of the negative prompt"):
        negative.heat_map("green", kind="output")


def test_a_step_whose_layers_a_cache_skipped_shows_the_latest() -> None:
    from diffusers import FirstBlockCacheConfig

    pipe = FAMILIES["flux"].build()
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=1e6))
    with Tracer(pipe, output=True) as tracer:
        call("flux", pipe, num_inference_steps=3)
    trace = tracer.trace
    assert trace.reused[1:, 1:].all()
    for layer in range(1, len(trace.layers)):
        first, later = (trace.heat_maps(step, layer, kind="output") for step in (0, 2))
        np.testing.assert_array_equal(first, later)


def test_the_estimate_counts_them() -> None:
    pipe = build("flux")
    arguments = {key: value for key, value in FAMILIES["flux"].arguments.items() if key != "num_inference_steps"}
    plain, scored = (estimate(pipe, PROMPT, 3, output=output, **arguments) for output in (False, True))
    trace = make_trace(pipe, PROMPT, output=True, num_inference_steps=3, **arguments)
    maps = sum(part.nbytes for record in trace.records for part in record.maps)
    assert scored.trace_bytes - plain.trace_bytes == maps
