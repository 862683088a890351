"""The arguments of a pipeline's call are checked against its signature before the run."""

from __future__ import annotations

from typing import Any

import pytest

from diffvis_widget.tracer.call_arguments import check_call_arguments


class Plain:
    def __call__(self, prompt: str, guidance_scale: float = 7.5, height: int | None = None) -> None: ...


class PassesOn(Plain):
    def __call__(self, prompt: str, strength: float = 0.5, **kwargs: Any) -> None: ...  # pyright: ignore[reportIncompatibleMethodOverride]


class Retired(PassesOn):
    __module__ = "diffusers.pipelines.retired"


@pytest.mark.parametrize("pipe", [Plain(), PassesOn(), Retired()], ids=["plain", "open", "of diffusers"])
def test_arguments_of_the_signature_are_taken(pipe: Any) -> None:
    check_call_arguments(pipe, {"guidance_scale": 3, "height": 64})


@pytest.mark.parametrize("pipe", [Plain(), PassesOn(), Retired()], ids=["plain", "open", "of diffusers"])
def test_a_misspelt_argument_is_refused_with_the_name_that_was_meant(pipe: Any) -> None:
    with pytest.raises(TypeError, match=r"takes no guidance_scal=; did you mean 'guidance_scale'\?"):
        check_call_arguments(pipe, {"guidance_scal": 3})


def test_an_unknown_argument_is_passed_on_by_a_pipeline_with_kwargs_alone() -> None:
    check_call_arguments(PassesOn(), {"whatever": object()})
    for pipe in (Plain(), Retired()):
        with pytest.raises(TypeError, match=r"takes no whatever=; it takes prompt"):
            check_call_arguments(pipe, {"whatever": object()})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"guidance_scale": float("nan")}, ValueError, "guidance_scale must be a finite number, not nan"),
        ({"strength": float("inf")}, ValueError, "strength must be a finite number, not inf"),
        ({"whatever": float("-inf")}, ValueError, "whatever must be a finite number"),
        ({"guidance_scale": "high"}, TypeError, "guidance_scale must be a number, not 'high'"),
        ({"guidance_scale": True}, TypeError, "guidance_scale must be a number, not True"),
        ({"height": -8}, ValueError, "height must be an integer from 1 to 65536, not -8"),
        ({"height": 64.0}, TypeError, "height must be an integer from 1 to 65536"),
        ({"height": 10**30}, ValueError, "height must be an integer from 1 to 65536"),
    ],
)
def test_numbers_that_no_call_can_mean_are_refused(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        check_call_arguments(PassesOn(), arguments)
