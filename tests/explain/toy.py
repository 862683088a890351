"""A denoiser whose dependence on its latents is known, and a live trace of one step of it. Not a test: a workshop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diffvis_widget.tracer import fingerprint
from diffvis_widget.tracer.denoiser_inputs import LiveCall, set_live_call
from diffvis_widget.tracer.families.unet import FAMILY as UNET
from diffvis_widget.tracer.noise_levels import NoiseLevel
from diffvis_widget.traces import Record, Step, Trace
from tests.traces.build import fake_decoder

SHAPE = (4, 8, 8)
ALPHA = 1.25**-0.5  # with sigma half as large, of unit variance


class Toy(nn.Module):
    """Any function of the latents, dressed as a denoiser: rows without text give half of it, for guidance."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.anything = nn.Parameter(torch.zeros(2))
        self.rows: list[int] = []

    def forward(self, sample: Tensor, timestep: Any, encoder_hidden_states: Tensor, return_dict: bool = True) -> Any:
        self.rows.append(len(sample))
        return (self.function(sample) * encoder_hidden_states[:, :1, :1, None],)


def regional(mask: np.ndarray, seed: int = 0) -> Callable[[Tensor], Tensor]:
    """Each latent pixel of the mask (h, w) adds its own random pattern to the whole output; others do nothing."""
    rng = np.random.default_rng(seed)
    count = int(np.prod(SHAPE))
    weights = rng.standard_normal((count, count)) / 8
    weights[np.broadcast_to(~mask, SHAPE).reshape(-1)] = 0
    matrix = torch.from_numpy(weights).float()
    return lambda latents: (latents.flatten(1) @ matrix).reshape(latents.shape)


def toy_trace(
    function: Callable[[Tensor], Tensor], guidance: float = 3.0, seed: int = 1, prediction: str = "epsilon"
) -> tuple[Trace, Toy]:
    """One step, sigma 0.5. f = 0.5 F + guidance (F - 0.5 F). Keep the module: traces do not."""
    module = Toy(function)
    latents = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(seed))
    text = torch.tensor([0.5, 1.0]).view(2, 1, 1).expand(2, 5, 3)
    call = LiveCall(UNET)
    call.levels.append(NoiseLevel(ALPHA, 0.5 * ALPHA, prediction))
    both = torch.cat([latents] * 2)
    call.evaluated(
        module, (both, 500), {"encoder_hidden_states": text}, 2, {"negative": slice(0, 1), "prompt": slice(1, 2)}
    )
    half, whole = module(both, 500, text)[0].chunk(2)
    output = half + guidance * (whole - half)

    class Pipe:
        guidance_scale = guidance

    call.stepped(Pipe(), latents, output)
    trace = Trace(
        prompt="toy",
        negative_prompt=None,
        words=[],
        layers=[],
        keep="layers",
        meta={"fingerprint": fingerprint(module)},
        decoder=fake_decoder,
    )
    array = latents[0].numpy()
    trace.append(Record(Step(0, 500.0, 0.5), array, array, array, None, 1.0, ()))
    set_live_call(trace, call, 0)
    module.rows.clear()
    return trace, module
