"""Records one pipeline call: copies the tensors of each step to the CPU and appends them to the traces.

On a GPU no step waits for a copy: copies go asynchronously to pinned memory, and are read once they are complete, or
when the trace is read.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffvis_widget.tracer.families import Family
from diffvis_widget.traces import Layer, Record, Step, Trace, Word
from diffvis_widget.traces.results import ReferenceImages
from diffvis_widget.traces.types import Decoder, Keep, Size

from .active_interventions import PromptSchedule
from .attention import MapKind
from .attention_probabilities import FlatMaps
from .attention_rows import LiveAttention
from .call_output import CallEnd
from .concept_encoding import Concepts
from .default_keep import default_keep
from .denoiser_inputs import LiveCall, set_live_call
from .exclusive_words import ExclusiveWords, words_by_share
from .fault_guard import CannotRecordError
from .noise_levels import NoiseLevels
from .noise_sources import NoiseSource, noise_entries
from .prompt_encoding import CallPrompts
from .recorded_maps import RecordedMaps, by_layer
from .reference_images import encoded_references, match_references, reference_grids
from .scheduler_step import read_timestep


@dataclass
class CapturedStep:
    """The tensors of one denoising step, on the CPU or being copied there.

    Attributes:
        index: The scheduler's index of the step; None where it does not count.
        timestep: Of the step.
        second_order: Whether the scheduler corrects an earlier step with it.
        sample: (images, C, h, w), the latents before the step.
        output: (images, C, h, w) or with more channels, what the scheduler received.
        result: (images, C, h, w), the latents after the step.
        branches: (2, images, C, h, w), conditional and unconditional output, or None.
        maps: Attention maps by branch, of all layers that ran.
        prompt_matches: bool (), whether the rows of the prompt carried it; None where it was not checked.
        grid_of: Layer -> the grid that it works on; None where that is not known.
        arrived: Happens when all copies are complete; None where they are.
    """

    index: int | None
    timestep: Tensor | float
    second_order: bool
    sample: Tensor
    output: Tensor
    result: Tensor
    branches: Tensor | None
    maps: dict[MapKind, FlatMaps]
    prompt_matches: Tensor | None
    grid_of: Callable[[str], Size | None]
    arrived: torch.cuda.Event | None = None

    @property
    def size(self) -> Size:
        """(h, w) of the latents."""
        return int(self.sample.shape[-2]), int(self.sample.shape[-1])

    def is_ready(self, wait: bool) -> bool:
        """Whether all tensors are on the CPU.

        Args:
            wait: Wait until they are.

        Returns:
            True if the step can be read.
        """
        if self.arrived is None:
            return True
        if wait:
            self.arrived.synchronize()
        return wait or self.arrived.query()


def fetch(tensor: Tensor, unshared: bool = False) -> Tensor:
    """Copy a tensor to the CPU; from CUDA asynchronously.

    Args:
        tensor: bfloat16 is widened to float32, which numpy has.
        unshared: Nothing else holds the tensor, so that one on the CPU need not be copied.

    Returns:
        A tensor that later writes into `tensor` do not change. From CUDA, it is complete after the work queued so far.
    """
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()  # numpy has no bfloat16; widening loses nothing
    if not tensor.is_cuda:
        return tensor if unshared and tensor.device.type == "cpu" else tensor.cpu().clone()
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)


class CallRecorder:
    """Builds the traces of one pipeline call, one per image.

    Args:
        family: The denoiser's family.
        prompts: The prompts of the call.
        schedule: Which prompt is in force at which step.
        levels: Noise levels of the scheduler's steps.
        heads: Number of heads of each attention module.
        keep: Which attention maps to store, as for `Tracer`.
        output: Whether output-space maps are recorded.
        meta: `Trace.meta` of all images.
        noise: The generators, one for each image or one for all.
        decoder: Decodes latents.
        concepts: Words outside the prompt; None without.
        encoded: What the autoencoder encoded in the call.
        groups: The words that exclude each other.

    Attributes:
        traces: One per image, from the first finished step on.
        steps: Number of steps in the traces.
        live: What `denoiser` needs to evaluate the denoiser again.
    """

    traces: list[Trace]
    steps: int
    live: LiveCall

    def __init__(
        self,
        family: Family,
        prompts: CallPrompts,
        schedule: PromptSchedule,
        levels: NoiseLevels,
        heads: Mapping[str, int],
        keep: Keep | None,
        output: bool,
        meta: Mapping[str, Any],
        noise: list[NoiseSource | None],
        decoder: Decoder,
        concepts: Concepts | None = None,
        encoded: Sequence[Tensor] = (),
        groups: Sequence[ExclusiveWords] = (),
    ) -> None:
        self.family = family
        self.prompts = prompts
        self.schedule = schedule
        self.levels = levels
        self.heads = heads
        self.keep: Keep = keep or "layers"
        self._chooses_keep = keep is None
        self.output = output
        self.meta = dict(meta)
        self.noise = noise
        self.decoder = decoder
        self._groups = groups
        self.traces = []
        self.steps = 0
        self.live = LiveCall(family)
        self._encoded = list(encoded)
        self._maps = RecordedMaps(family, self.keep, schedule, prompts.prompt.lengths, concepts)
        self._result: tuple[Tensor, int, Tensor] | None = None
        self._waiting: deque[CapturedStep] = deque()

    @property
    def has_words(self) -> bool:
        """Whether the call is recorded with the words of its prompt."""
        return any(self.prompts.prompt.lengths)

    def remember(self, result: Tensor, fetched: Tensor) -> None:
        """Remember the copy of a step's result, which is the next step's sample.

        Args:
            result: The scheduler's result.
            fetched: Its copy on the CPU.
        """
        # tensors of inference mode have no version, which would show later writes
        self._result = None if result.is_inference() else (result, result._version, fetched)

    def copied(self, sample: Tensor) -> Tensor | None:
        """Find the copy of a step's sample.

        Args:
            sample: As the scheduler receives it.

        Returns:
            The copy, if the sample is the result of the last step and was not written into since.
        """
        if self._result is None:
            return None
        result, version, fetched = self._result
        return fetched if result is sample and result._version == version else None

    @property
    def queued(self) -> int:
        """Number of steps made so far, those whose copies are incomplete included."""
        return self.steps + len(self._waiting)

    @property
    def prompt_words(self) -> Sequence[Sequence[Word]]:
        """Of each image, the words of the prompt that is in force at the next step."""
        return self.schedule.at(self.queued).words

    def add(self, captured: CapturedStep, device: torch.device) -> None:
        """Queue a step whose tensors are being copied.

        Args:
            captured: The step.
            device: The device that the tensors come from.
        """
        if device.type == "cuda":
            captured.arrived = torch.cuda.Event()
            captured.arrived.record(torch.cuda.current_stream(device))
        self._waiting.append(captured)

    def settle(self, wait: bool) -> list[Step]:
        """Append the steps whose copies are complete to the traces.

        Args:
            wait: Wait for the copies of all steps.

        Returns:
            The steps that were appended.

        Raises:
            CannotRecordError: The denoiser received something else than the prompt.
        """
        done: list[Step] = []
        while self._waiting and self._waiting[0].is_ready(wait):
            done.append(self._append(self._waiting.popleft()))
        return done

    def _append(self, captured: CapturedStep) -> Step:
        if captured.prompt_matches is not None and not bool(captured.prompt_matches):
            raise CannotRecordError(
                "the rows of the denoiser's batch that should carry the prompt carry something else: this pipeline "
                f"orders its batch in another way than the family {self.family.name!r}, so it cannot be traced"
            )
        timestep = read_timestep(captured.timestep)
        second = captured.second_order or self.levels.corrects(captured.index)
        level = self.levels.at(captured.index, timestep, second)
        self.live.levels.append(level)
        step = Step(self.steps, timestep, float(np.float32(level.ratio)), second)
        sample, output, result = (part.numpy() for part in (captured.sample, captured.output, captured.result))
        output = output[:, : sample.shape[1]]  # a learned variance follows the prediction
        clean = level.predict_clean(sample, output).astype(sample.dtype)
        guidance = _guidance(captured.branches, sample.shape[1])
        size = (int(sample.shape[-2]), int(sample.shape[-1]))
        if not self.traces:
            self._open(captured, size)
        if not level.is_known:
            for trace in self.traces:
                trace.meta["noise_levels"] = "unknown"
        maps = self._maps
        maps.begin(captured, self.steps)
        ran = maps.ran.get("prompt", {})
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
                    maps=maps.maps(trace, image),
                    negative=maps.negative(trace, image),
                    reused=reused,
                    outputs=maps.maps(trace, image, "output") if self.output else None,
                    refined=maps.refined(captured, trace, image),
                )
            )
        maps.end()
        self.steps += 1
        return step

    def _open(self, captured: CapturedStep, size: Size) -> None:
        """Make the traces. The maps of the first step show on which grids the layers work."""
        layers: list[Layer] = []
        self._maps.frame_axis = tuple(captured.sample.shape[2:-2])
        frames = math.prod(self._maps.frame_axis)
        for name, maps in by_layer(captured, "prompt").items():
            grid = captured.grid_of(name) or self.family.grid(int(maps.shape[2]), size, frames)
            if grid is None:
                raise CannotRecordError(
                    f"{name} has {maps.shape[2]} image positions, which fit no grid of {size} latents"
                )
            layers.append(Layer(name, self.family.attention_kind, self.heads[name], grid, False))
        layers = [replace(layer, default=self.family.is_default_layer(layer, layers)) for layer in layers]
        if self._chooses_keep:
            self.keep = default_keep(layers, frames, max(map(len, self._maps.words)), self.meta["planned_steps"])
            self._maps.keep = self.keep
        negative = self.prompts.negative
        for image in range(self.prompts.images):
            grids = reference_grids(self.family, self.live, layers, image)
            shares = words_by_share(self._groups, self._maps.words[image])
            self.traces.append(
                Trace(
                    prompt=self.prompts.prompt.typed[image] or "",
                    negative_prompt=None if negative is None else negative.typed[image],
                    words=self._maps.words[image],
                    negative_words=negative.words[image] if negative is not None and negative.typed[image] else None,
                    layers=[replace(layer, reference_grids=of) for layer, of in zip(layers, grids, strict=True)],
                    keep=self.keep,
                    meta={
                        **self.meta,
                        **noise_entries(self.noise, image, self.prompts.images),
                        "image_index": image,
                        "prompt_2": self.prompts.second[image],
                        **self._rewritten(image),
                        **({"refined_shares": shares} if shares else {}),
                    },
                    decoder=self.decoder,
                )
            )
            set_live_call(self.traces[-1], self.live, image)
            encoded = encoded_references(self.family, self.live, self._encoded, image)
            self.traces[-1].set_attention_source(LiveAttention())
            if references := match_references(grids[0] if grids else (), encoded, image):
                self.traces[-1].results(ReferenceImages).append(ReferenceImages(tuple(references)))
        self._encoded = []

    def _rewritten(self, image: int) -> dict[str, str]:
        """What was typed, as an entry of `Trace.meta`, where a model rewrote it."""
        typed = self.prompts.typed[image] if self.prompts.typed else None
        return {} if typed is None else {"typed_prompt": typed}

    def final_latents(self) -> Tensor | None:
        """Wait for all steps, and take the latents after the latest one.

        Returns:
            (images, C, h, w), on the CPU; None before the first step.
        """
        self.settle(wait=True)
        results = [trace.records[-1].result for trace in self.traces]
        return torch.from_numpy(np.stack(results)) if results else None

    def finish(self, end: CallEnd) -> None:
        """Set what the pipeline ended with.

        Args:
            end: What it ended with.
        """
        for index, trace in enumerate(self.traces):
            latents = None if end.latents is None else end.latents[index].numpy()
            image = None if end.images is None else end.images[index]
            note = end.notes[index]
            trace.finish(
                image=image,
                decoded=None if end.decoded is None or (image is not None and not note) else end.decoded[index],
                latents=None if latents is None else latents.astype(trace.records[-1].latents.dtype),
            )
            if note is not None:
                trace.meta["image_note"] = note
            if end.crop is not None:
                trace.meta["crop"] = list(end.crop)


def _guidance(branches: Tensor | None, channels: int) -> NDArray[np.float32] | None:
    """RMS over channels of conditional minus unconditional output, float32 (images, ..., h, w)."""
    if branches is None:
        return None
    conditional, unconditional = branches.numpy().astype(np.float32)[:, :, :channels]
    return np.sqrt(np.mean((conditional - unconditional) ** 2, axis=1))
