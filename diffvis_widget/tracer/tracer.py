"""The tracer: records what a diffusers pipeline does while it runs, without changing its output."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Literal, Self

import torch
from torch import nn

from diffvis_widget._compat.torch_compile import is_compiled, uncompiled
from diffvis_widget.arguments import choice, flag, items, shorten
from diffvis_widget.tracer.families import Family, denoisers_of, find_family, second_denoiser
from diffvis_widget.traces import Step, Trace
from diffvis_widget.traces.types import Keep

from .active_interventions import Intervention, active_on, intervening
from .attention import AttentionReader
from .attention_support import hidden_attention
from .concept_encoding import check_concepts, encode_concepts, takes_concepts
from .concept_reader import ConceptReader
from .fault_guard import CannotRecordError, FaultGuard
from .locks import lock_of
from .observer import Observer
from .pipeline_support import check_pipeline
from .recording import Recording
from .scheduler_step import check_scheduler

_KEEPS = ("words", "layers", "heads")


class Tracer:
    """Records every generation that the pipeline makes inside the `with` block, in this thread.

    Args:
        pipe: A diffusers pipeline. Its output stays bit for bit the same.
        keep: Which attention maps to store: "words" (the mean over the default layers), "layers" (each layer, mean over
            heads) or "heads" (all). None: "layers", but "words" for a video whose maps would take more than 1 GiB, with
            a warning.
        view: A DiffVis that shows the call while it runs; of a batch, the first image.
        on_step: Called with each finished Step; `traces` then hold everything up to and including it. An exception it
            raises ends the pipeline's call; the finished steps stay in `traces`.
        compiled: "eager" runs a denoiser under torch.compile uncompiled inside the block, with a warning. None refuses
            it, because its attention cannot be observed.
        output: Also record output-space scores of image tokens and words, for `heat_map(kind="output")`. Only where
            text and image tokens attend together (Stable Diffusion 3, FLUX and similar models).
        interventions: Interventions of `diffvis_widget.intervene`. They change what the model computes, and the changed
            run is recorded; `trace.meta["interventions"]` describes them.
        concepts: Words whose maps are wanted although the prompt does not have them, at most 64. They are encoded apart
            from the prompt and only read: the output stays bit for bit the same. `trace.heat_map("sky")` then works,
            and `trace.words` ends with them (`Word.kind == "concept"`). They compete with each other. In U-Nets (Stable
            Diffusion 1, 2, XL) the probability is that of a softmax over the text tokens of a prompt of the concept's
            own, "a sky", and the other concepts; in Stable Diffusion 3 and FLUX.1 over all tokens of the layer and the
            concepts, which attend to the image and to each other (ConceptAttention, arXiv 2502.04320). In the refined
            maps of U-Nets colours compete with the prompt's colours too, and in the built-in model objects with its
            objects, and settings with both.

    Raises:
        TypeError: An argument has the wrong type, or the pipeline has no denoiser.
        ValueError: An argument is out of its range, or the pipeline cannot be traced.

    Example:
        >>> import diffvis_widget as dv
        >>> pipe = dv.load()
        >>> with dv.Tracer(pipe) as tracer:
        ...     image = pipe("a red circle", num_inference_steps=2).images[0]
        >>> len(tracer.trace.steps)
        2
    """

    _ends_failed_calls = False

    def __init__(
        self,
        pipe: Any,
        keep: Keep | None = None,
        view: Observer | None = None,
        on_step: Callable[[Step], object] | None = None,
        compiled: Literal["eager"] | None = None,
        output: bool = False,
        interventions: Sequence[Intervention] = (),
        concepts: Sequence[str] = (),
    ) -> None:
        if keep is not None:
            choice("keep", keep, _KEEPS)
        if on_step is not None and not callable(on_step):
            raise TypeError(f"on_step must be a function of a Step, not {shorten(on_step)}")
        if view is not None and not isinstance(view, Observer):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"view must be a DiffVis, not {shorten(view)}")
        if compiled is not None and not (isinstance(compiled, str) and compiled == "eager"):
            raise ValueError(f'compiled must be None or "eager", not {shorten(compiled)}')
        flag("output", output)
        expected = "a list of interventions, made by diffvis_widget.intervene"
        for intervention in items("interventions", interventions, expected):
            if not isinstance(intervention, Intervention):
                raise TypeError(f"interventions must be made by diffvis_widget.intervene, not {shorten(intervention)}")
        self.pipe = pipe
        self.keep: Keep | None = keep
        self.output = output
        self._view = view
        self._on_step = on_step
        self._compiled = compiled
        self._interventions = tuple(interventions)
        family, _ = find_family(pipe)
        if output and (family.sequence_layout is None or not family.text_queries):
            raise ValueError(
                f"output=True: in the {family.name} of {type(pipe).__name__} words have no attention output to "
                "compare with the image's; it works where text and image attend together (SD3, FLUX and their like). "
                "Leave it out: heat_map() then gives attention probabilities"
            )
        self._concepts = check_concepts(concepts)
        if self._concepts and (reason := takes_concepts(pipe, family)):
            raise ValueError(f"concepts: {reason}")
        self._finished: list[Trace] = []
        self._guard = FaultGuard(type(pipe).__name__, self._ends_failed_calls)
        self._recording: Recording | None = None
        self._active: ExitStack | None = None

    def __enter__(self) -> Self:
        if self._active is not None:
            raise RuntimeError("this Tracer is already in a with block; make another one")
        family, compiled_denoiser = find_family(self.pipe)
        denoiser = uncompiled(compiled_denoiser)
        check_pipeline(self.pipe, family, denoiser)
        second = second_denoiser(self.pipe, family)
        modules = family.attention_modules(denoiser)
        second_modules = {}
        if second is not None:
            second_modules = {**family.attention_modules(second), **family.refining_modules(second)}
        compiled = any(map(is_compiled, denoisers_of(self.pipe, family)))
        self._check(modules, second_modules, compiled)
        if not modules:
            warnings.warn(
                f"{type(self.pipe).__name__} is traced without word maps: its denoiser, a {family.name}, has no "
                "attention to words that is known here. To add it, see docs/pages/add-a-family.md",
                stacklevel=2,
            )
        with ExitStack() as stack:
            stack.enter_context(lock_of(denoiser))
            if compiled:
                warnings.warn("the compiled denoiser runs uncompiled while it is traced", stacklevel=2)
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            if (interventions := active_on(denoiser)) is not None:
                stack.enter_context(interventions.following(self.pipe))
            if self._interventions:
                stack.enter_context(intervening(self.pipe, self._interventions))
            reader = self._reader(family, denoiser, modules, second_modules)
            self._recording = Recording(
                self.pipe,
                family,
                denoiser,
                reader,
                self._guard,
                is_eager=compiled,
                keep=self.keep,
                observer=self._view,
                on_step=self._on_step,
                finished=self._finished,
            )
            stack.callback(reader.detach)
            reader.attach()
            stack.callback(self._recording.detach)
            self._recording.attach()
            self._active = stack.pop_all()
        return self

    def _check(self, modules: Mapping[str, nn.Module], second_modules: Mapping[str, nn.Module], compiled: bool) -> None:
        """Raise ValueError where the attention modules, the scheduler or the view do not allow a trace."""
        if reason := hidden_attention(modules) or hidden_attention(second_modules):
            raise ValueError(f"{type(self.pipe).__name__} cannot be traced: {reason}")
        check_scheduler(self.pipe.scheduler)
        if compiled and self._compiled is None:
            raise ValueError(
                "the denoiser is compiled by torch.compile, which hides its attention; "
                'pass compiled="eager" to run it uncompiled while it is traced'
            )
        if self._view is not None:
            self._view.check_model(self.pipe)

    def _reader(
        self, family: Family, denoiser: nn.Module, modules: dict[str, nn.Module], second_modules: dict[str, nn.Module]
    ) -> AttentionReader:
        """The reader of the denoiser's attention; it encodes the concepts, so hold the denoiser's lock."""
        heads, concepts = self.keep == "heads", None
        if self._concepts and modules:
            encoded = encode_concepts(self.pipe, family, self._concepts)
            concepts = ConceptReader(family, denoiser, modules, encoded, heads, self._guard)
        return AttentionReader(
            modules,
            heads=heads,
            output=self.output,
            refining=family.refining_modules(denoiser) if modules else {},
            second=second_modules,
            guard=self._guard,
            concepts=concepts,
            by_row=family.attends_by_row,
            image_keys=family.image_among_keys,
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stack, self._active = self._active, None
        assert stack is not None
        assert self._recording is not None
        with stack:
            self._recording.detach()
            self._guard.hook(self._recording.close)(error)
        if error is None and not self._finished and not self._guard.errors:
            warnings.warn(
                "nothing was traced: the pipeline was not called inside the with block, or in another thread",
                stacklevel=2,
            )

    @property
    def traces(self) -> list[Trace]:
        """One Trace per image of every call so far; those of a call under way grow with each step."""
        return [*self._finished, *([] if self._recording is None else self._recording.traces())]

    @property
    def trace(self) -> Trace:
        """The only Trace.

        Raises:
            ValueError: There is none, or there are several.
            CannotRecordError: A call was not recorded to its end; `traces` holds the steps before.
        """
        traces = self.traces
        if self._guard.errors:
            error = self._guard.errors[0]
            raise CannotRecordError(f"trace: {self._guard.describe(error)}") from error
        if len(traces) != 1:
            raise ValueError(f"trace: there are {len(traces)} traces; use tracer.traces")
        return traces[0]


class OwnCallTracer(Tracer):
    """A tracer around a call that diffvis_widget itself makes: an error in a hook ends the call at once.

    Args:
        pipe: See `Tracer`, as all other arguments.
    """

    _ends_failed_calls = True
