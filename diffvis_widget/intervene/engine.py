"""Lets interventions act on a denoiser: follows the pipeline's calls, switches prompts, changes attention.

There is one engine per denoiser, shared by all nested blocks. Its hooks run before those of a tracer, which therefore
records what the interventions made of a run.
"""

from __future__ import annotations

import contextlib
import inspect
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from diffvis_widget._compat.torch_compile import is_compiled, uncompiled
from diffvis_widget.tracer import (
    Family,
    Intervention,
    denoiser_lock,
    find_family,
    register_executor,
    second_denoiser,
    set_active,
)
from diffvis_widget.tracer.attention_support import hidden_attention
from diffvis_widget.tracer.pipeline_calls import (
    CallListener,
    DenoiserArguments,
    EncodeCall,
    PipelineCalls,
    PromptBatch,
    read_prompts,
    take_rows,
)

from .attention import AttentionChange, Rows, TextAttention
from .batched_switch import Fork, Narrowing, narrowing
from .call_plan import CallPlan, attention_work, plan_call
from .frozen_attention import attention_at, check
from .interventions import Drop, Freeze, Switch, Weight
from .prompt_switch import encode_again, is_same_prompt

_engines: weakref.WeakKeyDictionary[nn.Module, Engine] = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def on(pipe: Any, *interventions: Intervention) -> Iterator[None]:
    """Let interventions act on the calls of a pipeline that this thread makes inside the block.

    Blocks may be nested: their interventions add up. The block holds the denoiser's lock, so runs in other threads
    wait. A denoiser under torch.compile runs uncompiled inside, with a warning.

    Args:
        pipe: A diffusers pipeline.
        *interventions: Made by `weight`, `drop`, `switch` or `freeze`.

    Yields:
        None.

    Raises:
        TypeError: An argument is no intervention, or no pipeline.
        ValueError: The attention of the pipeline cannot be changed, or `freeze` is given for joint attention. What
            depends on the call is raised by the call, before its first step: see `weight`, `drop`, `switch`, `freeze`.

    Example:
        >>> import diffvis_widget as dv
        >>> pipe = dv.load()
        >>> with dv.intervene.on(pipe, dv.intervene.weight("red", 2.0)):
        ...     image = pipe("a red circle", num_inference_steps=2).images[0]
    """
    for intervention in interventions:
        if not isinstance(intervention, Intervention):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"interventions must be made by weight, drop, switch or freeze, not {intervention!r}")
    family, compiled_denoiser = find_family(pipe)
    denoiser = uncompiled(compiled_denoiser)
    _check(pipe, family, denoiser, interventions)
    with contextlib.ExitStack() as stack:
        stack.enter_context(denoiser_lock(pipe))
        if is_compiled(compiled_denoiser):
            warnings.warn("the compiled denoiser runs uncompiled while interventions are on", stacklevel=3)
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        engine = _engines.get(denoiser)
        if engine is None:
            engine = _engines[denoiser] = Engine(family, denoiser, second_denoiser(pipe, family))
            stack.callback(engine.close)
        stack.enter_context(engine.following(pipe))
        stack.enter_context(engine.intervening(interventions))
        yield


def _execute(pipe: Any, interventions: Sequence[Intervention]) -> contextlib.AbstractContextManager[None]:
    return on(pipe, *interventions)


register_executor(_execute)


def _check(pipe: Any, family: Family, denoiser: nn.Module, interventions: Sequence[Intervention]) -> None:
    modules = family.attention_modules(denoiser)
    if not modules:
        raise ValueError(
            f"{type(pipe).__name__} cannot be intervened on: its denoiser, a {family.name}, has no attention to words "
            "that is known here"
        )
    if reason := hidden_attention(modules):
        raise ValueError(f"{type(pipe).__name__} cannot be intervened on: {reason}")
    processor = family.prompt_processor
    if processor is not None and processor.mixes_rows and any(isinstance(item, Fork) for item in interventions):
        raise ValueError(
            f"a decision curve is not for {type(pipe).__name__}, whose images of one batch depend on one another's "
            "prompts: switch the prompt in runs of single images"
        )
    if not family.freezable and any(isinstance(intervention, Freeze) for intervention in interventions):
        raise ValueError(
            f"freeze is for U-Nets with cross-attention; {type(pipe).__name__} has a {family.name}, whose attention "
            "would be gigabytes a step: use weight, drop or switch"
        )


class Engine(CallListener):
    """All interventions on one denoiser, made and used in one thread.

    Args:
        family: The denoiser's family.
        denoiser: The denoiser.
        second: A denoiser that takes over within a call, or None.
    """

    def __init__(self, family: Family, denoiser: nn.Module, second: nn.Module | None = None) -> None:
        self._family = family
        self._denoiser = denoiser
        self._interventions: list[Intervention] = []
        self._original_text: Any = None
        self._call: CallPlan | None = None
        self._encoded_again: list[tuple[EncodeCall, dict[Switch, EncodeCall]]] = []
        self._narrowing: Narrowing | None = None
        self._attention = TextAttention(
            family.attention_modules(denoiser),
            {} if second is None else family.attention_modules(second),
            family.attends_by_row,
            family.image_among_keys,
        )
        self._calls = PipelineCalls(family, denoiser, self, modifies=True, second=second)
        self._calls.attach()
        set_active(denoiser, self)
        self._attention.attach()

    def close(self) -> None:
        """Remove all hooks from the denoiser."""
        set_active(self._denoiser, None)
        _engines.pop(self._denoiser, None)
        self._calls.detach()
        self._attention.detach()

    @contextlib.contextmanager
    def intervening(self, interventions: Sequence[Intervention]) -> Iterator[None]:
        """Let more interventions act. A call under way ends without them.

        Args:
            interventions: Added to those that act already.

        Yields:
            None.
        """
        count = len(self._interventions)
        self._interventions += interventions
        self._calls.end()
        try:
            yield
        finally:
            del self._interventions[count:]
            self._calls.end()

    @contextlib.contextmanager
    def following(self, pipe: Any) -> Iterator[None]:
        """Let the interventions act on the calls of another pipeline with the same denoiser.

        Args:
            pipe: The pipeline.

        Yields:
            None.
        """
        if self._calls.follows(pipe):
            yield
            return
        try:
            self._calls.follow(pipe)
            yield
        finally:
            self._calls.unfollow(pipe)

    # -- for a tracer of the same calls ------------------------------------------------------------------------------

    def later_prompts(self) -> Sequence[tuple[int, PromptBatch]]:
        """List the other prompts of the call under way.

        Returns:
            Each with the step from which it is in force, in order.
        """
        return [] if self._call is None else self._call.prompts_by_step[1:]

    @property
    def original_text(self) -> Any:
        """The text embeddings that the pipeline gave its denoiser at the latest evaluation, before any change."""
        return self._original_text

    def describe(self) -> list[dict[str, Any]]:
        """Describe the interventions as plain JSON values.

        Returns:
            One dictionary for each intervention.
        """
        return [intervention.describe() for intervention in self._interventions]

    # -- what the pipeline calls -------------------------------------------------------------------------------------

    def call_ends(self, error: BaseException | None = None) -> None:
        """Forget the call.

        Args:
            error: What the call raised, or None.
        """
        self._call, self._encoded_again, self._original_text = None, [], None
        self._attention.end()

    def prompt_encoded(self, call: EncodeCall, encode_prompt: Callable[..., Any], args: Any, kwargs: Any) -> None:
        """Encode the prompts of all switches as well.

        Args:
            call: The call.
            encode_prompt: The pipeline's own method.
            args: Positional arguments of the call.
            kwargs: Keyword arguments of the call.
        """
        others, processor = dict[Switch, EncodeCall](), self._family.prompt_processor
        for switch in self._interventions:
            if isinstance(switch, Switch) and switch not in others and not is_same_prompt(call, switch.prompt):
                if processor is not None and (reason := processor.fixed_prompt(call.arguments)):
                    raise ValueError(f"switch: the prompt of this run cannot be switched, for {reason}")
                others[switch] = again = encode_again(encode_prompt, call, args, kwargs, switch.prompt)
                take_rows(self._family, again)
        self._encoded_again.append((call, others))

    def step(self, make_step: Callable[[], Any], arguments: Any) -> Any:
        """Count the steps.

        Args:
            make_step: Makes the step.
            arguments: Arguments of the step.

        Returns:
            The result of `make_step`.
        """
        result = make_step()
        if self._call is not None:
            self._call.step += 1
        return result

    def evaluation_begins(self, text: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> DenoiserArguments | None:
        """Switch the prompt, and prepare the change of attention.

        Args:
            text: The text embeddings that the pipeline gave its denoiser.
            args: Positional arguments of the denoiser.
            kwargs: Keyword arguments of the denoiser.

        Returns:
            Other arguments where the prompt is switched, else None.
        """
        if not self._interventions:
            return None
        bound = inspect.signature(self._denoiser.forward).bind(*args, **kwargs)
        self._original_text = text
        if self._call is None:
            self._call = self._begin(text)
        call = self._call
        # a pipeline that evaluates each branch separately passes on the prompt that it encoded, whatever is in force
        branch = self._calls.rows(call.prompts, text).get("prompt")
        if branch is None or call.step >= call.planned:
            return None
        rows = self._prompt_rows(branch, len(text), call.prompts.images)
        number, prompt = call.prompt_at(call.step)
        changed: DenoiserArguments | None = None
        if call.substitution is not None:
            if self._family.text_by_frame:
                bound.arguments[self._family.text_argument] = text  # of each video once
            call.substitution.learn(bound.arguments, len(text), rows)
            for later in call.later:
                call.substitution.check(later, len(text), rows)
            if number:
                later = call.later[number - 1]
                points = later.points
                switched = rows if points is None else [row for row in rows if points[row[1]] <= call.step]
                bound.arguments.update(call.substitution.put(bound.arguments, later, len(text), switched))
            changed = self._narrow(bound, call, len(text))
        if (work := self._work(call, number, prompt, len(text), rows)) is not None:
            layout = self._calls.latent_layout.call_layout(bound.arguments)
            self._attention.begin(replace(work, layout=layout))
        return changed

    def _narrow(self, bound: inspect.BoundArguments, call: CallPlan, batch: int) -> DenoiserArguments:
        """The denoiser's arguments without the rows that are equal to others."""
        points = call.later[0].points
        if points is not None:
            latents = next(iter(bound.arguments.values()))
            self._narrowing = narrowing(latents, batch, points, call.step)
            if self._narrowing is not None:
                bound.arguments.update(self._narrowing.narrow(bound.arguments, self._family))
        name = self._family.text_argument
        bound.arguments[name] = self._calls.latent_layout.text_of_frames(bound.arguments[name])
        return bound.args, bound.kwargs

    def evaluation_ends(self, output: Any) -> Any:
        """End the change of attention.

        Args:
            output: Of the denoiser; None where it raised.

        Returns:
            The output for all rows where equal rows were left out, else None.

        Raises:
            RuntimeError: No attention was seen that could be changed.
        """
        call, acting = self._call, self._attention.is_on
        if call is not None and acting:
            call.has_acted = call.has_acted or self._attention.has_acted
        self._attention.end()
        if call is not None and acting and output is not None and not call.has_acted:
            raise RuntimeError(
                "no attention to the words was seen while the denoiser ran, so the interventions could not act: call "
                "set_default_attn_processor() on the denoiser"
            )
        narrowed, self._narrowing = self._narrowing, None
        return None if narrowed is None or output is None else narrowed.widen(output)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _begin(self, text: Any) -> CallPlan:
        """Plan a call at its first evaluation. Raises for interventions that do not fit it."""
        encoded_again, self._encoded_again = self._encoded_again, []
        encode_calls, prompts = self._calls.read_prompts(text)
        planned = self._calls.planned_steps
        others = {id(call): other for call, other in encoded_again}
        first = encode_calls[: self._family.encode_calls]

        def encoded(switch: Switch) -> tuple[Sequence[Any], PromptBatch] | None:
            calls_again = [call for call in (others[id(call)].get(switch) for call in first) if call is not None]
            if not calls_again:
                return None
            images = self._calls.latent_layout.images
            prompt = read_prompts(self._calls.pipe, self._family, calls_again, images).prompt
            return [call.result for call in calls_again], prompt

        results = [call.result for call in first]
        plan = plan_call(self._family, self._interventions, prompts, results, encoded, planned)
        for freeze in self._interventions:
            if isinstance(freeze, Freeze) and freeze.steps:
                check(freeze.trace, self._denoiser, planned)
        return plan

    def _prompt_rows(self, branch: slice, batch: int, images: int) -> Rows:
        """The rows that carry the prompt, and their images; rows with perturbed self-attention repeat it."""
        perturbed = bool(getattr(self._calls.pipe, "do_perturbed_attention_guidance", False)) and batch > images
        stop = batch if perturbed else branch.stop
        return [(row, (row - branch.start) % images) for row in range(branch.start, stop)]

    def _work(self, call: CallPlan, number: int, prompt: PromptBatch, batch: int, rows: Rows) -> AttentionChange | None:
        """What to change in the attention of this evaluation, or None."""
        active = [item for item in self._interventions if item.acts_at(call.step)]
        on_words = tuple(item for item in active if isinstance(item, Weight | Drop))
        frozen = next((item for item in active if isinstance(item, Freeze)), None)
        if not on_words and frozen is None:
            return None
        key = number, batch, len(rows), on_words
        if key not in call.works:
            frames = self._calls.latent_layout.row_frames  # each is a row of the batch in the attention
            of_frames = [(row * frames + frame, image) for row, image in rows for frame in range(frames)]
            call.works[key] = attention_work(prompt, batch * frames, of_frames, on_words)
        work = call.works[key]
        if frozen is None:
            return work
        modules = self._family.attention_modules(self._denoiser)
        return replace(work, frozen=attention_at(frozen.trace, call.step, modules, work.positions))
