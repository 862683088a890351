"""Records the pipeline calls of one tracer's with block: what `PipelineCalls` reports, laid into traces."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from diffvis_widget.tracer.families import Family, second_denoiser
from diffvis_widget.traces import Step, Trace
from diffvis_widget.traces.types import Keep

from . import evaluation_checks as checks
from .active_interventions import PromptSchedule, active_on
from .attention import AttentionReader, Branch, MapKind, Reading
from .attention_probabilities import FlatMaps
from .call_output import Decodes, read_call_end, read_failed_call_end
from .call_recorder import CallRecorder, CapturedStep, fetch
from .call_settings import call_settings
from .call_view import CallView
from .fault_guard import FaultGuard
from .guidance_batch import has_known_branches
from .model_outputs import first_entry, prediction
from .noise_levels import NoiseLevels, is_second_order
from .noise_sources import NoiseSource
from .observer import Observer
from .pipeline_calls import CallListener, DenoiserArguments, PipelineCalls
from .preview import make_decoder
from .prompt_encoding import CallPrompts, prompts_without_words
from .provenance import describe
from .refined_maps import MapRefiner
from .scheduler_step import StepArguments, check_scheduler
from .skipped_steps import skipped_steps
from .spatial_inputs import SpatialInputs


class Recording(CallListener):
    """Records the calls of one with block.

    Args:
        pipe: The pipeline.
        family: The family of its denoiser.
        denoiser: Its denoiser.
        reader: Reads the denoiser's attention; attached to its modules.
        guard: Takes the errors of the hooks.
        is_eager: Whether a compiled denoiser runs uncompiled.
        keep: Which attention maps to store, as for `Tracer`.
        observer: Observes each call, or None.
        on_step: Called with each finished step, or None.
        finished: Receives the traces of every call that is over.
    """

    def __init__(
        self,
        pipe: Any,
        family: Family,
        denoiser: nn.Module,
        reader: AttentionReader,
        guard: FaultGuard,
        *,
        is_eager: bool,
        keep: Keep | None,
        observer: Observer | None,
        on_step: Callable[[Step], object] | None,
        finished: list[Trace],
    ) -> None:
        self._pipe = pipe
        self._family = family
        self._denoiser = denoiser
        self._reader = reader
        self._guard = guard
        guard.on_failure = self._abandon
        self._is_eager = is_eager
        self._keep: Keep | None = keep
        self._view = CallView(pipe, observer, guard)
        self._on_step = on_step
        self._finished = finished
        self._thread = threading.get_ident()
        self._calls = PipelineCalls(family, denoiser, self, guard=guard, second=second_denoiser(pipe, family))
        self._grids = SpatialInputs(denoiser, {**reader.modules, **reader.refining}, guard, family.side_by_side)
        self._refiner = MapRefiner(family, reader.modules, self._grids, pipe)
        self._recorder: CallRecorder | None = None
        self._decodes = Decodes()
        self._levels: NoiseLevels | None = None
        self._hidden_words = ""
        self._noise: list[NoiseSource | None] = [None]
        self._forget_step()

    def _forget_step(self) -> None:
        """Forget the evaluations since the last step of the scheduler."""
        self._rows: dict[Branch, slice] = {}
        self._raw: dict[Branch, Tensor] = {}
        self._maps: dict[MapKind, FlatMaps] = {}
        self._matches: Tensor | None = None

    def attach(self) -> None:
        """Hook the denoiser and the pipeline; `detach` removes the hooks."""
        if self._reader.modules:
            self._calls.attach()
            self._grids.attach()
        self._calls.follow(self._pipe)

    def detach(self) -> None:
        """Remove all hooks."""
        self._grids.detach()
        self._calls.detach()

    def close(self, error: BaseException | None) -> None:
        """End the call under way.

        Args:
            error: The exception that ended the with block, or None.
        """
        self.call_ends(error)

    def traces(self) -> list[Trace]:
        """Collect the traces of the call under way.

        Returns:
            One trace per image. In the thread of the block they hold every step made so far.
        """
        recorder = self._recorder
        if recorder is not None and threading.get_ident() == self._thread:
            recorder.settle(wait=True)
        return [] if recorder is None else recorder.traces

    def check_scheduler(self, scheduler: Any) -> None:
        """Check that a scheduler can be followed.

        Args:
            scheduler: The scheduler.
        """
        check_scheduler(scheduler)

    def latents_prepared(self, noise: list[NoiseSource | None]) -> None:
        """Note the generators of the call.

        Args:
            noise: Of the generators, as they were before the pipeline drew from them.
        """
        self._noise = noise

    def timesteps_set(self) -> None:
        """Check again that the denoiser can be observed, and read the noise levels of the call."""
        if not self._is_eager:
            checks.check_compiled(self._denoiser)
        checks.check_processors(self._reader.modules)
        self._levels = NoiseLevels(self._calls.scheduler)

    def evaluation_begins(self, text: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> DenoiserArguments | None:
        """Prepare the reading of the attention.

        Args:
            text: The text embeddings that the denoiser receives.
            args: Positional arguments of the denoiser.
            kwargs: Keyword arguments of the denoiser.

        Returns:
            None: the arguments stay.
        """
        checks.check_processors(self._reader.modules)
        layout = self._calls.latent_layout
        checks.check_input(args, kwargs, layout.input_size)
        recorder = self._recorder
        if self._hidden_words or (recorder is not None and not recorder.has_words):
            return None
        if recorder is None:
            prompts, schedule = self._read_prompts(text)
            step = 0
        else:
            prompts, schedule, step = recorder.prompts, recorder.schedule, recorder.queued
        prompt = schedule.at(step)
        rows = self._calls.rows(replace(prompts, prompt=prompt), text)
        if recorder is None:
            first = rows.get("prompt")
            is_plain = has_known_branches(self._pipe, self._family, prompts, text)
            if not is_plain or first is None or first.stop > len(text) or not prompt.fits(text):
                self._hidden_words = checks.describe_other_text(text, prompt.embeddings)
                return None
            recorder = self._record(prompts, schedule)
            # compared on the device, read after the step
            self._matches = fetch(prompt.equals(text[first]))
        # one evaluation of each branch counts for a step: some guidance methods make more
        self._rows = {branch: part for branch, part in rows.items() if branch not in self._raw}
        recorder.live.evaluated(self._denoiser, args, kwargs, len(text), self._rows)
        readings = [
            Reading(branch, part, texts.targets(text[0].device, padding=self._family.attention_kind == "cross"))
            for branch, part in self._rows.items()
            for texts in [prompt if branch == "prompt" else prompts.negative]
            if texts is not None and (branch == "prompt" or texts.has_text) and texts.fits(text)
        ]
        self._reader.begin(len(text), readings, *layout.places(self._denoiser.forward, args, kwargs))
        return None

    def evaluation_ends(self, output: Any) -> Any:
        """Collect maps and output of the evaluation.

        Args:
            output: Of the denoiser; None where it raised.

        Returns:
            None: the output stays.
        """
        if self._recorder is None:
            return
        self._reader.end()
        checks.check_layers(self._reader, self._grids, self._family, self._calls.latent_layout)
        self._refiner.add(self._reader, self._calls.latent_layout, self._recorder.prompt_words)
        for part, maps in self._reader.maps.items():
            self._maps.setdefault(part, maps)
        self._reader.maps = {}
        if output is not None:
            for branch, rows in self._rows.items():
                self._raw[branch] = prediction(output, rows)
        self._rows = {}

    def step(self, make_step: Callable[[], Any], arguments: StepArguments | None) -> Any:
        """Make a step and record it.

        Args:
            make_step: Makes the step.
            arguments: Arguments of the step; None where they cannot be told apart.

        Returns:
            The result of `make_step`.
        """
        if arguments is None:
            name = type(self._calls.scheduler).__name__
            self._guard.warn(f"a step of {name} is not recorded: its latents are not among its arguments")
            self._forget_step()
            return make_step()
        if self._recorder is None:
            self._record_without_words(arguments.sample)
        recorder = self._recorder
        if recorder is None:
            return make_step()
        completed, scheduler = self._calls.latent_layout.completed, self._calls.scheduler
        second_order = is_second_order(scheduler)
        sample = recorder.copied(arguments.sample)
        if sample is None:
            sample = fetch(completed(arguments.sample))
        checks.check_step(sample, self._calls.latent_layout.size, recorder.prompts.images)
        output, timestep = fetch(completed(arguments.output, of_flow=True)), arguments.timestep
        result = make_step()
        index = getattr(scheduler, "step_index", None)
        if not recorder.queued and self._reader.modules and recorder.has_words:
            checks.check_attention_seen(self._maps)
        if not recorder.queued and self._calls.caller is None:
            recorder.meta["planned_steps"] -= skipped_steps(scheduler, timestep)
        self._decodes.clear()
        latents = first_entry(result)
        fetched = fetch(completed(latents.detach()))
        recorder.remember(latents, fetched)
        recorder.live.stepped(self._calls.caller, sample, output)
        recorder.add(
            CapturedStep(
                index=None if index is None else index - 1,
                timestep=fetch(timestep) if isinstance(timestep, Tensor) else timestep,
                second_order=second_order,
                sample=sample,
                output=output,
                result=fetched,
                branches=self._branch_outputs(),
                maps={
                    part: FlatMaps(fetch(maps.flat, unshared=True), maps.places) for part, maps in self._maps.items()
                },
                prompt_matches=self._matches,
                grid_of=self._grids.grid,
            ),
            arguments.sample.device,
        )
        self._forget_step()
        self._announce(recorder.settle(wait=self._on_step is not None))
        return result

    def decoded(self, latents: Tensor, result: Any) -> None:
        """Note a decode inside the call.

        Args:
            latents: As the VAE received them.
            result: As the VAE returned it.
        """
        if self._recorder is not None:
            self._decodes.add(latents, result)

    def call_returned(self, output: Any, arguments: Mapping[str, Any]) -> None:
        """Record the final latents and the images.

        Args:
            output: What the pipeline returned.
            arguments: Of its `__call__`, by name.
        """
        recorder = self._recorder
        if recorder is not None and (last := recorder.final_latents()) is not None:
            layout = self._calls.latent_layout
            recorder.finish(read_call_end(self._pipe, self._family, layout, last, self._decodes, output, arguments))

    def call_ends(self, error: BaseException | None = None) -> None:
        """Finish the traces of the call.

        Args:
            error: The exception that ended it, or None.
        """
        recorder = self._recorder
        try:
            if recorder is not None:
                steps = recorder.settle(wait=True)
                if error is None:
                    self._announce(steps)
                elif self._calls.is_inside and (last := recorder.final_latents()) is not None:
                    shown = error if recorder.steps >= self._calls.planned_steps else None
                    recorder.finish(read_failed_call_end(self._pipe, self._family, last, self._decodes, shown))
        except BaseException as raised:
            error = error or raised
            raise
        finally:
            self._recorder = None
            self._noise = [None]
            if recorder is not None:
                self._finished += recorder.traces
            self._decodes.clear()
            self._view.end(error)
            self._hidden_words = ""
            self._forget_step()
            self._reader.end()

    def _read_prompts(self, text: Any) -> tuple[CallPrompts, PromptSchedule]:
        """The prompts of the call whose first evaluation was given this text, all rows of the batch."""
        active = active_on(self._denoiser)
        original = None if active is None else active.original_text
        _, prompts = self._calls.read_prompts(text if original is None else original)
        return prompts, PromptSchedule(prompts.prompt, () if active is None else active.later_prompts())

    def _record(self, prompts: CallPrompts, schedule: PromptSchedule) -> CallRecorder:
        """Begin to record a call."""
        active = active_on(self._denoiser)
        described = [] if active is None else active.describe()
        self._recorder = CallRecorder(
            family=self._family,
            prompts=prompts,
            schedule=schedule,
            levels=self._levels or NoiseLevels(self._calls.scheduler),
            heads=self._refiner.heads,
            keep=self._keep,
            output=self._reader.output,
            meta={
                **describe(self._pipe, self._denoiser, self._family, self._calls.caller),
                **call_settings(self._pipe, self._calls.arguments),
                "planned_steps": self._calls.planned_steps,
                **({"interventions": described} if described else {}),
            },
            noise=self._noise,
            decoder=make_decoder(self._pipe),
            concepts=self._reader.concepts and self._reader.concepts.concepts,
            encoded=self._calls.latent_layout.encoded,
            groups=self._refiner.groups,
        )
        return self._recorder

    def _record_without_words(self, sample: Tensor) -> None:
        """Begin to record a call at its first step, where its prompt was not followed."""
        if self._levels is None or (self._reader.modules and not self._calls.is_inside):
            return
        if self._reader.modules:
            reason = self._hidden_words or checks.describe_hidden_words(bool(self._calls.encoded))
            self._guard.warn_of_missing_words(reason, has_interventions=active_on(self._denoiser) is not None)
        self._calls.latent_layout.read_step(sample, self._calls.arguments, self._pipe)
        prompts = prompts_without_words(self._calls.encoded, self._calls.arguments, len(sample))
        self._calls.begin()
        self._record(prompts, PromptSchedule(prompts.prompt, ()))

    def _branch_outputs(self) -> Tensor | None:
        """(2, images, C, h, w): conditional and unconditional output, where both were evaluated."""
        if len(self._raw) < 2:
            return None
        pair = torch.stack([self._calls.latent_layout.unpacked(self._raw[branch]) for branch in ("prompt", "negative")])
        return fetch(pair, unshared=True)

    def _announce(self, steps: list[Step]) -> None:
        recorder = self._recorder
        for step in steps:
            if recorder is not None:
                self._view.step(recorder.traces[0], step)
            if self._on_step is not None:
                self._guard.user_function(self._on_step, step)

    def _abandon(self, error: Exception) -> None:
        """Record no more of the call under way; its finished steps stay."""
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            self._finished += recorder.traces
        self._hidden_words = ""
        self._forget_step()
        self._calls.forget()
        self._reader.end()
        self._view.end(error)
