"""Watching a diffusers pipeline while it runs, without changing what it does: Tracer and trace().

A run is seen through five calls that every such pipeline makes on its own parts: `encode_prompt` (the texts),
`scheduler.set_timesteps` (a run begins), the denoiser (attention, raw output), `scheduler.step` (sample and guided
output of a step), and `vae.decode` (the end). Each is answered by the original, unchanged; all is put back on exit.
"""

from __future__ import annotations

import inspect
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from diffvis_widget._compat.torch_compile import is_compiled, uncompiled
from diffvis_widget.tracer.families import Family, find_family
from diffvis_widget.traces import Step, Trace
from diffvis_widget.traces.trace import Keep

from .active_interventions import Intervention, Prompts, changes_of
from .attention import AttentionReader, Branch, Reading, Taken
from .attention_calls import hidden_attention
from .attention_probabilities import Maps
from .call_recorder import Captured, Run, fetch
from .guidance_batch import branches
from .hooks import watch
from .latent_layout import Geometry
from .locks import is_own_work, lock_of
from .noise_levels import NoiseLevels, is_second_order, kind_of
from .observer import Follower, View
from .preview import decoder, to_pixels
from .prompt_encoding import Encoded, Request, encode, own_calls, read_request, unread
from .provenance import describe

_KEEPS = ("words", "layers", "heads")


class Tracer:
    """Records every generation that the pipeline makes inside the `with` block, in this thread.

    view: a DiffVis that shows the call while it runs (of a batch, the first image).
    keep: "words" (the mean over the default layers), "layers" (each layer, mean over heads) or "heads" (all).
    output: also record how alike the attention outputs of image positions and words are, for `heat_map(kind="output")`.
    Only models in which text and image attend together (SD3, FLUX and their like) have an output for a word: with the
    cross-attention of U-Nets, PixArt, Sana and HunyuanDiT it is refused.
    on_step: called with each finished Step; `traces` then hold everything up to and including it. An exception it
    raises ends the pipeline's call; the finished steps stay in `traces`.
    compiled: a denoiser under torch.compile cannot be read and is refused, unless this is "eager": it then runs
    uncompiled inside the block, and a warning says so.
    interventions: of diffvis_widget.intervene; they change what the model computes, and that is what is recorded.
    `trace.meta["interventions"]` says which they were.

    `traces` has one Trace per generated image, of all calls made in the block; `trace` is the only one.
    Raises TypeError or ValueError at once for a pipeline that cannot be read, naming why.
    """

    def __init__(
        self,
        pipe: Any,
        keep: Keep = "layers",
        view: View | None = None,
        on_step: Callable[[Step], object] | None = None,
        compiled: Literal["eager"] | None = None,
        output: bool = False,
        interventions: Sequence[Intervention] = (),
    ) -> None:
        if keep not in _KEEPS:
            raise ValueError(f'keep must be "words", "layers" or "heads", not {keep!r}')
        if on_step is not None and not callable(on_step):
            raise TypeError(f"on_step must be a function of a Step, not {on_step!r}")
        if view is not None and not callable(getattr(view, "follow", None)):
            raise TypeError(f"view must be a DiffVis, not {view!r}")
        if compiled not in (None, "eager"):
            raise ValueError(f'compiled must be None or "eager", not {compiled!r}')
        for one in interventions:
            if not callable(getattr(one, "on", None)):
                raise TypeError(f"interventions must be made by diffvis_widget.intervene, not {one!r}")
        self._interventions = tuple(interventions)
        self.pipe = pipe
        self.keep: Keep = keep
        self._view = view
        self._follower: Follower | None = None
        self._on_step = on_step
        self._compiled = compiled
        self.output = output
        self._family, self._denoiser = find_family(pipe)
        if output and self._family.sequence_layout is None:
            raise ValueError(
                f"output=True: in the {self._family.name} of {type(pipe).__name__} words have no attention output to "
                "compare with the image's; it works where text and image attend together (SD3, FLUX and their like). "
                "Leave it out: heat_map() then gives attention probabilities"
            )
        self._finished: list[Trace] = []
        self._active: ExitStack | None = None
        self._forget()

    def _forget(self) -> None:
        self._run: Run | None = None
        self._encoded: list[Encoded] = []
        self._levels: NoiseLevels | None = None
        self._seeds: list[int | None] = [None]
        self._geometry = Geometry(self._family)
        self._forget_step()
        self._scheduler: Any = None
        self._scheduler_off: list[Callable[[], None]] = []

    def _forget_step(self) -> None:
        """What was seen of the evaluations since the last step of the scheduler."""
        self._now: dict[Branch, slice] = {}
        self._raw: dict[Branch, Tensor] = {}
        self._maps: dict[Taken, Maps] = {}
        self._matches: Tensor | None = None

    # -- the block -------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        if self._active is not None:
            raise RuntimeError("this Tracer is already in a with block; make another one")
        self._forget()
        self._family, self._denoiser = find_family(self.pipe)
        denoiser = uncompiled(self._denoiser)
        sites = self._family.attention_modules(denoiser)
        if reason := hidden_attention(sites):
            raise ValueError(f"{type(self.pipe).__name__} cannot be traced: {reason}")
        kind_of(self.pipe.scheduler)
        compiled = is_compiled(self._denoiser)
        if compiled and self._compiled is None:
            raise ValueError(
                "the denoiser is compiled by torch.compile, which hides its attention; "
                'pass compiled="eager" to run it uncompiled while it is traced'
            )
        if not sites:
            warnings.warn(
                f"{type(self.pipe).__name__} is traced without word maps: its denoiser, a {self._family.name}, has no "
                "attention to words that is known here. To add it, see docs/pages/add-a-family.md",
                stacklevel=2,
            )
        with ExitStack() as stack:
            lock = lock_of(denoiser)
            lock.acquire()
            stack.callback(lock.release)
            if compiled:
                warnings.warn("the compiled denoiser runs uncompiled while it is traced", stacklevel=2)
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            if (present := changes_of(denoiser)) is not None:
                stack.enter_context(present.watching(self.pipe))
            for one in self._interventions:
                stack.enter_context(one.on(self.pipe))
            self._thread = threading.get_ident()
            self._reader = AttentionReader(sites, heads=self.keep == "heads", output=self.output)
            stack.callback(self._reader.detach)
            self._reader.attach()
            before = denoiser.register_forward_pre_hook(self._denoiser_begins, with_kwargs=True)
            stack.callback(before.remove)
            after = denoiser.register_forward_hook(self._denoiser_ends, always_call=True)
            stack.callback(after.remove)
            for name, watcher in (("encode_prompt", self._encode_prompt), ("prepare_latents", self._prepare_latents)):
                if hasattr(self.pipe, name):
                    stack.callback(watch(self.pipe, name, watcher))
            if (vae := self._family.vae_of(self.pipe)) is not None:
                stack.callback(watch(vae, "decode", self._decode))
            stack.callback(self._leave_scheduler)
            self._watch_scheduler()
            self._active = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stack, self._active = self._active, None
        assert stack is not None
        with stack:
            run = self._run
            if run is not None:
                steps = run.settle(wait=True)
                if error is None:
                    self._announce(steps)
            self._close_run(error)
        if error is None and not self._finished:
            warnings.warn(
                "nothing was traced: the pipeline was not called inside the with block, or in another thread",
                stacklevel=2,
            )

    @property
    def traces(self) -> list[Trace]:
        """One Trace per image of every call so far; those of a running call grow with each step."""
        run = self._run
        if run is not None and threading.get_ident() == self._thread:
            run.settle(wait=True)
        return [*self._finished, *(run.traces if run is not None else [])]

    @property
    def trace(self) -> Trace:
        """The only Trace. Raises ValueError where there is none, or several."""
        traces = self.traces
        if len(traces) != 1:
            raise ValueError(f"trace: there are {len(traces)} traces; use tracer.traces")
        return traces[0]

    # -- what the pipeline calls -----------------------------------------------------------------------------------

    def _elsewhere(self) -> bool:
        return threading.get_ident() != self._thread or self._active is None or is_own_work()

    def _encode_prompt(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self._elsewhere():
            return original(*args, **kwargs)
        self._close_run()
        encoded = encode(original, args, kwargs)
        self._watch_scheduler()
        self._encoded.append(encoded)
        return encoded.result

    def _prepare_latents(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if not self._elsewhere():
            asked = inspect.signature(original).bind(*args, **kwargs).arguments
            generator = asked.get("generator")
            generators = generator if isinstance(generator, list) else [generator]
            self._seeds = [None if one is None else int(one.initial_seed()) for one in generators] or [None]
            self._geometry.note(result if isinstance(result, Tensor) else result[0], asked, self.pipe)
        return result

    def _set_timesteps(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if not self._elsewhere():
            self._close_run()
            self._levels = NoiseLevels(self._scheduler)
        return result

    def _denoiser_begins(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        if self._elsewhere() or not self._reader.sites or not (self._encoded or self._run):
            return
        text = kwargs.get(self._family.text_argument)
        if text is None:
            names = list(inspect.signature(module.forward).parameters)
            text = args[names.index(self._family.text_argument)]
        if self._run is None:
            self._open_run(text)
        run = self._run
        assert run is not None
        prompt = run.prompts.at(run.queued)
        request = replace(run.request, prompt=prompt)
        # one evaluation of each branch counts for a step: some guidance methods make more
        carried = branches(self.pipe, self._family, request, text, "prompt" in self._raw)
        self._now = {branch: rows for branch, rows in carried.items() if branch not in self._raw}
        run.live.evaluated(module, args, kwargs, len(text), self._now)
        readings = [
            Reading(branch, rows, side.targets(text[0].device, padding=self._family.attention_kind == "cross"))
            for branch, rows in self._now.items()
            for side in [prompt if branch == "prompt" else run.request.negative]
            if side is not None and (branch == "prompt" or side.written) and side.fits(text)
        ]
        self._reader.begin(len(text), readings, self._geometry.layout())

    def _denoiser_ends(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._elsewhere() or self._run is None or not self._reader.sites:
            return
        self._reader.end()
        for part, maps in self._reader.taken.items():
            self._maps.setdefault(part, maps)
        self._reader.taken = {}
        if output is not None:
            raw = output[0]
            for branch, rows in self._now.items():
                self._raw[branch] = raw[rows] if isinstance(raw, Tensor) else torch.stack(list(raw[rows]))
        self._now = {}

    def _step(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self._elsewhere():
            return original(*args, **kwargs)
        asked = inspect.signature(original).bind(*args, **kwargs).arguments
        if self._run is None and not self._reader.sites and self._levels is not None:
            self._start(unread(self._encoded, len(asked["sample"])))
        run = self._run
        if run is None:
            return original(*args, **kwargs)
        device = asked["sample"].device
        second = is_second_order(self._scheduler)
        sample = run.known(asked["sample"])
        if sample is None:
            sample = fetch(self._geometry.square(asked["sample"]))
        output = fetch(self._geometry.square(asked["model_output"]))
        timestep = asked["timestep"]
        result = original(*args, **kwargs)
        index = getattr(self._scheduler, "step_index", None)
        self._check_seen(run)
        run.last_result = self._geometry.square(result[0].detach())
        fetched = fetch(run.last_result)
        run.remember(result[0], fetched)
        run.live.stepped(self.pipe, sample, output)
        run.add(
            Captured(
                index=None if index is None else index - 1,
                timestep=fetch(timestep) if isinstance(timestep, Tensor) and timestep.is_cuda else float(timestep),
                second_order=second,
                sample=sample,
                output=output,
                result=fetched,
                halves=self._halves(),
                maps={part: Maps(fetch(maps.flat, own=True), maps.places) for part, maps in self._maps.items()},
                prompt_matches=self._matches,
            ),
            device,
        )
        self._forget_step()
        self._announce(run.settle(wait=self._on_step is not None))
        return result

    def _decode(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        run = self._run
        if self._elsewhere() or run is None or run.last_result is None:
            return result
        latents: Tensor = args[0] if args else kwargs["z"]
        last = run.last_result
        if len(latents) == len(last) and latents.numel() == last.numel():
            run.settle(wait=True)
            vae = self._family.vae_of(self.pipe)
            expected = self._family.scale_for_vae(vae, last.to(latents.dtype))
            # inpainting, or a callback, may change the latents after the last step
            same = torch.allclose(latents.float(), expected.float(), rtol=1e-2, atol=1e-3)
            changed = None if same or latents.shape != last.shape else _from_vae(self._family, vae, latents)
            run.finish(changed, to_pixels(result[0].detach()))
        return result

    # -- runs ------------------------------------------------------------------------------------------------------

    def _watch_scheduler(self) -> None:
        """Follow the pipeline's scheduler, which the user may exchange inside the block."""
        if self._scheduler is self.pipe.scheduler:
            return
        kind_of(self.pipe.scheduler)
        self._leave_scheduler()
        self._scheduler = self.pipe.scheduler
        self._scheduler_off = [
            watch(self._scheduler, "set_timesteps", self._set_timesteps),
            watch(self._scheduler, "step", self._step),
        ]

    def _leave_scheduler(self) -> None:
        while self._scheduler_off:
            self._scheduler_off.pop()()
        self._scheduler = None

    def _open_run(self, text: Any) -> None:
        """The first evaluation of a call: `text` is what the denoiser was given, all rows of the batch."""
        encoded, self._encoded = self._encoded, []
        changes = changes_of(uncompiled(self._denoiser))
        given = text if changes is None or changes.given is None else changes.given
        request = read_request(self.pipe, self._family, own_calls(self._family, encoded, given), self._geometry.images)
        prompts = Prompts(request.prompt, () if changes is None else changes.later())
        first = prompts.at(0)
        rows = branches(self.pipe, self._family, replace(request, prompt=first), text, again=False).get("prompt")
        if rows is None or rows.stop > len(text) or not first.fits(text):
            raise RuntimeError(
                f"the denoiser was given text of shape {_shape(text)} for a prompt encoded to "
                f"{_shape(first.embeddings)}: {type(self.pipe).__name__} feeds it in a way that cannot be "
                "traced"
            )
        self._start(request, prompts)
        # compared on the device, read after the step
        self._matches = fetch(first.equals(text[rows]))

    def _start(self, request: Request, prompts: Prompts | None = None) -> None:
        levels = self._levels or NoiseLevels(self._scheduler)
        planned = getattr(self.pipe, "_num_timesteps", None) or len(levels.timesteps)
        changes = changes_of(uncompiled(self._denoiser))
        described = [] if changes is None else changes.describe()
        self._run = Run(
            family=self._family,
            request=request,
            prompts=prompts or Prompts(request.prompt, ()),
            levels=levels,
            heads={name: int(getattr(module, "heads")) for name, module in self._reader.sites.items()},  # noqa: B009
            keep=self.keep,
            output=self.output,
            meta={
                **describe(self.pipe, uncompiled(self._denoiser)),
                "guidance_scale": _number(getattr(self.pipe, "guidance_scale", None)),
                "planned_steps": int(planned),
                **({"interventions": described} if described else {}),
            },
            seeds=self._seeds,
            decoder=decoder(self.pipe),
        )

    def _close_run(self, error: BaseException | None = None) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.settle(wait=True)
            self._finished += run.traces
            self._encoded = []
        follower, self._follower = self._follower, None
        if follower is not None:
            follower.end(error)
        self._forget_step()
        self._reader.end()

    def _halves(self) -> Tensor | None:
        """(2, images, C, h, w): the denoiser's conditional and unconditional output, where it was asked for both."""
        if len(self._raw) < 2:
            return None
        pair = torch.stack([self._geometry.square(self._raw[branch]) for branch in ("prompt", "negative")])
        return fetch(pair, own=True)

    def _check_seen(self, run: Run) -> None:
        if run.last_result is None and self._reader.sites and not self._maps:
            raise RuntimeError(
                "no attention was seen while the denoiser ran: its processors compute it in a way that cannot be read; "
                "call set_default_attn_processor() on the denoiser to trace it"
            )

    def _announce(self, steps: list[Step]) -> None:
        run = self._run
        for step in steps:
            if self._view is not None and run is not None:
                if self._follower is None:
                    self._follower = self._view.follow(self.pipe)
                self._follower.step(run.traces[0], step)
            if self._on_step is not None:
                self._on_step(step)


def _shape(embeddings: Any) -> Any:
    return tuple(embeddings.shape) if isinstance(embeddings, Tensor) else [tuple(row.shape) for row in embeddings]


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _from_vae(family: Family, vae: Any, latents: Tensor) -> Tensor:
    """The inverse of `Family.scale_for_vae`, on the CPU."""
    z = latents.detach().float()
    zero = torch.zeros_like(z)
    offset = family.scale_for_vae(vae, zero)
    slope = family.scale_for_vae(vae, zero + 1) - offset
    return ((z - offset) / slope).cpu()
