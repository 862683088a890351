"""Puts interventions on a denoiser and follows the pipeline's calls, to know which step it is and where the words are.

It watches the calls that a Tracer watches (see tracer/tracer.py), with the same means, but goes before it: what a
tracer sees is what the interventions made of it. There is one engine per denoiser, for all nested blocks.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from diffvis_widget._compat.torch_compile import is_compiled, uncompiled
from diffvis_widget.tracer.active_interventions import announce
from diffvis_widget.tracer.attention_calls import hidden_attention
from diffvis_widget.tracer.families import Family, find_family
from diffvis_widget.tracer.guidance_batch import branches
from diffvis_widget.tracer.hooks import watch
from diffvis_widget.tracer.latent_layout import Geometry
from diffvis_widget.tracer.locks import is_own_work, lock_of
from diffvis_widget.tracer.prompt_encoding import Encoded, Request, Side, encode, own_calls, read_request
from diffvis_widget.traces.selectors import pick_words

from .attention import Rows, TextAttention, Work
from .batched_switch import Fork, Narrowing, narrowing
from .frozen_attention import attention_at, check
from .interventions import Drop, Freeze, Intervention, Switch, Wanted, Weight
from .prompt_switch import Later, Substitution, encoded_anew, is_same

_engines: weakref.WeakKeyDictionary[nn.Module, Engine] = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def on(pipe: Any, *interventions: Intervention) -> Iterator[None]:
    """A block in which calls of this pipeline, made in this thread, are changed. Blocks may be nested: they add up.

    Holds the denoiser's lock: runs in other threads wait. A denoiser under torch.compile runs uncompiled inside, with a
    warning. Raises TypeError for what is no intervention or no pipeline, ValueError for a pipeline whose attention to
    words cannot be changed, and for freezing a model with joint attention. What depends on the call is raised by the
    call, before its first step: see `weight`, `drop`, `switch` and `freeze`.
    """
    for one in interventions:
        if not isinstance(one, Intervention):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"interventions must be made by weight, drop, switch or freeze, not {one!r}")
    family, held = find_family(pipe)
    denoiser = uncompiled(held)
    _check(pipe, family, denoiser, interventions)
    with contextlib.ExitStack() as stack:
        lock = lock_of(denoiser)
        lock.acquire()
        stack.callback(lock.release)
        if is_compiled(held):
            warnings.warn("the compiled denoiser runs uncompiled while interventions are on", stacklevel=3)
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        engine = _engines.get(denoiser)
        if engine is None:
            engine = _engines[denoiser] = Engine(family, denoiser)
            stack.callback(engine.close)
        stack.enter_context(engine.watching(pipe))
        stack.enter_context(engine.holding(interventions))
        yield


def _check(pipe: Any, family: Family, denoiser: nn.Module, interventions: Sequence[Intervention]) -> None:
    sites = family.attention_modules(denoiser)
    if not sites:
        raise ValueError(
            f"{type(pipe).__name__} cannot be intervened on: its denoiser, a {family.name}, has no attention to words "
            "that is known here"
        )
    if reason := hidden_attention(sites):
        raise ValueError(f"{type(pipe).__name__} cannot be intervened on: {reason}")
    if not family.freezable and any(isinstance(one, Freeze) for one in interventions):
        raise ValueError(
            f"freeze is for U-Nets with cross-attention; {type(pipe).__name__} has a {family.name}, whose attention "
            "would be gigabytes a step: use weight, drop or switch"
        )


@dataclass
class _Run:
    """One call of the pipeline. sides: its prompts by the step from which they are in force."""

    request: Request
    planned: int
    sides: list[tuple[int, Side]]
    later: list[Later]
    substitution: Substitution | None
    step: int = 0
    acted: bool = False
    works: dict[Any, Work] = field(default_factory=dict[Any, Work])

    def side(self, step: int) -> tuple[int, Side]:
        """Which of the prompts is in force, and its number."""
        index = max(index for index, (begin, _) in enumerate(self.sides) if begin <= step)
        return index, self.sides[index][1]


class Engine:
    """All interventions on one denoiser, made and used in one thread."""

    def __init__(self, family: Family, denoiser: nn.Module) -> None:
        self._family = family
        self._denoiser = denoiser
        self._thread = threading.get_ident()
        self._held: list[Intervention] = []
        self._pipes: list[Any] = []
        self._pipe: Any = None
        self._given: Any = None
        self._scheduler: Any = None
        self._scheduler_off: list[Callable[[], None]] = []
        self._geometry = Geometry(family)
        self._run: _Run | None = None
        self._encoded: list[tuple[Encoded, dict[Switch, Encoded]]] = []
        self._seen_prompt = False
        self._narrow: Narrowing | None = None
        self._attention = TextAttention(family.attention_modules(denoiser))
        before = denoiser.register_forward_pre_hook(self._begins, prepend=True, with_kwargs=True)
        after = denoiser.register_forward_hook(self._ends, always_call=True)
        self._removers = [before.remove, after.remove, self._attention.detach]
        announce(denoiser, self)
        self._attention.attach()

    def close(self) -> None:
        """Take everything off the denoiser."""
        announce(self._denoiser, None)
        _engines.pop(self._denoiser, None)
        while self._removers:
            self._removers.pop()()

    @contextlib.contextmanager
    def holding(self, interventions: Sequence[Intervention]) -> Iterator[None]:
        """These are at work as well. Calls that are under way end without them."""
        count = len(self._held)
        self._held += interventions
        self._forget()
        try:
            yield
        finally:
            del self._held[count:]
            self._forget()

    @contextlib.contextmanager
    def watching(self, pipe: Any) -> Iterator[None]:
        """Follow the calls of this pipeline too: it has the same denoiser."""
        if any(one is pipe for one in self._pipes):
            yield
            return
        watchers = {"encode_prompt": self._encode_prompt, "prepare_latents": self._prepare_latents}
        with contextlib.ExitStack() as stack:
            for name, watcher in watchers.items():
                if hasattr(pipe, name):
                    stack.callback(watch(pipe, name, functools.partial(watcher, pipe), outer=True))
            self._pipes.append(pipe)
            stack.callback(self._leave, pipe)
            self._follow(pipe)
            yield

    def _leave(self, pipe: Any) -> None:
        self._pipes = [one for one in self._pipes if one is not pipe]
        self._follow(self._pipes[-1] if self._pipes else None)

    def _follow(self, pipe: Any) -> None:
        """This is the pipeline that runs now; its scheduler may have been exchanged."""
        scheduler = None if pipe is None else pipe.scheduler
        self._pipe = pipe
        if scheduler is self._scheduler:
            return
        while self._scheduler_off:
            self._scheduler_off.pop()()
        self._scheduler = scheduler
        if scheduler is not None:
            self._scheduler_off = [
                watch(scheduler, "set_timesteps", self._set_timesteps, outer=True),
                watch(scheduler, "step", self._step, outer=True),
            ]

    # -- for a tracer of the same calls ------------------------------------------------------------------------------

    def later(self) -> Sequence[tuple[int, Side]]:
        """From which step on which other prompt is in force, in the call under way."""
        return [] if self._run is None else self._run.sides[1:]

    @property
    def given(self) -> Any:
        """The text that the pipeline itself gave the denoiser at the latest evaluation."""
        return self._given

    def describe(self) -> list[dict[str, Any]]:
        """What is at work, as plain JSON values."""
        return [one.describe() for one in self._held]

    # -- what the pipeline calls -------------------------------------------------------------------------------------

    def _elsewhere(self) -> bool:
        return threading.get_ident() != self._thread or is_own_work()

    def _forget(self) -> None:
        self._run, self._encoded, self._seen_prompt, self._given = None, [], False, None
        self._attention.end()

    def _encode_prompt(self, pipe: Any, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self._elsewhere():
            return original(*args, **kwargs)
        if self._run is not None:
            self._forget()
        self._follow(pipe)
        encoded = encode(original, args, kwargs)
        others: dict[Switch, Encoded] = {}
        for one in self._held:
            if isinstance(one, Switch) and one not in others and not is_same(encoded, one.prompt):
                others[one] = encoded_anew(original, encoded, args, kwargs, one.prompt)
        self._encoded.append((encoded, others))
        return encoded.result

    def _prepare_latents(self, pipe: Any, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if not self._elsewhere():
            asked = inspect.signature(original).bind(*args, **kwargs).arguments
            self._geometry.note(result if isinstance(result, Tensor) else result[0], asked, pipe)
        return result

    def _set_timesteps(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if not self._elsewhere() and self._run is not None:
            self._forget()
        return result

    def _step(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if not self._elsewhere() and self._run is not None:
            self._run.step += 1
            self._seen_prompt = False
        return result

    def _begins(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
        if self._elsewhere() or not self._held or not (self._encoded or self._run):
            return None
        bound = inspect.signature(module.forward).bind(*args, **kwargs)
        text = self._given = bound.arguments[self._family.text_argument]
        if self._run is None:
            self._run = self._open(text)
        run = self._run
        # a pipeline that makes one call per half hands on what it encoded: the run's own prompt, whatever is in force
        carried = branches(self._pipe, self._family, run.request, text, self._seen_prompt).get("prompt")
        if carried is None or run.step >= run.planned:
            return None
        self._seen_prompt = True
        rows = self._rows(carried, len(text), run.request.images)
        number, side = run.side(run.step)
        changed: tuple[Any, Any] | None = None
        if run.substitution is not None:
            run.substitution.learn(bound.arguments, len(text), rows)
            for later in run.later:
                run.substitution.check(later, len(text), rows)
            if number:
                later = run.later[number - 1]
                now = rows if later.points is None else [one for one in rows if later.points[one[1]] <= run.step]
                bound.arguments.update(run.substitution.put(bound.arguments, later, len(text), now))
            changed = self._narrowed(bound, run, len(text))
        if (work := self._work(run, number, side, len(text), rows)) is not None:
            self._attention.begin(work)
        return changed

    def _narrowed(self, bound: inspect.BoundArguments, run: _Run, batch: int) -> tuple[Any, Any]:
        """The denoiser's arguments, without the rows whose answers others have."""
        points = run.later[0].points
        if points is not None:
            latents = next(iter(bound.arguments.values()))
            self._narrow = narrowing(latents, batch, points, run.step)
            if self._narrow is not None:
                bound.arguments.update(self._narrow.narrow(bound.arguments, self._family))
        return bound.args, bound.kwargs

    def _ends(self, module: nn.Module, args: Any, output: Any) -> Any:
        if self._elsewhere():
            return None
        run, acting = self._run, self._attention.is_on
        if run is not None and acting:
            run.acted = run.acted or self._attention.has_acted
        self._attention.end()
        if run is not None and acting and output is not None and not run.acted:
            raise RuntimeError(
                "no attention to the words was seen while the denoiser ran, so the interventions could not act: call "
                "set_default_attn_processor() on the denoiser"
            )
        narrow, self._narrow = self._narrow, None
        return None if narrow is None or output is None else narrow.widen(output)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _open(self, text: Any) -> _Run:
        """The first evaluation of a call: now everything about it is known. Raises for what it does not allow."""
        calls, self._encoded = self._encoded, []
        encoded = [one for one, _ in calls]
        own = own_calls(self._family, encoded, text)
        images = self._geometry.images
        request = read_request(self._pipe, self._family, own, images)
        if len(self._held) > 1 and any(isinstance(one, Fork) for one in self._held):
            raise ValueError("a decision curve cannot be made inside a block of other interventions")
        planned = int(getattr(self._pipe, "_num_timesteps", None) or len(self._scheduler.timesteps))
        for one in self._held:
            _check_range(one, planned)
            if isinstance(one, Freeze) and one.steps:
                check(one.trace, self._denoiser, planned)
        first = own[: self._family.encode_calls]
        others = {id(one): other for one, other in calls}
        later: list[Later] = []
        switches = [one for one in self._held if isinstance(one, Switch) and one.step < planned]
        for one in sorted(switches, key=lambda switch: switch.step):
            anew = [others[id(call)].get(one) for call in first]
            found = [call for call in anew if call is not None]
            results = [call.result for call in found] if found else [call.result for call in first]
            side = read_request(self._pipe, self._family, found or first, images).prompt if found else request.prompt
            later.append(Later(one.step, side, results, one.points if isinstance(one, Fork) else None))
        if all(one.side is request.prompt for one in later):
            later = []  # to the same prompt: nothing is touched
        sides = [(0, request.prompt), *((one.step, one.side) for one in later)]
        substitution = Substitution(self._family, [call.result for call in first]) if later else None
        run = _Run(request, planned, sides, later, substitution)
        words = [one for one in self._held if isinstance(one, Weight | Drop)]
        for one in words:
            self._check_word(one, run)
        if self._family.attention_kind == "cross":
            for step in range(planned):
                _check_left(run.side(step)[1], [one for one in words if isinstance(one, Drop) and one.is_at_work(step)])
        return run

    def _check_word(self, one: Weight | Drop, run: _Run) -> None:
        """Raise KeyError for a word that no prompt has while it is in force."""
        begin, end = one.span
        end = run.planned if end is None else end
        last: KeyError | IndexError | None = None
        for step in range(begin, end):
            side = run.side(step)[1]
            for words in side.words:
                try:
                    pick_words(words, _wanted(one.word))
                except (KeyError, IndexError) as error:
                    last = last or error
                else:
                    return
        if last is not None:
            raise last
        for words in run.request.prompt.words:  # an empty range: the word must be one all the same
            pick_words(words, _wanted(one.word))

    def _rows(self, prompt: slice, batch: int, images: int) -> Rows:
        """The rows that carry the prompt, and their images; rows with perturbed self-attention repeat it."""
        perturbed = bool(getattr(self._pipe, "do_perturbed_attention_guidance", False)) and batch > images
        stop = batch if perturbed else prompt.stop
        return [(row, (row - prompt.start) % images) for row in range(prompt.start, stop)]

    def _work(self, run: _Run, number: int, side: Side, batch: int, rows: Rows) -> Work | None:
        """What is to be done to attention in this evaluation, or None."""
        active = [one for one in self._held if one.is_at_work(run.step)]
        acting = tuple(one for one in active if isinstance(one, Weight | Drop))
        frozen = next((one for one in active if isinstance(one, Freeze)), None)
        if not acting and frozen is None:
            return None
        key = number, batch, len(rows), acting
        if key not in run.works:
            run.works[key] = _work(side, batch, rows, acting, self._geometry)
        work = run.works[key]
        if frozen is None:
            return work
        sites = self._family.attention_modules(self._denoiser)
        return replace(work, kept=attention_at(frozen.trace, run.step, sites, work.positions))


def _work(side: Side, batch: int, rows: Rows, acting: Sequence[Weight | Drop], geometry: Geometry) -> Work:
    weights: list[tuple[list[list[int]], float]] = []
    dropped: list[set[int]] = [set() for _ in side.words]
    for one in acting:
        positions = [_positions(words, one.word) for words in side.words]
        if isinstance(one, Weight):
            weights.append((positions, one.factor))
            continue
        for image, found in enumerate(positions):
            dropped[image].update(found)
    return Work(
        batch=batch,
        rows=rows,
        lengths=side.lengths,
        weights=weights,
        dropped=[sorted(gone) for gone in dropped] if any(dropped) else None,
        kept=None,
        layout=geometry.layout(),
    )


def _check_left(side: Side, drops: Sequence[Drop]) -> None:
    """Raise ValueError where a text that stands alone in the keys would be dropped as a whole."""
    for words in side.words:
        gone = {position for one in drops for position in _positions(words, one.word)}
        if gone and all(word.kind == "padding" or gone.issuperset(word.tokens) for word in words):
            raise ValueError("drop: every word of the prompt is dropped, and nothing is left to attend to: keep one")


def _positions(words: Sequence[Any], wanted: Wanted) -> list[int]:
    """Text positions of a word; none in a prompt of the batch that does not have it."""
    try:
        found = pick_words(words, _wanted(wanted))
    except (KeyError, IndexError):
        return []
    return sorted({token for index in found for token in words[index].tokens})


def _wanted(word: Wanted) -> Any:
    return list(word) if isinstance(word, tuple) else word


def _check_range(one: Intervention, planned: int) -> None:
    begin, end = one.span
    if max(begin, end or 0) > planned:
        raise ValueError(f"{one!r}: this run has {planned} steps, counted from 0: use steps up to {planned}")
