"""Runs whose ground truth is known at every step: what a step sees is a rendered scene, noised to the step's level.

In a run of its own the model decides where things go, and nobody has drawn the mask. Here each step is given the
latents of a held-out rendering with fresh noise of that step's level instead, whatever the step before made of them, so
that the rendering's masks hold at every level. The first step sees noise alone (the model's schedule ends without
signal): what a map finds there follows from the caption.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffvis_widget.scenes import Scene
from diffvis_widget.traces import Trace

GUIDANCE = 7.5


@dataclass(frozen=True)
class Region:
    """A word of a scene's caption that has a place: its index in `trace.words`, role, thing (None: the setting) and
    mask, bool (H, W)."""

    word: int
    role: str
    thing: int | None
    mask: NDArray[np.bool_]


class Rendering:
    """A rendered scene as the latents of a pipeline.

    arguments(pipe, steps), or arguments(pipe, timesteps=...), is what to call the pipeline, `dv.trace` or `relevance`
    with, so that every step sees this scene. The noise of each step is drawn from `seed`.
    """

    def __init__(self, pipe: Any, scene: Scene, seed: int) -> None:
        self.scene = scene
        self._seed = seed
        pixels = torch.from_numpy(scene.image).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.no_grad():
            self._clean: Tensor = pipe.vae.encode(pixels).latent_dist.mean * pipe.vae.config["scaling_factor"]

    def arguments(self, pipe: Any, steps: int | None = None, timesteps: Sequence[int] | None = None) -> dict[str, Any]:
        """Keyword arguments for the pipeline, with so many steps, or with these timesteps."""
        given = {"num_inference_steps": steps} if timesteps is None else {"timesteps": list(timesteps)}
        scheduler = pipe.scheduler
        if timesteps is None:
            scheduler.set_timesteps(steps)
        else:
            scheduler.set_timesteps(timesteps=list(timesteps))
        first = self._noised(scheduler, scheduler.timesteps[0])

        def forced(pipe: Any, index: int, timestep: Any, inputs: dict[str, Any]) -> dict[str, Any]:
            following = pipe.scheduler.timesteps[index + 1 : index + 2]
            return {"latents": self._noised(pipe.scheduler, following[0])} if len(following) else inputs

        return {
            **given,
            "latents": first,
            "guidance_scale": GUIDANCE,
            "callback_on_step_end": forced,
            "seed": self._seed,
        }

    def _noised(self, scheduler: Any, timestep: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(1000 * self._seed + int(timestep))
        noise = torch.randn(self._clean.shape, generator=generator, dtype=torch.float32)
        return scheduler.add_noise(self._clean, noise, timestep[None])

    def regions(self, trace: Trace) -> list[Region]:
        """The caption's words that have a place and can be seen."""
        spoken = [index for index, word in enumerate(trace.words) if word.kind == "word"]
        return [
            # captions hold nothing but words and single spaces
            Region(spoken[self.scene.caption[: mention.start].count(" ")], mention.role, mention.thing, mask)
            for mention, mask in zip(self.scene.mentions, self.scene.masks, strict=True)
            if mask.any() and not mask.all()
        ]

    @property
    def objects(self) -> NDArray[np.bool_]:
        """Where any thing is: bool (H, W)."""
        masks = [
            mask
            for mention, mask in zip(self.scene.mentions, self.scene.masks, strict=True)
            if mention.role == "object"
        ]
        return np.any(masks, axis=0)
