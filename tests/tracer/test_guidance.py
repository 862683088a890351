"""Which guidance a pipeline used, found from its answers and its output alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffvis_widget.tracer.guidance import (
    Guidance,
    classifier_free,
    first_channels,
    fit_guidance,
    norm_limiting,
    norm_preserving,
)


def answers(closeness: float = 0.1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(1, 4, 8, 6, generator=generator)
    return first, first + closeness * torch.randn(1, 4, 8, 6, generator=generator)


def by_hand(c: Tensor, u: Tensor, scale: float, way: str) -> Tensor:
    guided = u + scale * (c - u)
    if way == "rescaled":
        return 0.7 * guided * (c.std() / guided.std()) + 0.3 * guided
    if way == "negative":
        return -guided
    if way == "rows":  # each row of pixels as long as the prompt's
        for channel in range(4):
            for y in range(8):
                guided[0, channel, y] *= c[0, channel, y].norm() / guided[0, channel, y].norm()
    elif way == "squares":  # each square of two by two pixels, over the channels
        for y in range(0, 8, 2):
            for x in range(0, 6, 2):
                part = (0, slice(None), slice(y, y + 2), slice(x, x + 2))
                guided[part] *= c[part].norm() / guided[part].norm()
    elif way == "limited":  # as squares, but none becomes longer
        for y in range(0, 8, 2):
            for x in range(0, 6, 2):
                part = (0, slice(None), slice(y, y + 2), slice(x, x + 2))
                guided[part] *= min(1.0, float(c[part].norm() / guided[part].norm()))
    elif way == "channels":  # only the first three
        guided[:, 3:] = c[:, 3:]
    return guided


WAYS = ["plain", "negative", "rows", "squares", "channels"]
FORMS = {
    "rows": norm_preserving(0),
    "squares": norm_preserving(2),
    "limited": norm_limiting(2),
    "channels": first_channels(3),
}


@pytest.mark.parametrize("sign", [1, -1])
def test_references_have_a_scale_of_their_own(sign: int) -> None:
    c, u = answers()
    r = u + 0.1 * torch.randn(c.shape, generator=torch.Generator().manual_seed(1))
    output = sign * (u + 1.6 * (r - u) + 2.5 * (c - r))
    guidance, off = fit_guidance(c, u, output, 2.5, 0.0, references=r)
    assert off < 1e-5
    assert (guidance.scale, guidance.sign) == (2.5, sign)
    assert guidance.reference_scale == pytest.approx(1.6, abs=1e-4)
    torch.testing.assert_close(guidance(u, r, c), sign * (r + 1.6 * (c - r) + 2.5 * (u - c)), atol=1e-4, rtol=0)
    _, off = fit_guidance(c, u, (c * u).sin(), 2.5, 0.0, references=r)
    assert off > 0.1


@pytest.mark.parametrize(
    ("way", "scale_is_passed"),
    [("rescaled", True), ("limited", True), *((way, passed) for way in WAYS for passed in (True, False))],
)
def test_the_way_is_found(way: str, scale_is_passed: bool) -> None:
    c, u = answers()
    output = by_hand(c, u, 4.5, way)
    guidance, off = fit_guidance(
        c,
        u,
        output,
        4.5 if scale_is_passed else None,
        0.7 if way == "rescaled" else 0.0,
        FORMS.get(way, classifier_free),
    )
    assert off < 1e-5
    assert guidance.scale == pytest.approx(4.5, rel=1e-4)
    assert guidance.sign == (-1 if way == "negative" else 1)
    assert guidance.norm_side == {"rows": 0, "squares": 2, "limited": 2}.get(way)
    # and it holds for other answers too
    other, against = answers(0.5)
    torch.testing.assert_close(guidance(other, against), by_hand(other, against, 4.5, way), atol=2e-4, rtol=2e-4)


def test_what_the_pipeline_says_is_not_believed_blindly() -> None:
    c, u = answers()
    guidance, off = fit_guidance(c, u, by_hand(c, u, 3.0, "plain"), 7.5, 0.0)
    assert guidance.scale == pytest.approx(3.0, rel=1e-4)
    assert off < 1e-5


def test_without_a_negative_prompt() -> None:
    c, u = answers()
    assert fit_guidance(c, None, c, 7.5, 0.0) == (Guidance(None), 0.0)
    assert fit_guidance(c, None, -c, None, 0.0) == (Guidance(None, sign=-1.0), 0.0)
    _, off = fit_guidance(c, None, u, None, 0.0)
    assert off > 0.05


def test_another_way_is_far_off() -> None:
    c, u = answers()
    _, off = fit_guidance(c, u, (c * u).sin(), 7.5, 0.0, norm_preserving(2))
    assert off > 0.1
