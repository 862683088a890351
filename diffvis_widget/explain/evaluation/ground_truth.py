"""Runs with known ground truth at every step: each step's input is a rendered scene, noised to the step's level.

In an ordinary run the model decides where objects go, so that no mask exists. Here the latents of every step are
replaced by those of a held-out rendering plus fresh noise of that step's level, so that the rendering's masks are valid
at every level. The first step's input is pure noise (the model's schedule ends at zero signal): a map of that step can
only reflect the caption.
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
from diffvis_widget.traces.types import Size

GUIDANCE = 7.5


@dataclass(frozen=True)
class Region:
    """The region of a caption word.

    Attributes:
        word: Index in `trace.words`.
        role: Role of the word: "object", "colour", "setting", ...
        thing: Index of the scene's object that the word describes; None for the setting.
        mask: bool (H, W), the pixels of the region.
    """

    word: int
    role: str
    thing: int | None
    mask: NDArray[np.bool_]


class Rendering:
    """A rendered scene as latents of a pipeline.

    Args:
        pipe: The scenes pipeline, whose VAE encodes the image.
        scene: The scene.
        seed: Seed of the noise of every step, 0 or more.
    """

    def __init__(self, pipe: Any, scene: Scene, seed: int) -> None:
        self.scene = scene
        self.seed = seed
        pixels = torch.from_numpy(scene.image).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.no_grad():
            self._clean: Tensor = pipe.vae.encode(pixels).latent_dist.mean * pipe.vae.config["scaling_factor"]

    @property
    def latent_size(self) -> Size:
        """(h, w) of the latents."""
        return int(self._clean.shape[2]), int(self._clean.shape[3])

    def arguments(self, pipe: Any, steps: int | None = None, timesteps: Sequence[int] | None = None) -> dict[str, Any]:
        """Build the keyword arguments for the pipeline, `dv.trace` or `relevance` that make every step see this scene.

        Args:
            pipe: The pipeline to call; its scheduler's timesteps are set.
            steps: Number of denoising steps.
            timesteps: The timesteps themselves, used in place of `steps`.

        Returns:
            The keyword arguments.
        """
        schedule = {"num_inference_steps": steps} if timesteps is None else {"timesteps": list(timesteps)}
        scheduler = pipe.scheduler
        if timesteps is None:
            scheduler.set_timesteps(steps)
        else:
            scheduler.set_timesteps(timesteps=list(timesteps))
        first = self._noised(scheduler, scheduler.timesteps[0])

        def replace_latents(pipe: Any, index: int, timestep: Any, inputs: dict[str, Any]) -> dict[str, Any]:
            following = pipe.scheduler.timesteps[index + 1 : index + 2]
            return {"latents": self._noised(pipe.scheduler, following[0])} if len(following) else inputs

        return {
            **schedule,
            "latents": first,
            "guidance_scale": GUIDANCE,
            "callback_on_step_end": replace_latents,
            "seed": self.seed,
        }

    def _noised(self, scheduler: Any, timestep: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(1000 * self.seed + int(timestep))
        noise = torch.randn(self._clean.shape, generator=generator, dtype=torch.float32)
        return scheduler.add_noise(self._clean, noise, timestep[None])

    def regions(self, trace: Trace) -> list[Region]:
        """Find the caption's words that have a visible region.

        Args:
            trace: A run of the scene's caption.

        Returns:
            The regions; masks that are empty or cover the whole image are left out.
        """
        typed = [index for index, word in enumerate(trace.words) if word.kind == "word"]
        return [
            # captions hold nothing but words and single spaces
            Region(typed[self.scene.caption[: mention.start].count(" ")], mention.role, mention.thing, mask)
            for mention, mask in zip(self.scene.mentions, self.scene.masks, strict=True)
            if mask.any() and not mask.all()
        ]

    @property
    def objects(self) -> NDArray[np.bool_]:
        """The pixels of all objects: bool (H, W)."""
        masks = [
            mask
            for mention, mask in zip(self.scene.mentions, self.scene.masks, strict=True)
            if mention.role == "object"
        ]
        return np.any(masks, axis=0)
