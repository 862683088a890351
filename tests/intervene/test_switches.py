"""Another prompt from a step on, another run's attention, and what a tracer records of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffvis_widget import intervene
from diffvis_widget.files import open_trace
from diffvis_widget.tracer import Tracer, denoiser, trace
from tests import pipelines, pipelines_joint
from tests.tiny_parts import stirred
from tests.tracer.families.test_families import build, call

OTHER = "A tiny green house, above a blue fish"
# one for each way in which a denoiser is given its text: rows of both halves, two calls, lists, a second axis, masks
WAYS = ["sd3", "flux", "chroma", "qwen", "z-image", "hidream", "lumina2", "hunyuan-dit", "pixart-alpha", "sdxl-pag"]
WAYS += ["z-image-omni", "omnigen"]


@pytest.fixture(scope="module")
def pipe() -> Any:
    built = pipelines.stable_diffusion()
    stirred(built.unet)
    return built


def run(pipe: Any, prompt: str, *interventions: intervene.Intervention, steps: int = 3, **more: Any) -> Any:
    return trace(pipe, prompt, seed=3, num_inference_steps=steps, interventions=interventions, **more)


@pytest.mark.parametrize("name", WAYS)
def test_switched_at_once_it_is_the_other_prompts_run(name: str) -> None:
    pipe = build(name)
    expected = call(name, pipe, prompt=OTHER)
    with intervene.on(pipe, intervene.switch(OTHER, 0)):
        assert np.array_equal(call(name, pipe), expected)


def test_against_the_pipelines_own_callback(pipe: Any) -> None:
    """Stable Diffusion lets a callback exchange the embeddings after a step."""
    new = pipe.encode_prompt("a green star", "cpu", 1, True)

    def exchange(pipe: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        return {"prompt_embeds": torch.cat([new[1], new[0]])} if step == 0 else {}

    expected = pipe(
        "a red circle",
        num_inference_steps=3,
        generator=torch.Generator().manual_seed(3),
        output_type="np",
        callback_on_step_end=exchange,
        callback_on_step_end_tensor_inputs=["latents", "prompt_embeds"],
    ).images
    with intervene.on(pipe, intervene.switch("a green star", 1)):
        by_callback = pipe(
            "a red circle", num_inference_steps=3, generator=torch.Generator().manual_seed(3), output_type="np"
        ).images
    assert np.array_equal(by_callback, expected)


def test_a_switched_trace_has_the_words_of_both_prompts(pipe: Any, tmp_path: Path) -> None:
    plain = run(pipe, "a red circle")
    other = run(pipe, "a big green circle")
    switched = run(pipe, "a red circle", intervene.switch("a big green circle", 2))
    assert [word.text for word in switched.words if word.kind == "word"] == ["a", "red", "circle", "big", "green"]
    assert np.array_equal(switched.latents[:3], plain.latents[:3])
    assert np.array_equal(switched.heat_map("circle", step=1), plain.heat_map("circle", step=1))
    assert np.isnan(switched.heat_map("green", step=1)).all()
    assert np.isnan(switched.heat_map("red", step=2)).all()
    # from step 2 on every word stands where the second prompt has it
    again = run(pipe, "a big green circle", latents=torch.from_numpy(plain.latents[:1]))
    assert np.array_equal(again.latents[0], plain.latents[0])
    late = switched.heat_map("circle", step=2)
    assert late.shape == other.heat_map("circle", step=2).shape
    assert not np.array_equal(late, plain.heat_map("circle", step=2))
    np.testing.assert_allclose(
        switched.heat_map("red"), np.mean([plain.heat_map("red", step=i) for i in (0, 1)], axis=0), atol=1e-6
    )
    assert np.array_equal(switched.heat_map("green"), switched.heat_map("green", step=2))
    opened = open_trace(switched.save(tmp_path / "switched.safetensors"))
    assert np.array_equal(opened.heat_maps(), switched.heat_maps(), equal_nan=True)
    assert opened.meta["interventions"] == [{"kind": "switch", "prompt": "a big green circle", "step": 2}]


def test_maps_after_a_switch_at_once_are_the_other_runs(pipe: Any) -> None:
    switched = run(pipe, "a red circle", intervene.switch("a green star", 0))
    other = run(pipe, "a green star")
    assert np.array_equal(switched.latents, other.latents)
    for word in ("green", "star", "a"):
        assert np.array_equal(switched.heat_map(word), other.heat_map(word))


def test_a_dropped_word_is_looked_at_by_nothing(pipe: Any) -> None:
    dropped = run(pipe, "a red circle", intervene.drop("red", (1, 2)))
    assert dropped.heat_map("red", step=1).max() == 0
    assert dropped.heat_map("red", step=0).max() > 0
    assert dropped.heat_map("circle", step=1).mean() > run(pipe, "a red circle").heat_map("circle", step=1).mean()


def test_a_word_of_the_later_prompt_can_be_weighted(pipe: Any) -> None:
    switch = intervene.switch("a green star", 1)
    plain = run(pipe, "a red circle", switch)
    weighted = run(pipe, "a red circle", switch, intervene.weight("green", 4.0))
    assert np.array_equal(weighted.latents[:2], plain.latents[:2])
    assert not np.array_equal(weighted.latents[2], plain.latents[2])
    with pytest.raises(KeyError, match="'green'"):
        run(pipe, "a red circle", switch, intervene.weight("green", 4.0, (0, 1)))


def test_frozen_attention_is_that_of_the_other_run(pipe: Any) -> None:
    first = run(pipe, "a red circle")
    assert np.array_equal(run(pipe, "a red circle", intervene.freeze(first, 2)).latents, first.latents)
    plain = run(pipe, "a big green house")
    frozen = run(pipe, "a big green house", intervene.freeze(first, 2))
    places = {word.tokens: index for index, word in enumerate(first.words) if word.kind == "word"}
    alike = [(index, places[word.tokens]) for index, word in enumerate(frozen.words) if word.tokens in places]
    assert alike
    for position, other in alike:
        for step in (0, 1):
            maps = frozen.heat_maps(step=step)[position], first.heat_maps(step=step)[other]
            np.testing.assert_allclose(*maps, atol=1e-6)
    assert not np.array_equal(frozen.latents[1], plain.latents[1])
    assert np.array_equal(run(pipe, "a big green house", intervene.freeze(first, 0)).latents, plain.latents)


def test_frozen_without_guidance(pipe: Any) -> None:
    first = run(pipe, "a red circle", guidance_scale=1.0)
    assert np.array_equal(
        run(pipe, "a red circle", intervene.freeze(first, 3), guidance_scale=1.0).latents, first.latents
    )


def test_an_intervened_step_is_not_asked_again(pipe: Any) -> None:
    changed = run(pipe, "a red circle", intervene.weight("red", 2.0, (1, 2)), intervene.switch("a green star", 2))
    denoiser(changed, 0)
    denoiser(changed, 2)  # its arguments are those of the later prompt
    with pytest.raises(ValueError, match="made with an intervention"):
        denoiser(changed, 1)


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "a weight of nan": (lambda: intervene.weight("red", float("nan")), ValueError, "factor must be a number from"),
    "an infinite weight": (lambda: intervene.weight("red", float("inf")), ValueError, "factor must be a number from"),
    "a weight that is no number": (lambda: intervene.weight("red", "2"), TypeError, "factor"),  # type: ignore[arg-type]
    "a word that is none": (lambda: intervene.drop(" "), ValueError, "empty"),
    "no words": (lambda: intervene.drop([]), ValueError, "empty"),
    "a word of another type": (lambda: intervene.drop(1.5), TypeError, "word"),  # type: ignore[arg-type]
    "steps that end before they begin": (lambda: intervene.drop("red", (3, 1)), ValueError, "steps"),
    "steps before the first": (lambda: intervene.drop("red", (-1, 1)), ValueError, "steps must be an integer from 0"),
    "steps that are no range": (lambda: intervene.drop("red", 3), TypeError, "steps"),  # type: ignore[arg-type]
    "a switch to no text": (lambda: intervene.switch(None, 1), TypeError, "prompt"),  # type: ignore[arg-type]
    "a switch before the first step": (lambda: intervene.switch("a", -1), ValueError, "step must be an integer from 0"),
    "a freeze of no trace": (lambda: intervene.freeze("run", 1), TypeError, "trace"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_in_itself_is_said_at_once(case: str) -> None:
    make, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        make()


def test_what_does_not_fit_the_run_is_said_before_its_first_step(pipe: Any, tmp_path: Path) -> None:
    first = run(pipe, "a red circle")
    cases: list[tuple[intervene.Intervention, type[Exception], str]] = [
        (intervene.weight("purple", 2.0), KeyError, "its words are: 'a', 'red', 'circle'"),
        (intervene.drop("purple", (1, 1)), KeyError, "purple"),
        (intervene.weight(99, 2.0), IndexError, "99"),
        (intervene.weight("red", 1.0, (0, 4)), ValueError, "3 steps"),
        (intervene.drop("red", (4, None)), ValueError, "3 steps"),
        (intervene.switch("a green star", 4), ValueError, "3 steps"),
        (intervene.drop([*range(len(first.words) - 1)], (2, 3)), ValueError, "nothing is left"),
        (intervene.freeze(run(pipe, "a", steps=2), 2), ValueError, "2 steps and this run 3"),
        (intervene.freeze(first, 4), ValueError, "3 steps"),
        (intervene.freeze(open_trace(first.save(tmp_path / "a.safetensors")), 2), ValueError, "opened from a file"),
        (intervene.freeze(run(pipelines.stable_diffusion(), "a"), 2), ValueError, "another model"),
        (intervene.freeze(run(pipe, "a", height=48, width=32), 2), ValueError, "same height"),
        (intervene.freeze(run(pipe, "a red circle", intervene.drop("red")), 2), ValueError, "with an intervention"),
    ]
    for intervention, error, message in cases:
        tracer = Tracer(pipe, interventions=[intervention])
        with pytest.raises(error, match=message), tracer:
            pipe("a red circle", num_inference_steps=3)
        assert not tracer.traces or not tracer.trace.steps
    assert np.array_equal(run(pipe, "a red circle").latents, first.latents)


def test_joint_attention_is_not_frozen(pipe: Any) -> None:
    first = run(pipe, "a red circle")
    joint = pipelines_joint.stable_diffusion_3()
    with pytest.raises(ValueError, match="gigabytes"), intervene.on(joint, intervene.freeze(first, 1)):
        pass
    with pytest.raises(TypeError, match="interventions"):
        Tracer(pipe, interventions=["weight"])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="weight, drop, switch or freeze"), intervene.on(pipe, "weight"):  # type: ignore[arg-type]
        pass


def test_a_prompt_of_another_length(pipe: Any) -> None:
    long = "a tiny old green house with a red door, above a big blue fish in the sea"
    qwen = build("qwen")
    expected = call("qwen", qwen, prompt=long)
    with intervene.on(qwen, intervene.switch(long, 0)):
        assert np.array_equal(call("qwen", qwen), expected)
    with intervene.on(pipe, intervene.switch(long + long, 1)):  # as many positions, however long
        assert np.isfinite(pipe("a red circle", num_inference_steps=2, output_type="np").images).all()
