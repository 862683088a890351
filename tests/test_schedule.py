"""Early and late time steps against the published list, and which schedulers can take them."""

from __future__ import annotations

import inspect
from typing import Any

import diffusers
import pytest

from diffvis_widget.schedule import TAKE_TIMESTEPS, pipeline_arguments, timesteps

PUBLISHED = [
    *[999, 893, 884, 875, 865, 854, 842, 829, 816, 801, 785, 768, 749, 729, 708],
    *[684, 659, 632, 602, 571, 536, 499, 459, 416, 370, 319, 265, 206, 143, 74],
]


def scheduler(name: str, **config: Any) -> Any:
    return getattr(diffusers, name)(**config)


def test_early_meets_the_published_list_to_the_number() -> None:
    assert timesteps("early", steps=30, strength=60, train_steps=1000) == PUBLISHED
    assert timesteps("early") == PUBLISHED


def test_late_mirrors_early() -> None:
    late = timesteps("late", steps=30, strength=60)
    assert late[0] == 999
    # both are made of the same powers, one counted from the end
    assert [1000 - step for step in late[:0:-1]] == timesteps("early", steps=30, strength=60)[1:]


@pytest.mark.parametrize("kind", ["early", "late"])
@pytest.mark.parametrize(("steps", "strength"), [(1, 0), (2, 5), (10, 60), (30, 60), (50, 60), (100, 80), (300, 1000)])
def test_steps_fall_strictly_within_the_training_range(kind: Any, steps: int, strength: float) -> None:
    times = timesteps(kind, steps, strength)
    assert len(times) == steps
    assert times == sorted(set(times), reverse=True)
    assert 0 <= times[-1] <= times[0] <= 999


def test_early_is_early_and_late_is_late() -> None:
    early, late = timesteps("early", 30, 30), timesteps("late", 30, 30)
    assert sum(step > 500 for step in early) > 15 > sum(step > 500 for step in late)


@pytest.mark.parametrize("kind", ["early", "late"])
def test_repeats_name_the_smallest_strength_that_works(kind: Any) -> None:
    with pytest.raises(ValueError, match=r"the smallest that works is 77$"):
        timesteps(kind, steps=100, strength=10)
    assert len(set(timesteps(kind, steps=100, strength=77))) == 100
    with pytest.raises(ValueError, match="repeats"):
        timesteps(kind, steps=100, strength=76)


def test_too_strong_repeats_too() -> None:
    with pytest.raises(ValueError, match="smallest that works is 716"):
        timesteps("late", steps=300, strength=5000)


def test_too_many_steps_have_no_strength() -> None:
    with pytest.raises(ValueError, match="no strength works for 400 steps"):
        timesteps("early", steps=400, strength=60)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("middle",), ValueError),
        (("uniform",), ValueError),
        (("early", 0), ValueError),
        (("early", -1), ValueError),
        (("early", 1.5), TypeError),
        (("early", True), ValueError),
        (("early", 30, -1), ValueError),
        (("early", 30, float("nan")), ValueError),
        (("early", 30, "60"), TypeError),
        (("early", 30, 60, 0), ValueError),
    ],
)
def test_bad_arguments(arguments: tuple[Any, ...], error: type[Exception]) -> None:
    with pytest.raises(error):
        timesteps(*arguments)


def test_uniform_is_left_to_the_scheduler() -> None:
    assert pipeline_arguments(scheduler("DDIMScheduler"), "uniform", 30, 60) == {"num_inference_steps": 30}


@pytest.mark.parametrize("name", TAKE_TIMESTEPS)
def test_the_schedulers_named_in_errors_take_time_steps(name: str) -> None:
    arguments = pipeline_arguments(scheduler(name), "early", 30, 60)
    assert arguments == {"timesteps": PUBLISHED}
    if name in ("LCMScheduler", "TCDScheduler"):
        return  # distilled models only know the time steps of their own schedule, and raise an error that says so
    instance = scheduler(name)
    instance.set_timesteps(**arguments)
    assert [int(step) for step in dict.fromkeys(instance.timesteps.tolist())] == PUBLISHED


@pytest.mark.parametrize(
    "name",
    [
        *["DDIMScheduler", "PNDMScheduler", "UniPCMultistepScheduler", "DEISMultistepScheduler"],
        *["EulerAncestralDiscreteScheduler", "KDPM2DiscreteScheduler", "LMSDiscreteScheduler"],
    ],
)
def test_the_others_are_refused_with_those_that_would_do(name: str) -> None:
    assert "timesteps" not in inspect.signature(getattr(diffusers, name).set_timesteps).parameters
    with pytest.raises(ValueError, match=f"{name} takes no custom timesteps.*DPMSolverMultistepScheduler"):
        pipeline_arguments(scheduler(name), "early", 30, 60)


def test_a_scheduler_with_its_own_spacing_is_refused() -> None:
    karras = scheduler("DPMSolverMultistepScheduler", use_karras_sigmas=True)
    with pytest.raises(ValueError, match="use_karras_sigmas"):
        pipeline_arguments(karras, "late", 30, 60)


def test_flow_matching_goes_through_sigmas() -> None:
    flow = scheduler("FlowMatchEulerDiscreteScheduler", shift=3.0)
    arguments = pipeline_arguments(flow, "early", 30, 60)
    assert arguments == {"sigmas": [step / 1000 for step in PUBLISHED]}
    flow.set_timesteps(**arguments)
    shifted = [3 * sigma / (1 + 2 * sigma) for sigma in arguments["sigmas"]]
    assert flow.sigmas.tolist()[:-1] == pytest.approx(shifted, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("FlowMatchEulerDiscreteScheduler", {}),
        ("FlowMatchLCMScheduler", {}),
        ("UniPCMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}),
    ],
)
@pytest.mark.parametrize("kind", ["early", "late"])
def test_the_schedulers_of_flow_matching_take_the_sigmas_of_a_schedule(
    name: str, config: dict[str, Any], kind: Any
) -> None:
    instance = scheduler(name, **config)
    arguments = pipeline_arguments(instance, kind, 6, 20)
    instance.set_timesteps(**arguments)
    shift = config.get("flow_shift", 1.0)
    expected = [shift * step / (1000 + (shift - 1) * step) for step in timesteps(kind, 6, 20)]
    assert instance.sigmas.tolist() == pytest.approx([*expected, 0.0], rel=1e-5)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("FlowMatchHeunDiscreteScheduler", {}),
        # takes a list of time steps, but ignores it when it does flow matching
        ("DPMSolverMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}),
    ],
)
def test_flow_schedulers_without_sigmas_are_refused(name: str, config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"takes no custom sigmas.*FlowMatchEulerDiscreteScheduler"):
        pipeline_arguments(scheduler(name, **config), "early", 30, 60)


def test_bad_schedule_and_steps() -> None:
    with pytest.raises(ValueError, match="schedule must be one of 'uniform', 'early', 'late', not 'soon'"):
        pipeline_arguments(scheduler("DDPMScheduler"), "soon", 30, 60)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match=r"num_inference_steps must be an integer of 1 or more, not 1\.5"):
        pipeline_arguments(scheduler("DDPMScheduler"), "uniform", 1.5, 60)  # pyright: ignore[reportArgumentType]
