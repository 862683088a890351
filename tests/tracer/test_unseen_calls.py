"""Pipelines whose calls cannot be followed as others: traced without words, or refused; the call itself goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    SemanticStableDiffusionPipeline,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPanoramaPipeline,
    StableDiffusionPipeline,
    StableDiffusionPipelineSafe,
    StableDiffusionXLInstructPix2PixPipeline,
    UNet2DConditionModel,
)

import diffvis_widget as dv
from diffvis_widget.tracer import Tracer, denoiser, pipeline_support
from diffvis_widget.tracer.families import Family, find_family, register, unregister
from diffvis_widget.tracer.families.family import modules_ending
from diffvis_widget.tracer.fault_guard import CannotRecordError
from diffvis_widget.tracer.latent_layout import LatentLayout
from diffvis_widget.tracer.preview import decode
from tests import pipelines, pipelines_unet
from tests.pipelines_dit import FAMILIES
from tests.tiny_parts import quiet, random_image
from tests.tracer.test_transparency import snapshot

PROMPT = "a red circle"


def generate(pipe: Any, **arguments: Any) -> Any:
    arguments = {"num_inference_steps": 2, "output_type": "np", **arguments}
    result = pipe(prompt=PROMPT, generator=torch.Generator().manual_seed(1), **arguments)
    return np.asarray(getattr(result, "images", result))


class DirectForward(StableDiffusionPipeline):
    """Calls its denoiser past all hooks."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        unet = self.unet

        class Direct:
            config = unet.config
            dtype = unet.dtype

            def __call__(self, *args: Any, **kwargs: Any) -> Any:
                return unet.forward(*args, **kwargs)

        vars(self)["unet"] = Direct()
        try:
            return super().__call__(*args, **kwargs)
        finally:
            del vars(self)["unet"]
            self.unet = unet


def _xl_instruct() -> Any:
    parts = pipelines_unet._xl_parts(0)
    unet = pipelines_unet._xl_unet(0, 2 * pipelines_unet.CLIP_WIDTH, 6)
    config = {**unet.config, "in_channels": 8}
    return StableDiffusionXLInstructPix2PixPipeline(**{**parts, "unet": type(unet).from_config(config)})


IMAGE = {"image": random_image(32, 32)}
UNSEEN: dict[str, tuple[Any, dict[str, Any], str]] = {
    "InstructPix2Pix": (
        lambda: StableDiffusionInstructPix2PixPipeline(**pipelines_unet._parts(0, in_channels=8)),
        IMAGE,
        "does not encode its prompt by encode_prompt",
    ),
    "InstructPix2Pix XL": (_xl_instruct, {**IMAGE, "height": 32, "width": 32}, r"given text of shape \(3, 77"),
    "SEGA": (
        lambda: SemanticStableDiffusionPipeline(**pipelines_unet._parts(0)),
        {"editing_prompt": ["a blue square"]},
        "encode_prompt",
    ),
    "Safe": (
        lambda: StableDiffusionPipelineSafe(**pipelines_unet._parts(0)),
        {"sld_guidance_scale": 2000},
        "encode_prompt",
    ),
    "past all hooks": (lambda: DirectForward(**pipelines_unet._parts(0)), {}, "is not called as a module"),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", UNSEEN)
def test_calls_whose_words_cannot_be_followed_are_traced_without_them(name: str) -> None:
    build, arguments, reason = UNSEEN[name]
    pipe = quiet(build())
    plain, before = generate(pipe, **arguments), snapshot(pipe)
    tracer = Tracer(pipe)

    def traced() -> Any:
        with tracer:
            return generate(pipe, **arguments)

    with pytest.warns(UserWarning, match=rf"is traced without word maps: .*{reason}"):
        images = traced()
    assert np.array_equal(images, plain)
    # some pipelines keep what they computed last
    assert {**snapshot(pipe), "pipe": None} == {**before, "pipe": None}
    trace = tracer.trace
    assert (trace.prompt, trace.layers, len(trace.steps)) == (PROMPT, [], 2)
    assert len(trace.latents) == 3
    assert np.abs(trace.image - np.round(images[0] * 255)).max() <= 1
    assert np.abs(decode(pipe, trace.latents[-1:])[0].astype(int) - trace.image).max() <= 1


def test_an_intervention_that_cannot_act_ends_the_call() -> None:
    build, arguments, _ = UNSEEN["InstructPix2Pix"]
    pipe = quiet(build())
    before = snapshot(pipe)
    with pytest.raises(RuntimeError, match="interventions cannot act in StableDiffusionInstructPix2PixPipeline"):
        dv.trace(pipe, PROMPT, num_inference_steps=2, interventions=[dv.intervene.drop("red")], **arguments)
    assert snapshot(pipe) == before


def test_a_panorama_is_refused_before_it_runs() -> None:
    pipe = quiet(StableDiffusionPanoramaPipeline(**pipelines_unet._parts(0)))
    with pytest.raises(ValueError, match="denoises overlapping crops"), Tracer(pipe):
        raise AssertionError("the block was entered")
    with pytest.raises(ValueError, match="denoises overlapping crops"):
        dv.trace(pipe, PROMPT, num_inference_steps=2)


def test_crops_given_to_the_denoiser_are_noticed_before_the_first_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline_support, "_REASONS", {})  # as a pipeline of somebody else's that does the same
    pipe = quiet(StableDiffusionPanoramaPipeline(**pipelines_unet._parts(0)))
    size = {"height": 128, "width": 160}
    plain = generate(pipe, **size)
    with pytest.warns(UserWarning, match="denoises crops"), Tracer(pipe) as tracer:
        images = generate(pipe, **size)
    assert np.array_equal(images, plain)
    assert tracer.traces == []
    with pytest.raises(CannotRecordError, match="denoises crops"):
        _ = tracer.trace


@pytest.fixture
def unknown_family() -> Iterator[None]:
    """Krea 2 as a model whose words nobody has described."""
    register(Family(name="unknown", denoisers=("Krea2Transformer2DModel",)))
    yield
    unregister("unknown")


@pytest.mark.usefixtures("unknown_family")
def test_packed_latents_are_unpacked_by_the_pipelines_own_method() -> None:
    case = FAMILIES["krea2"]
    pipe = case.build()
    arguments = {**case.arguments, "num_inference_steps": 2}
    plain = generate(pipe, **arguments)
    with pytest.warns(UserWarning, match="without word maps"), Tracer(pipe) as tracer:
        images = generate(pipe, **arguments)
    assert np.array_equal(images, plain)
    assert tracer.trace.prompt == PROMPT
    assert tracer.trace.latents[-1].ndim == 3
    latents = torch.from_numpy(generate(pipe, **{**arguments, "output_type": "latent"}))
    side = pipe.patch_size
    last = tracer.trace.latents[-1]
    _, height, width = last.shape
    rows = latents.unflatten(1, (height // side, width // side)).unflatten(3, (-1, side, side))
    expected = rows.permute(0, 3, 1, 4, 2, 5).flatten(2, 3).flatten(3, 4)[0]
    np.testing.assert_array_equal(last, expected)
    assert np.abs(decode(pipe, last[None])[0].astype(int) - tracer.trace.image).max() <= 1


@pytest.mark.usefixtures("unknown_family")
@pytest.mark.filterwarnings("ignore:Krea2Pipeline is traced without word maps")
def test_packed_latents_of_unknown_order_are_not_recorded() -> None:
    case = FAMILIES["krea2"]
    pipe = case.build()
    arguments = {**case.arguments, "num_inference_steps": 2, "output_type": "latent"}
    pipe._unpack_latents = None
    plain = generate(pipe, **arguments)
    tracer = Tracer(pipe)

    def traced() -> Any:
        with tracer:
            return generate(pipe, **arguments)

    with pytest.warns(UserWarning, match="keeps its latents as a sequence"):
        images = traced()
    assert np.array_equal(images, plain)
    with pytest.raises(CannotRecordError, match="packing"):
        _ = tracer.trace


@pytest.mark.parametrize("shape", [(1, 4, 3, 8, 8), (1, 2, 4, 8, 8)])
def test_latents_of_several_frames_are_refused(shape: tuple[int, ...]) -> None:
    family, _ = find_family(pipelines.stable_diffusion())
    with pytest.raises(CannotRecordError, match="of a video"):
        LatentLayout(family).read(torch.zeros(shape), {}, None, {})


def test_a_denoiser_that_returns_a_plain_tensor_is_read_right() -> None:
    class Plain(StableDiffusionPipeline):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            forward = self.unet.forward

            def plain(*args: Any, **kwargs: Any) -> torch.Tensor:
                return forward(*args, **kwargs)[0]

            self.unet.forward = plain
            handle = self.unet.register_forward_hook(lambda module, args, output: None)
            step = type(self.unet).__call__
            try:
                type(self.unet).__call__ = lambda unet, *args, **kwargs: (step(unet, *args, **kwargs),)
                return super().__call__(*args, **kwargs)
            finally:
                type(self.unet).__call__ = step
                handle.remove()
                del vars(self.unet)["forward"]

    pipe = quiet(Plain(**pipelines_unet._parts(0)))
    with Tracer(quiet(StableDiffusionPipeline(**pipe.components, requires_safety_checker=False))) as reference:
        expected = generate(reference.pipe)
    with Tracer(pipe) as tracer:
        images = generate(pipe)
    assert np.array_equal(images, expected)
    np.testing.assert_array_equal(tracer.trace.heat_maps(), reference.trace.heat_maps())
    np.testing.assert_array_equal(
        [record.guidance for record in tracer.trace.records], [record.guidance for record in reference.trace.records]
    )


class PlainUNet(UNet2DConditionModel):
    """Returns its prediction as a plain tensor."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return super().forward(*args, **kwargs)[0]


class PlainUNetPipeline(StableDiffusionPipeline):
    """Wraps the tensor of its U-Net in the tuple that the loop of its base expects."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call = PlainUNet.__call__
        PlainUNet.__call__ = lambda unet, *args, **kwargs: (call(unet, *args, **kwargs),)
        try:
            return super().__call__(*args, **kwargs)
        finally:
            del PlainUNet.__call__


def test_a_denoiser_that_returns_a_plain_tensor_is_evaluated_again() -> None:
    parts = pipelines_unet._parts(0)
    unet: Any = PlainUNet.from_config(parts["unet"].config)
    unet.load_state_dict(parts["unet"].state_dict())
    with Tracer(quiet(StableDiffusionPipeline(**parts))) as reference:
        generate(reference.pipe)
    with Tracer(quiet(PlainUNetPipeline(**{**parts, "unet": unet.eval()}))) as tracer:
        generate(tracer.pipe)
    latents = tracer.trace.latents[1][None]
    np.testing.assert_array_equal(denoiser(tracer.trace, 1)(latents), denoiser(reference.trace, 1)(latents))


def test_a_family_whose_text_argument_does_not_exist_is_refused_before_the_run() -> None:
    family = Family(
        name="mistaken",
        denoisers=("UNet2DConditionModel",),
        denoiser_attribute="unet",
        attention_kind="cross",
        attention_modules=modules_ending(".attn2"),
        text_argument="text_states",
    )
    pipe = pipelines.stable_diffusion()
    register(family)
    try:
        with pytest.raises(ValueError, match=r"text_argument names no argument of UNet2D.*'text_states'"), Tracer(pipe):
            raise AssertionError("the block was entered")
    finally:
        unregister("mistaken")
