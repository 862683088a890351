"""Follows the calls of a pipeline, for tracers and interventions.

Every pipeline calls the same methods of its own parts: `encode_prompt` (the texts), `prepare_latents` (number and size
of the images), `scheduler.set_timesteps` (a call begins), the denoiser, `scheduler.step` (a denoising step) and
`vae.decode` (the end). This module alone hooks them, and `__call__` around them. A loop of the user's own, outside of
`__call__`, is a call too; it has no output, and lasts until the next one begins.
"""

from __future__ import annotations

import collections
import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from diffvis_widget.call_defaults import is_modular
from diffvis_widget.tracer.families import Family
from diffvis_widget.tracer.families.token_streams import recording_tokenizers

from .argument_names import arguments_by_name, copied_arguments
from .attention import Branch
from .call_listener import CallListener, DenoiserArguments
from .fault_guard import FaultGuard
from .guidance_batch import find_branch_rows
from .hooks import watch
from .latent_layout import LatentLayout
from .locks import is_own_work
from .modular_calls import ModularCall
from .module_hooks import hook_forward
from .noise_sources import NoiseSource, noise_sources
from .prompt_encoding import ENCODING, CallPrompts, EncodeCall, adapt, connect, encode, encode_calls_of, read_prompts
from .prompt_encoding import PromptBatch as PromptBatch
from .prompt_encoding import take_rows as take_rows
from .reference_images import noting_encodes
from .scheduler_step import read_step
from .video_calls import check_frames, refusing_videos

Remove = Callable[[], None]

_PREPARING = ("prepare_latents", "prepare_intermediate_images")  # a pipeline without latents has another name for it


class PipelineCalls:
    """Follows the calls that pipelines with one denoiser make in the thread that made this object.

    Calls of other threads, and calls that diffvis_widget itself makes (`own_work`), pass through.

    Args:
        family: The denoiser's family.
        denoiser: The denoiser.
        listener: Receives the callbacks.
        modifies: Whether the listener changes calls. It then comes before all listeners that do not, so that these see
            what is computed.
        guard: Takes the errors of the hooks, and the listener's; None: they end the call.
        second: A denoiser that takes over within a call, or None.

    Attributes:
        pipe: The pipeline that is followed; None outside `follow`.
        scheduler: Its scheduler.
        latent_layout: Layout of the latents of the call under way.
        is_under_way: Whether the denoiser was evaluated in the call.
        is_inside: Whether the call is one of the pipeline's `__call__`.
        arguments: Arguments of `__call__` by name; empty outside of it.
    """

    pipe: Any
    scheduler: Any
    latent_layout: LatentLayout
    is_under_way: bool
    is_inside: bool
    arguments: Mapping[str, Any]

    def __init__(
        self,
        family: Family,
        denoiser: nn.Module,
        listener: CallListener,
        *,
        modifies: bool = False,
        guard: FaultGuard | None = None,
        second: nn.Module | None = None,
    ) -> None:
        self.pipe = self.scheduler = None
        self.latent_layout = LatentLayout(family)
        self.is_under_way = self.is_inside = False
        self.arguments = {}
        self._noise: list[NoiseSource | None] = [None]
        self._modular: ModularCall | None = None
        self._family = family
        self._denoisers = [denoiser] if second is None else [denoiser, second]
        self._listener = listener
        self._modifies = modifies
        self._guard = guard
        self._thread = threading.get_ident()
        self._encoded: list[EncodeCall] = []
        # embeddings may be passed to several pipeline calls, and without their text
        self._texts: collections.deque[EncodeCall] = collections.deque(maxlen=8)
        self._prompt_evaluated = False  # in the current step
        self._followed: list[tuple[Any, list[Remove]]] = []
        self._encodes = noting_encodes(lambda: self.latent_layout.encoded, lambda: not self.is_inside or self._passes())
        self._scheduler_hooks: list[Remove] = []
        self._denoiser_hooks: list[Remove] = []

    def attach(self) -> None:
        """Hook the denoisers. `detach` removes the hooks."""
        begins, ends = self._evaluation_begins, self._evaluation_ends
        if self._guard is not None:
            begins, ends = self._guard.hook(begins), self._guard.hook(ends)
        self._denoiser_hooks += [
            hook_forward(denoiser, begins, ends, with_kwargs=True, prepend=self._modifies)
            for denoiser in self._denoisers
        ]

    def detach(self) -> None:
        """Remove all hooks, from the denoiser and from the pipelines."""
        while self._denoiser_hooks:
            self._denoiser_hooks.pop()()
        while self._followed:
            self.unfollow(self._followed[-1][0])

    def follows(self, pipe: Any) -> bool:
        """Whether a pipeline's calls are followed.

        Args:
            pipe: The pipeline.

        Returns:
            True between `follow` and `unfollow`.
        """
        return any(followed is pipe for followed, _ in self._followed)

    def follow(self, pipe: Any) -> None:
        """Follow the calls of a pipeline, until `unfollow`.

        Args:
            pipe: A pipeline with this denoiser.
        """
        hooks: list[Remove] = []
        self._followed.append((pipe, hooks))
        # Python looks `__call__` up in the class
        hooks.append(self._watch(type(pipe), "__call__", functools.partial(self._call, pipe)))
        watchers = dict.fromkeys(ENCODING, self._encode_prompt) | dict.fromkeys(_PREPARING, self._prepare_latents)
        for name, watcher in watchers.items():
            if hasattr(pipe, name):
                hooks.append(self._watch(pipe, name, functools.partial(watcher, pipe)))
        kind = self._family.prompt_processor
        if kind is not None and (part := getattr(pipe, kind.attribute, None)) is not None:
            hooks.append(self._watch(type(part), "__call__", functools.partial(self._process, pipe, kind, part)))
        if is_modular(pipe):
            hooks.append(self._watch(type(pipe.blocks), "__call__", functools.partial(self._blocks, pipe)))
        vae, connector = self._family.vae_of(pipe), getattr(pipe, self._family.connector or "", None)
        watched = ((vae, "decode", self._decode), (vae, "encode", self._encodes), (connector, "forward", self._connect))
        hooks += [self._watch(part, name, watcher) for part, name, watcher in watched if hasattr(part, name)]
        self._select(pipe)

    def unfollow(self, pipe: Any) -> None:
        """Follow the calls of a pipeline no longer; the pipeline followed before becomes the current one.

        Args:
            pipe: A pipeline given to `follow`.
        """
        for followed, hooks in self._followed:
            while followed is pipe and hooks:
                hooks.pop()()
        self._followed = [(followed, hooks) for followed, hooks in self._followed if followed is not pipe]
        self._select(self._followed[-1][0] if self._followed else None)

    def _watch(self, owner: Any, name: str, watcher: Callable[..., Any]) -> Remove:
        return watch(owner, name, watcher, self._modifies, self._guard)

    def _select(self, pipe: Any) -> None:
        """Make a pipeline the current one, with the scheduler that it has now."""
        scheduler = None if pipe is None else pipe.scheduler
        if scheduler is not None and scheduler is not self.scheduler:
            self._listener.check_scheduler(scheduler)
        self.pipe = pipe
        if scheduler is self.scheduler:
            return
        while self._scheduler_hooks:
            self._scheduler_hooks.pop()()
        self.scheduler = scheduler
        if scheduler is not None:
            self._scheduler_hooks = [
                self._watch(scheduler, "set_timesteps", self._set_timesteps),
                self._watch(scheduler, "step", self._step),
            ]

    def begin(self) -> None:
        """The call is under way; the `encode_prompt` calls so far belong to it."""
        self.is_under_way = True
        self._encoded = []

    def forget(self) -> None:
        """Nothing is known of the call under way any more."""
        self.is_under_way = False
        self._encoded = []
        self._prompt_evaluated = False

    def end(self, error: BaseException | None = None) -> None:
        """The call is over, or what was seen of it is to be forgotten.

        Args:
            error: What the pipeline's `__call__` raised, or None.
        """
        self.forget()
        self.latent_layout = LatentLayout(self._family)
        self._listener.call_ends(error)

    @property
    def encoded(self) -> Sequence[EncodeCall]:
        """The `encode_prompt` calls since the last pipeline call."""
        return self._encoded

    @property
    def caller(self) -> Any:
        """The pipeline inside its `__call__`, whose arguments it keeps; None for a loop outside, which has its own."""
        return self.pipe if self.is_inside else None

    @property
    def planned_steps(self) -> int:
        """Number of denoising steps that the call plans; for a loop outside of `__call__`, of the whole schedule."""
        stated = getattr(self.caller, "num_timesteps", None) if self._modular is None else self._modular.planned_steps
        return int(stated or len(getattr(self.scheduler, "timesteps", ())))

    def read_prompts(self, text: Any) -> tuple[Sequence[EncodeCall], CallPrompts]:
        """Read the prompts of the call that begins. It is under way from now on.

        Args:
            text: The text embeddings that the pipeline gave its denoiser, all rows of the batch.

        Returns:
            The `encode_prompt` calls that belong to the pipeline call, and its prompts.
        """
        encoded = self._encoded
        self.begin()
        calls = encode_calls_of(self._family, encoded, text)
        typed, images = self.arguments.get("prompt"), self.latent_layout.images
        return calls, read_prompts(self.pipe, self._family, calls, images, list(self._texts), typed)

    def rows(self, prompts: CallPrompts, text: Any) -> dict[Branch, slice]:
        """Find which rows of the evaluation that begins carry the prompt and the negative prompt.

        Args:
            prompts: The prompts in force.
            text: The text embeddings that the denoiser receives.

        Returns:
            Rows of the batch by branch.
        """
        rows = find_branch_rows(self.caller, self._family, prompts, text, self._prompt_evaluated)
        self._prompt_evaluated = self._prompt_evaluated or "prompt" in rows
        return rows

    def _passes(self) -> bool:
        """Whether a call is none of a followed pipeline's."""
        return self._is_foreign() or (self._guard is not None and self._guard.has_failed)

    def _is_foreign(self) -> bool:
        return self.pipe is None or threading.get_ident() != self._thread or is_own_work()

    def _recover(self) -> None:
        """Follow a call although a hook failed in the one before."""
        if self._guard is not None:
            self._guard.reset()

    def _call(self, pipe: Any, original: Callable[..., Any], called: Any, *args: Any, **kwargs: Any) -> Any:
        if called is not pipe or self.is_inside or self._is_foreign():
            return original(called, *args, **kwargs)
        self._recover()
        if self.is_under_way:
            self.end()
        self.latent_layout.forget()
        self._select(pipe)
        arguments = copied_arguments(original, (called, *args), kwargs)
        with refusing_videos(self._guard):
            check_frames(pipe, self._family, arguments)
        self.is_inside = True
        self.arguments = arguments
        self._noise = noise_sources(self.arguments.get("generator"))
        try:
            output = original(called, *args, **kwargs)
            returned = output if self._modular is None else self._modular.returned
            self._listener.call_returned(returned, self.arguments)
        except BaseException as error:
            self.end(error)
            raise
        finally:
            self.is_inside = False
            self.arguments = {}
            self._modular = None
        self.end()
        return output

    def _blocks(self, pipe: Any, original: Callable[..., Any], blocks: Any, *args: Any, **kwargs: Any) -> Any:
        """Called in place of the blocks of a modular pipeline: the outermost, in its `__call__`, holds all others."""
        is_outermost = self.is_inside and self._modular is None and bool(args) and args[0] is pipe
        if not is_outermost or self._passes():
            return original(blocks, *args, **kwargs)
        state = args[1] if len(args) > 1 else kwargs["state"]
        self._modular = call = ModularCall(pipe, self._family, state)
        self.arguments = call.inputs
        self._noise = noise_sources(self.arguments.get("generator"))
        self._listener.latents_prepared(self._noise)
        with recording_tokenizers(call.tokenizer_calls, self._guard):
            return original(blocks, *args, **kwargs)

    def _read_modular(self, call: ModularCall) -> None:
        """Read the prompts and the latents of a modular call, whose denoiser is evaluated for the first time."""
        self._encoded = list(call.encode_calls())
        texts = {name: call.inputs.get(name) for name in ("prompt", "negative_prompt")}
        for encoded in self._encoded[:1]:
            self._listener.prompt_encoded(encoded, call.encode_prompt, (), texts)
        if call.latents is not None:
            self.latent_layout.read(call.prepared, {**call.inputs, **call.size}, self.pipe, call.inputs)

    def _encode_prompt(self, pipe: Any, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not self.is_inside and not self._is_foreign():
            self._recover()
        if self._passes():
            return original(*args, **kwargs)
        if self.is_under_way:
            self.end()
            self.latent_layout.forget()
        self._select(pipe)
        call = encode(original, args, kwargs, self._guard)
        returned = adapt(self._family, call, self.arguments)
        self._listener.prompt_encoded(call, original, args, kwargs)
        self._encoded.append(call)
        self._texts += [call] if call.has_text else []
        return returned

    def _process(self, pipe: Any, kind: Any, part: Any, original: Any, called: Any, *args: Any, **kwargs: Any) -> Any:
        process = functools.partial(original, called)
        encode_prompt = functools.partial(self._encode_prompt, pipe, kind.as_encode_prompt(process))
        return (encode_prompt if called is part else process)(*args, **kwargs)

    def _connect(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        output = original(*args, **kwargs)
        connect(self._family, [] if self._passes() else self._encoded, output)
        return output

    def _prepare_latents(self, pipe: Any, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self._passes():
            return original(*args, **kwargs)
        arguments = arguments_by_name(original, args, kwargs)
        with refusing_videos(self._guard):
            check_frames(pipe, self._family, arguments)
        noise = noise_sources(arguments.get("generator"))  # read before the pipeline draws from them
        result = original(*args, **kwargs)
        if self.is_under_way and not self.is_inside:
            self.end()
        self._listener.latents_prepared(self._noise if self.is_inside and self._noise != [None] else noise)
        with refusing_videos(self._guard):
            # some pipelines prepare a number of tokens, and only the call states their grid
            self.latent_layout.read(result, {**self.arguments, **arguments}, pipe, self.arguments)
        return result

    def _set_timesteps(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if not self._passes():
            if self.is_under_way:
                self.end()
            self._listener.timesteps_set()
        return result

    def _evaluation_begins(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> DenoiserArguments | None:
        if self._passes():
            return None
        if self._modular is not None and not self.is_under_way:
            self._read_modular(self._modular)
        if not (self._encoded or self.is_under_way):
            return None
        text = kwargs.get(self._family.text_argument)
        is_unprepared = self.latent_layout.size is None and self.is_inside
        if text is None or is_unprepared:
            arguments = arguments_by_name(module.forward, args, kwargs)
            text = arguments[self._family.text_argument]
            if is_unprepared:
                self._listener.latents_prepared(self._noise)
                self.latent_layout.read_input(next(iter(arguments.values())))
        text = self.latent_layout.text_of_videos(self._family.text_rows(text))
        return self._listener.evaluation_begins(text, args, kwargs)

    def _evaluation_ends(self, module: nn.Module, args: Any, output: Any) -> Any:
        return None if self._passes() else self._listener.evaluation_ends(output)

    def _step(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self._passes():
            return original(*args, **kwargs)
        self._prompt_evaluated = False
        return self._listener.step(functools.partial(original, *args, **kwargs), read_step(original, args, kwargs))

    def _decode(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if self.is_inside and not self._passes():
            self._listener.decoded(args[0] if args else kwargs["z"], result)
        return result
