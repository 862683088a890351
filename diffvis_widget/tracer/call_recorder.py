"""One pipeline call while it is traced: what is captured at each step, brought to the CPU, and laid into its traces.

On a GPU nothing waits inside a step: copies go to pinned memory behind the kernels that fill them, and are read when
they have arrived. At the latest when somebody asks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffvis_widget.tracer.families import Family
from diffvis_widget.traces import Layer, Record, Step, Trace, Word
from diffvis_widget.traces.heat_maps import StepMaps
from diffvis_widget.traces.resize import mean_maps
from diffvis_widget.traces.trace import Decoder, Keep

from .active_interventions import Prompts
from .attention import Taken
from .attention_probabilities import Maps
from .denoiser_inputs import LiveCall, remember
from .noise_levels import NoiseLevels
from .prompt_encoding import Request


@dataclass
class Captured:
    """One step, on its way from the device. Tensors lie on the CPU, or will when `arrived` has happened."""

    index: int | None
    timestep: Tensor | float
    second_order: bool
    sample: Tensor
    output: Tensor
    result: Tensor
    halves: Tensor | None
    maps: dict[Taken, Maps]
    prompt_matches: Tensor | None
    arrived: torch.cuda.Event | None = None

    def ready(self, wait: bool) -> bool:
        if self.arrived is None:
            return True
        if wait:
            self.arrived.synchronize()
        return wait or self.arrived.query()


def fetch(tensor: Tensor, own: bool = False) -> Tensor:
    """A copy on the CPU that later changes of `tensor` do not reach; on CUDA it fills while the device goes on.

    own: nobody else holds the tensor, so that on the CPU it may be kept as it is.
    """
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()  # numpy has no bfloat16; widening loses nothing
    if not tensor.is_cuda:
        return tensor if own and tensor.device.type == "cpu" else tensor.cpu().clone()
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)


class Run:
    """The traces of one pipeline call, one per image."""

    def __init__(
        self,
        family: Family,
        request: Request,
        prompts: Prompts,
        levels: NoiseLevels,
        heads: Mapping[str, int],
        keep: Keep,
        output: bool,
        meta: Mapping[str, Any],
        seeds: Sequence[int | None],
        decoder: Decoder,
    ) -> None:
        self.family = family
        self.request = request
        self.prompts = prompts
        self.levels = levels
        self.heads = heads
        self.keep: Keep = keep
        self.output = output
        self.meta = dict(meta)
        self.seeds = seeds
        self.decoder = decoder
        self.traces: list[Trace] = []
        self.steps = 0
        self.last_result: Tensor | None = None
        self.live = LiveCall(family)
        self._ran: dict[Taken, dict[str, Tensor]] = {}  # each layer's latest maps, for steps that a cache skips
        self._result: tuple[Tensor, int, Tensor] | None = None
        self._waiting: deque[Captured] = deque()

    def remember(self, result: Tensor, fetched: Tensor) -> None:
        """A step's result is the next one's sample: it need not be copied twice."""
        # tensors of inference mode do not tell whether somebody wrote into them
        self._result = None if result.is_inference() else (result, result._version, fetched)

    def known(self, sample: Tensor) -> Tensor | None:
        """The copy of this very tensor, if it was the last step's result and nobody has written into it since."""
        if self._result is None:
            return None
        result, version, fetched = self._result
        return fetched if result is sample and result._version == version else None

    @property
    def queued(self) -> int:
        """How many steps were made so far, those that have not arrived yet included."""
        return self.steps + len(self._waiting)

    def add(self, captured: Captured, device: torch.device) -> None:
        """Queue a step whose tensors are on their way."""
        if device.type == "cuda":
            captured.arrived = torch.cuda.Event()
            captured.arrived.record(torch.cuda.current_stream(device))
        self._waiting.append(captured)

    def settle(self, wait: bool) -> list[Step]:
        """Lay the steps that have arrived (all of them, if `wait`) into the traces, and return them."""
        done: list[Step] = []
        while self._waiting and self._waiting[0].ready(wait):
            done.append(self._lay(self._waiting.popleft()))
        return done

    def _lay(self, captured: Captured) -> Step:
        if captured.prompt_matches is not None and not bool(captured.prompt_matches):
            raise RuntimeError(
                "the rows of the denoiser's batch that should carry the prompt carry something else: this pipeline "
                f"orders its batch in a way that the {self.family.name} entry does not know, so it cannot be traced"
            )
        timestep = float(captured.timestep)
        second = captured.second_order or self.levels.corrects(captured.index)
        level = self.levels.at(captured.index, timestep, second)
        self.live.levels.append(level)
        step = Step(self.steps, timestep, float(np.float32(level.ratio)), second)
        sample, output, result = (part.numpy() for part in (captured.sample, captured.output, captured.result))
        output = output[:, : sample.shape[1]]  # a learned variance follows the prediction
        clean = level.clean(sample, output).astype(sample.dtype)
        guidance = _guidance(captured.halves, sample.shape[1])
        size = (int(sample.shape[2]), int(sample.shape[3]))
        if not self.traces:
            self._open(captured, size)
        ran, scored = (
            {site: self.prompts.spread(maps, self.steps) for site, maps in _by_site(captured, part).items()}
            for part in ("prompt", "output")
        )
        for image, trace in enumerate(self.traces):
            reused = tuple(index for index, layer in enumerate(trace.layers) if layer.name not in ran)
            trace.append(
                Record(
                    step=step,
                    latents=sample[image],
                    result=result[image],
                    prediction=clean[image],
                    guidance=None if guidance is None else guidance[image],
                    visible=level.visible,
                    maps=self._maps(ran, trace, trace.words, image),
                    negative=self._negative(captured, trace, image),
                    reused=reused,
                    outputs=self._maps(scored, trace, trace.words, image, "output") if self.output else None,
                )
            )
        for part in captured.maps:
            latest = {"prompt": ran, "output": scored}.get(part) or _by_site(captured, part)
            self._ran[part] = {**self._ran.get(part, {}), **latest}
        self.steps += 1
        return step

    def _open(self, captured: Captured, size: tuple[int, int]) -> None:
        """Make the traces: only now is it known on which grids the layers work."""
        layers: list[Layer] = []
        for name, maps in _by_site(captured, "prompt").items():
            grid = self.family.grid(int(maps.shape[2]), size)
            if grid is None:
                raise RuntimeError(f"{name} has {maps.shape[2]} image positions, which fit no grid of {size} latents")
            layers.append(Layer(name, self.family.attention_kind, self.heads[name], grid, False))
        layers = [replace(layer, default=self.family.is_default_layer(layer, layers)) for layer in layers]
        negative = self.request.negative
        for image in range(self.request.images):
            self.traces.append(
                Trace(
                    prompt=self.request.prompt.typed[image] or "",
                    negative_prompt=None if negative is None else negative.typed[image],
                    words=self.prompts.words[image],
                    negative_words=negative.words[image] if negative is not None and negative.typed[image] else None,
                    layers=layers,
                    keep=self.keep,
                    meta={
                        **self.meta,
                        "seed": self.seeds[image % len(self.seeds)],
                        "image_index": image,
                        "prompt_2": self.request.second[image],
                    },
                    decoder=self.decoder,
                )
            )
            remember(self.traces[-1], self.live, image)

    def _negative(self, captured: Captured, trace: Trace, image: int) -> StepMaps | None:
        """None at steps that were made without guidance."""
        if trace.negative_words is None or "negative" not in captured.maps:
            return None
        return self._maps(_by_site(captured, "negative"), trace, trace.negative_words, image, "negative")

    def _maps(
        self, ran: Mapping[str, Tensor], trace: Trace, words: Sequence[Word], image: int, part: Taken = "prompt"
    ) -> StepMaps:
        maps: list[NDArray[np.float16]] = []
        unread = [index for index, word in enumerate(words) if word.kind == "padding"]
        for layer in trace.layers:
            heads = layer.heads if self.keep == "heads" else 1
            source = ran.get(layer.name, self._ran.get(part, {}).get(layer.name))
            if source is None:
                maps.append(np.full((heads, len(words), *layer.grid), np.nan, dtype=np.float16))
                continue
            taken = source[image, :, :, : len(words)].numpy()
            laid = np.moveaxis(taken, -1, 1).reshape(taken.shape[0], len(words), *layer.grid)
            laid = np.array(laid, dtype=np.float16, order="C")
            if layer.kind == "joint":
                laid[:, unread] = np.nan
            maps.append(laid)
        if self.keep != "words" or not maps:
            return tuple(maps)
        chosen = [maps[index][0].astype(np.float32) for index, layer in enumerate(trace.layers) if layer.default]
        return (mean_maps(chosen)[None].astype(np.float16),)

    def finish(self, latents: Tensor | None, images: NDArray[np.uint8] | None) -> None:
        """Keep what the pipeline ended with: final latents, if they are not the last step's, and images."""
        for index, trace in enumerate(self.traces):
            trace.finish(
                image=None if images is None else images[index],
                latents=None if latents is None else latents[index].numpy().astype(trace.records[-1].latents.dtype),
            )


def _by_site(captured: Captured, part: Taken) -> dict[str, Tensor]:
    maps = captured.maps.get(part)
    return {} if maps is None else {site: maps.of(site) for site in maps.places}


def _guidance(halves: Tensor | None, channels: int) -> NDArray[np.float32] | None:
    """Root mean square over channels of conditional minus unconditional output, (images, h, w)."""
    if halves is None:
        return None
    conditional, unconditional = halves.numpy().astype(np.float32)[:, :, :channels]
    return np.sqrt(np.mean((conditional - unconditional) ** 2, axis=1))
