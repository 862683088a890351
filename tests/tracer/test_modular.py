"""Modular pipelines: the same traces as the standard pipelines of the same parts, under every guider."""

from __future__ import annotations

import inspect
from typing import Any

import diffusers.guiders as guiders
import numpy as np
import pytest
import torch
from diffusers.hooks import LayerSkipConfig
from diffusers.hooks.smoothed_energy_guidance_utils import SmoothedEnergyGuidanceConfig

import diffvis_widget as dv
from diffvis_widget.tracer import Tracer, denoiser
from diffvis_widget.tracer.families import find_family
from tests import pipelines
from tests.pipelines_modular import NAIVE, STANDARD, modular, with_parts
from tests.tracer.recorder import recording
from tests.tracer.reference import assert_stored
from tests.tracer.test_transparency import snapshot

PROMPT = "a red circle"
SIZE: dict[str, Any] = {"height": 32, "width": 48}
SAME_TEXT = [name for name in STANDARD if name != "modular-flux2"]  # whose blocks write another chat template


def generate(pipe: Any, arguments: dict[str, Any]) -> np.ndarray:
    arguments = {**arguments, "num_inference_steps": 3, "output_type": "np"}
    return np.asarray(pipe(prompt=PROMPT, generator=torch.Generator().manual_seed(1), **arguments).images)


def accepted(names: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if name in names}


@pytest.fixture(scope="module")
def sdxl() -> Any:
    return pipelines.stable_diffusion_xl()


@pytest.mark.filterwarnings("ignore:Guidance scale")
@pytest.mark.parametrize("name", SAME_TEXT)
def test_a_modular_pipeline_is_traced_as_the_standard_one(name: str) -> None:
    kind, build, arguments, guidance = STANDARD[name]
    whole = build()
    pipe = modular(kind, whole)
    more = {"num_images_per_prompt": 2, **({"negative_prompt": "blue square"} if guidance else {})}
    modular_arguments = accepted(pipe.default_call_parameters, {**arguments, **more})
    plain, before, guider = generate(pipe, modular_arguments), snapshot(pipe), getattr(pipe, "guider", None)
    with Tracer(pipe) as tracer:
        images = generate(pipe, modular_arguments)
    assert np.array_equal(images, plain)
    assert {**snapshot(pipe), "pipe": None} == {**before, "pipe": None}
    assert getattr(pipe, "guider", None) is guider
    with Tracer(whole) as standard:
        generate(whole, accepted(inspect.signature(whole.__call__).parameters, {**arguments, **more, **guidance}))
    assert len(tracer.traces) == len(standard.traces) == 2
    for trace, expected, image in zip(tracer.traces, standard.traces, images, strict=True):
        assert (trace.prompt, trace.words) == (expected.prompt, expected.words)
        assert (len(trace.steps), trace.meta["seed"], trace.meta["planned_steps"]) == (3, expected.meta["seed"], 3)
        assert np.abs(trace.image - np.round(image * 255)).max() <= 1
        assert "image_note" not in trace.meta
        np.testing.assert_allclose(trace.latents[-1], expected.latents[-1], atol=5e-5)
        np.testing.assert_allclose(trace.heat_maps(), expected.heat_maps(), atol=1e-4)
        assert (trace.guidance is None) == (expected.guidance is None)
        if trace.guidance is not None and expected.guidance is not None:
            np.testing.assert_allclose(trace.guidance, expected.guidance, rtol=1e-3, atol=1e-5)
        assert (trace.negative is None) == (expected.negative is None)
        if trace.negative is not None and expected.negative is not None:
            assert trace.negative.words == expected.negative.words
            np.testing.assert_allclose(trace.negative.heat_maps(), expected.negative.heat_maps(), atol=1e-4)
    again = denoiser(tracer.traces[1], 1)
    torch.testing.assert_close(again(again.latents), again.output)


def test_maps_of_modular_flux2_equal_a_naive_softmax() -> None:
    kind, build, arguments, _ = STANDARD["modular-flux2"]
    pipe = modular(kind, build())
    arguments = accepted(pipe.default_call_parameters, arguments)
    with recording(pipe.transformer) as calls:
        plain = generate(pipe, arguments)
    with Tracer(pipe, keep="heads") as tracer:
        assert np.array_equal(generate(pipe, arguments), plain)
    trace = tracer.trace
    assert [word.text for word in trace.words if word.text in PROMPT.split()][-3:] == PROMPT.split()
    text = 1 + max(token for word in trace.words for token in word.tokens)
    for index, layer in enumerate(trace.layers):
        for step, attention in enumerate(calls[layer.name]):
            probabilities = attention.probabilities(0)[:, text:]
            for place, word in enumerate(trace.words):
                if word.kind != "padding":
                    expected = probabilities[:, :, list(word.tokens)].sum(axis=-1).reshape(-1, *layer.grid)
                    assert_stored(trace.records[step].maps[index][:, place], expected, 1e-5)


@pytest.mark.parametrize("name", NAIVE)
def test_maps_of_modular_pipelines_equal_a_naive_softmax(name: str) -> None:
    build, arguments = NAIVE[name]
    pipe = build()
    family, denoiser_module = find_family(pipe)
    with recording(denoiser_module) as calls:
        plain = generate(pipe, arguments)
    before = snapshot(pipe)
    with Tracer(pipe, keep="heads") as tracer:
        assert np.array_equal(generate(pipe, arguments), plain)
    assert {**snapshot(pipe), "pipe": None} == {**before, "pipe": None}
    trace = tracer.trace
    assert trace.prompt == trace.typed_prompt == PROMPT
    assert [word.text for word in trace.words if word.kind == "word"] == PROMPT.split()
    assert len(trace.steps) == 3
    assert trace.layers
    text = 1 + max(position for word in trace.words for position in word.tokens)
    is_guided = "negative_prompt" in arguments
    assert (trace.guidance is not None) == is_guided
    for index, layer in enumerate(trace.layers):
        positions = layer.grid[0] * layer.grid[1]
        seen = [attention for attention in calls[layer.name] if attention.query.shape[2] >= positions]
        assert len(seen) == (6 if is_guided else 3)
        for step, attention in enumerate(seen[::2] if is_guided else seen):
            keys = attention.key.shape[2]
            spans = family.sequence_layout(keys, text, positions) if family.sequence_layout else None
            columns, queries = spans or (slice(None), slice(None))
            queries = queries if attention.query.shape[2] == keys else slice(None)
            probabilities = attention.probabilities(0)[:, queries, columns]
            for place, word in enumerate(trace.words):
                if word.kind != "padding":
                    expected = probabilities[:, :, list(word.tokens)].sum(axis=-1).reshape(-1, *layer.grid)
                    assert_stored(trace.records[step].maps[index][:, place], expected, 1e-5)


BLOCK = {"indices": [0], "fqn": "mid_block.attentions.0.transformer_blocks"}
JOINT_BLOCK = {"indices": [0], "fqn": "transformer_blocks"}
GUIDERS: dict[str, Any] = {
    "original formulation": lambda: guiders.ClassifierFreeGuidance(guidance_scale=5.0, use_original_formulation=True),
    "rescaled": lambda: guiders.ClassifierFreeGuidance(guidance_scale=5.0, guidance_rescale=0.5),
    "adaptive projected": guiders.AdaptiveProjectedGuidance,
    "adaptive projected mix": guiders.AdaptiveProjectedMixGuidance,
    "zero star": guiders.ClassifierFreeZeroStarGuidance,
    "tangential": guiders.TangentialClassifierFreeGuidance,
    "magnitude aware": guiders.MagnitudeAwareGuidance,
    "auto": lambda: guiders.AutoGuidance(dropout=0.5, auto_guidance_config=LayerSkipConfig(**BLOCK)),
    "skip layer": lambda: guiders.SkipLayerGuidance(
        skip_layer_config=LayerSkipConfig(**BLOCK), skip_layer_guidance_start=0.0, skip_layer_guidance_stop=1.0
    ),
    "perturbed attention": lambda: guiders.PerturbedAttentionGuidance(
        perturbed_guidance_config=LayerSkipConfig(
            **BLOCK, skip_ff=False, skip_attention=False, skip_attention_scores=True
        ),
        perturbed_guidance_start=0.0,
        perturbed_guidance_stop=1.0,
    ),
    "smoothed energy": lambda: guiders.SmoothedEnergyGuidance(
        seg_guidance_config=SmoothedEnergyGuidanceConfig(**BLOCK), seg_guidance_start=0.0, seg_guidance_stop=1.0
    ),
}
# of joint models, whose packed latents have three axes: this guider fails on four
JOINT_GUIDERS = ["adaptive projected", "zero star", "tangential", "magnitude aware", "original formulation"]
JOINT_GUIDERS += ["rescaled", "adaptive projected mix"]
# of joint models, by a block of theirs; in SD 3 diffusers 0.42 cannot skip one
BLOCK_GUIDERS: dict[str, Any] = {
    "auto": lambda: guiders.AutoGuidance(dropout=0.5, auto_guidance_config=LayerSkipConfig(**JOINT_BLOCK)),
    "skip layer": lambda: guiders.SkipLayerGuidance(
        skip_layer_config=LayerSkipConfig(**JOINT_BLOCK), skip_layer_guidance_start=0.0, skip_layer_guidance_stop=1.0
    ),
}


def check_guider(pipe: Any, module: Any, arguments: dict[str, Any], axis: int) -> None:
    """axis: that of the channels, in the outputs of the denoiser."""
    plain = generate(pipe, arguments)
    outputs: dict[float, list[torch.Tensor]] = {}

    def keep(module: Any, args: Any, kwargs: Any, output: Any) -> None:
        timestep = args[1] if len(args) > 1 else kwargs["timestep"]
        outputs.setdefault(float(timestep), []).append(output[0].double())

    handle = module.register_forward_hook(keep, with_kwargs=True)
    with Tracer(pipe) as tracer:
        assert np.array_equal(generate(pipe, arguments), plain)
    handle.remove()
    trace = tracer.trace
    assert trace.meta["guider"] == type(pipe.guider).__name__
    assert trace.guidance is not None
    assert len(outputs) == 3
    for guidance, (conditional, unconditional, *_) in zip(trace.guidance, outputs.values(), strict=True):
        # every guider evaluates the conditional branch first, then what it guides away from
        size = (conditional - unconditional).square().mean(dim=axis).sqrt()
        np.testing.assert_allclose(guidance, size.reshape(guidance.shape).numpy(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in GUIDERS if name != "magnitude aware"])
def test_guiders_of_a_unet(name: str, sdxl: Any) -> None:
    pipe = modular("StableDiffusionXLModularPipeline", sdxl, guider=GUIDERS[name]())
    check_guider(pipe, pipe.unet, {**SIZE, "negative_prompt": "blue"}, axis=1)


@pytest.mark.parametrize("name", JOINT_GUIDERS)
def test_guiders_of_a_joint_model(name: str) -> None:
    kind, build, arguments, _ = STANDARD["modular-klein"]
    pipe = modular(kind, build(), guider=GUIDERS[name]())
    check_guider(pipe, pipe.transformer, accepted(pipe.default_call_parameters, arguments), axis=2)


@pytest.mark.parametrize("name", BLOCK_GUIDERS)
def test_guiders_that_change_a_block_of_a_joint_model(name: str) -> None:
    kind, build, arguments, _ = STANDARD["modular-klein"]
    pipe = modular(kind, build(), guider=BLOCK_GUIDERS[name]())
    arguments = accepted(pipe.default_call_parameters, {**arguments, "negative_prompt": "blue"})
    check_guider(pipe, pipe.transformer, arguments, axis=2)


def test_guidance_that_starts_later_has_none_before(sdxl: Any) -> None:
    guider = guiders.ClassifierFreeGuidance(guidance_scale=5.0, start=0.4)
    pipe = modular("StableDiffusionXLModularPipeline", sdxl, guider=guider)
    with Tracer(pipe) as tracer:
        generate(pipe, SIZE)
    guidance = tracer.trace.guidance
    assert guidance is not None
    assert [bool(np.isnan(step).all()) for step in guidance] == [True, False, False]


def test_a_perturbed_run_cannot_be_evaluated_again(sdxl: Any) -> None:
    pipe = modular("StableDiffusionXLModularPipeline", sdxl, guider=GUIDERS["skip layer"]())
    trace = dv.trace(pipe, PROMPT, seed=1, num_inference_steps=2, **SIZE)
    with pytest.raises(ValueError, match="3 parts per step, 2 of them for its prompts"):
        denoiser(trace, 1)


def test_a_guidance_scale_goes_to_a_guider_of_the_runs_own(sdxl: Any) -> None:
    pipe = modular("StableDiffusionXLModularPipeline", sdxl)
    guider = pipe.guider
    trace = dv.trace(pipe, PROMPT, seed=1, num_inference_steps=2, guidance_scale=3.0, **SIZE)
    assert (pipe.guider, guider.guidance_scale, guider._step) == (guider, 7.5, None)
    assert trace.meta["guidance_scale"] == 3.0
    assert trace.meta["guider_config"]["guidance_scale"] == 3.0
    pipe.update_components(guider=guider.new(guidance_scale=3.0))
    expected = dv.trace(pipe, PROMPT, seed=1, num_inference_steps=2, **SIZE)
    assert np.array_equal(trace.latents, expected.latents)


def test_arguments_that_no_block_takes_are_refused(sdxl: Any) -> None:
    pipe = modular("StableDiffusionXLModularPipeline", sdxl)
    with pytest.raises(TypeError, match=r"takes no heigth=; did you mean 'height'\?"):
        dv.trace(pipe, PROMPT, heigth=32)
    with pytest.raises(TypeError, match="takes no true_cfg_scale=; it takes prompt, "):
        dv.trace(pipe, PROMPT, true_cfg_scale=2.0)


def test_blocks_without_a_decoder_end_with_latents(sdxl: Any) -> None:
    blocks = modular("StableDiffusionXLModularPipeline", sdxl).blocks
    blocks.sub_blocks.pop("decode")
    pipe = with_parts(blocks.init_pipeline(), sdxl)
    with Tracer(pipe) as tracer:
        state = pipe(prompt=PROMPT, num_inference_steps=2, generator=torch.Generator().manual_seed(1), **SIZE)
    np.testing.assert_array_equal(tracer.trace.latents[-1], state.latents[0].numpy())
    with pytest.raises(TypeError, match="takes no output_type"):
        dv.trace(pipe, PROMPT, output_type="np")


def test_embeddings_without_a_text_get_numbers(sdxl: Any) -> None:
    pipe = modular("StableDiffusionXLModularPipeline", sdxl)
    names = ("prompt_embeds", "pooled_prompt_embeds", "negative_prompt_embeds", "negative_pooled_prompt_embeds")
    blocks = pipe.blocks
    encoder = with_parts(blocks.sub_blocks.pop("text_encoder").init_pipeline(), sdxl)
    embeddings = encoder(prompt=PROMPT, output=list(names))
    rest = with_parts(blocks.init_pipeline(), sdxl)
    with pytest.warns(UserWarning, match="without its text"), Tracer(rest) as tracer:
        rest(num_inference_steps=2, generator=torch.Generator().manual_seed(1), **embeddings, **SIZE)
    assert [word.text for word in tracer.trace.words][:3] == ["0", "1", "2"]
    with pytest.raises(ValueError, match="encode no text"):
        dv.trace(rest, None, num_inference_steps=2, interventions=[dv.intervene.switch("a", 1)], **embeddings, **SIZE)


@pytest.mark.parametrize("name", ["modular-sdxl", "modular-flux", "modular-klein"])
def test_interventions_act_as_in_the_standard_pipeline(name: str) -> None:
    kind, build, arguments, guidance = STANDARD[name]
    whole = build()
    pipe = modular(kind, whole)
    arguments = {**arguments, **guidance, "num_inference_steps": 3, "seed": 1}
    for interventions in (
        [dv.intervene.weight("red", 2.0)],
        [dv.intervene.drop("red")],
        [dv.intervene.switch("a blue circle", 1)],
    ):
        own_arguments = {**accepted(pipe.default_call_parameters, arguments), "seed": 1}
        changed = dv.trace(pipe, PROMPT, interventions=interventions, **own_arguments)
        expected = dv.trace(whole, PROMPT, interventions=interventions, **arguments)
        np.testing.assert_allclose(changed.latents[-1], expected.latents[-1], atol=5e-5)
        assert not np.allclose(changed.latents[-1], dv.trace(pipe, PROMPT, **own_arguments).latents[-1], atol=1e-3)


def test_decision_curves_equal_those_of_the_standard_pipeline(sdxl: Any) -> None:
    pipe = modular("StableDiffusionXLModularPipeline", sdxl)
    arguments = {"steps": 3, "seeds": 2, "meter": dv.ConceptMeter(), "progress": False, **SIZE}
    curve = dv.decision_curve(pipe, PROMPT, "red", "blue", **arguments)
    expected = dv.decision_curve(sdxl, PROMPT, "red", "blue", guidance_scale=7.5, **arguments)
    np.testing.assert_allclose(curve.share, expected.share, atol=1e-4)


def test_the_widget_runs_a_modular_pipeline(sdxl: Any) -> None:
    pipe = modular("StableDiffusionXLModularPipeline", sdxl)
    widget = dv.DiffVis(pipe, prompt=PROMPT, seed=1, steps=2)
    try:
        assert widget.wait(60)
        assert (widget.status, widget.error, widget.guidance_scale) == ("done", "", 7.5)
        assert [word.text for word in widget.trace.words if word.kind == "word"] == PROMPT.split()
        with Tracer(pipe, view=widget):
            pipe(prompt="a blue square", num_inference_steps=2, **SIZE)
        assert widget.trace.prompt == "a blue square"
    finally:
        widget.close()


def test_progress_bars_of_the_pipeline_stay_as_they_were(sdxl: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = modular("StableDiffusionXLModularPipeline", sdxl)
    pipe.set_progress_bar_config(disable=False)
    widget = dv.DiffVis(pipe, prompt=PROMPT, seed=1, steps=1)
    try:
        assert widget.wait(60)
    finally:
        widget.close()
    assert "1/1" not in capsys.readouterr().err
    pipe(prompt=PROMPT, num_inference_steps=1, **SIZE)
    assert "1/1" in capsys.readouterr().err


def test_relevance_says_that_it_needs_the_standard_pipeline(sdxl: Any) -> None:
    pipe = modular("StableDiffusionXLModularPipeline", sdxl)
    with pytest.raises(ValueError, match="use the standard pipeline with the same components"):
        dv.explain.relevance(pipe, PROMPT, seed=1, num_inference_steps=2, **SIZE)
