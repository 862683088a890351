"""The messages about one run, in the order of their sequence: run, step, frame, scores, end.

Each message has one builder here; answers to requests of the page are built in ``replies``. This module only turns
data into messages: it starts nothing, holds nothing and imports neither torch nor a notebook.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.traces.prompt_words import occurs
from diffvis_widget.traces.types import Size

from .packed_run import Json, Message, json_number, json_numbers, quantise

if TYPE_CHECKING:
    from diffvis_widget.traces import Layer, Step, Word

View = Literal["prediction", "latents", "guidance"]
State = Literal["done", "stopped", "failed"]
VIEWS: tuple[View, ...] = ("prediction", "latents", "guidance")


@dataclass(frozen=True)
class RunRequest:
    """A request of a run.

    Attributes:
        prompt: the text to paint.
        negative_prompt: "" for none.
        seed: of the random generator.
        steps: planned number of denoising steps; None for the pipeline's own default.
        guidance_scale: 1 or less is a run without guidance; None for the pipeline's own default.
        schedule: where the steps are spent.
        schedule_strength: of "early" and "late", 0 or more.
        weights: attention factor by word (lower case); None drops the word.
    """

    prompt: str
    negative_prompt: str = ""
    seed: int = 0
    steps: int | None = None
    guidance_scale: float | None = None
    schedule: Literal["uniform", "early", "late"] = "uniform"
    schedule_strength: float = 60.0
    weights: Mapping[str, float | None] = field(default_factory=dict[str, "float | None"])

    @property
    def present_weights(self) -> dict[str, float | None]:
        """The weights of words that occur in the prompt; the others wait for a prompt that has them."""
        return {word: factor for word, factor in self.weights.items() if occurs(word, self.prompt)}


@dataclass(frozen=True, slots=True)
class RunSettings:
    """The settings of a run as the page shows them; None where they are not known.

    Attributes:
        prompt: the text that was typed.
        negative_prompt: None for none.
        seed: of the random generator.
        steps: planned number of denoising steps.
        guidance_scale: as passed to the pipeline.
        schedule: "uniform", "early" or "late".
        schedule_strength: of "early" and "late".
        scheduler: class name of the scheduler.
        pipeline: class name of the pipeline.
        weights: attention factor by word over the whole run; None is a dropped word.
        has_noise_levels: whether the noise levels of the scheduler are known, and with them the predicted images.
        is_external: whether the notebook's own code made the run, not the widget.
        is_draft: whether it has few steps, and the run with all of them follows.
        rewritten_prompt: the text that was painted, where a model of the pipeline rewrote what was typed; else None.
        shares: the words whose refined maps are of their share among words that they exclude.
    """

    prompt: str
    negative_prompt: str | None
    seed: int | None
    steps: int
    guidance_scale: float | None
    schedule: str
    schedule_strength: float
    scheduler: str
    pipeline: str
    weights: Mapping[str, float | None] = field(default_factory=dict[str, "float | None"])
    has_noise_levels: bool = True
    is_external: bool = False
    is_draft: bool = False
    rewritten_prompt: str | None = None
    shares: Sequence[str] = ()


@dataclass
class StepImages:
    """The images of a finished step.

    Attributes:
        step: the step.
        prediction: the predicted image, uint8 (H, W, 3), or (F, H, W, 3) of a video; None without a decoder.
        latents: the noisy image that entered the step, uint8 (H, W, 3), or None.
        exact: whether the VAE decoded the prediction; False is a linear preview.
        decode_seconds: duration of one exact decode, as far as known.
        exact_latents: whether the VAE decoded the noisy image.
    """

    step: Step
    prediction: NDArray[np.uint8] | None
    latents: NDArray[np.uint8] | None
    exact: bool
    decode_seconds: float = 0.0
    exact_latents: bool = True


@dataclass(frozen=True)
class ScoresPayload:
    """Concept scores of the first T steps of a run, for the page.

    Attributes:
        concepts: the K concepts.
        cosine: float32 (T, K), -1..1.
        null_band: float32 (T, 2), 5th and 95th percentile of the cosines of unrelated words.
        share: float32 (T, K), 0..1; None for a single concept.
        emergence: float32 (K,), step from which the concept is there; NaN where it is not.
        meter: name of the meter, None where it is not known.
        present: float32 (T, K), 1 present, 0 absent, NaN not sure; None for a meter that is not calibrated.
    """

    concepts: list[str]
    cosine: NDArray[np.float32]
    null_band: NDArray[np.float32]
    share: NDArray[np.float32] | None
    emergence: NDArray[np.float32]
    meter: str | None
    present: NDArray[np.float32] | None = None

    def message(self, run: str, start: int) -> Message:
        """Builds the message with the rows from a step on.

        Args:
            run: id of the run.
            start: first step to include.

        Returns:
            The scores message.
        """
        return scores_message(
            run,
            start,
            self.concepts,
            self.cosine[start:],
            self.null_band[start:],
            None if self.share is None else self.share[start:],
            self.emergence,
            self.meter,
            None if self.present is None else self.present[start:],
        )


@dataclass(frozen=True)
class RunPayload:
    """All messages of a run as it stands.

    Attributes:
        run: the message that begins it.
        steps: the step messages by index.
        scores: the concept scores, None without.
        end: the message that ends it, None while it runs.
    """

    run: Message
    steps: dict[int, Message]
    scores: ScoresPayload | None
    end: Message | None

    def messages(self) -> list[Message]:
        """Lists the messages in order, numbered from 0.

        Returns:
            run, steps, scores where there are some, end where there is one.
        """
        ordered = [self.run, *(self.steps[index] for index in sorted(self.steps))]
        if self.scores is not None:
            ordered.append(self.scores.message(self.run.content["run"], 0))
        ordered += [] if self.end is None else [self.end]
        return [message.stamped(seq) for seq, message in enumerate(ordered)]


def run_message(
    run: str,
    settings: RunSettings,
    words: Sequence[Word],
    layers: Sequence[Layer],
    *,
    grid: Size,
    image: Size,
    views: Sequence[View],
    meter: str | None,
    unknown: Collection[str] = (),
    notes: Sequence[Json] | None = None,
) -> Message:
    """Builds the message that begins a run on the page.

    Args:
        run: id of the run.
        settings: its settings.
        words: the words of its prompt; a model with several text encoders has them once for each.
        layers: the layers whose attention was traced.
        grid: (h, w) of the attention maps, (0, 0) where there are none.
        image: (H, W) of the image, (0, 0) where none is shown.
        views: the images that every step can show.
        meter: name of the concept meter.
        unknown: words (lower case) that the model never saw in training.
        notes: the notes of the run; None leaves the field out.

    Returns:
        The run message.
    """
    content: Json = {
        "type": "run",
        "run": run,
        "prompt": settings.prompt,
        "negative_prompt": settings.negative_prompt,
        "seed": settings.seed,
        "steps": settings.steps,
        "guidance_scale": json_number(settings.guidance_scale),
        "scheduler": settings.scheduler,
        "schedule": settings.schedule,
        "schedule_strength": settings.schedule_strength,
        "weights": dict(settings.weights),
        "pipeline": settings.pipeline,
        "noise_levels": "known" if settings.has_noise_levels else "unknown",
        "words": [
            {
                "text": word.text,
                "tokens": [int(token) for token in word.tokens],
                "token_texts": list(word.token_texts),
                "kind": word.kind,
                "encoder": word.encoder,
                "unknown": word.kind == "word" and word.text.lower() in unknown,
            }
            for word in words
        ],
        "grid": list(grid),
        "image": list(image),
        "layers": [
            {**{name: getattr(layer, name) for name in ("name", "kind", "heads", "default")}, "grid": list(layer.grid)}
            for layer in layers
        ],
        "views": list(views),
        "meter": meter,
    }
    flags: Json = {"external": settings.is_external, "draft": settings.is_draft, "rewritten": settings.rewritten_prompt}
    flags["shares"] = list(settings.shares)
    content |= {name: value for name, value in flags.items() if value}
    return Message(content if notes is None else {**content, "notes": list(notes)})


def step_message(
    run: str,
    step: Step,
    maps: NDArray[np.floating[Any]],
    images: Mapping[View, bytes],
    guidance_range: tuple[float, float] | None,
    exact: bool,
    elapsed: float,
    previews: Sequence[View] = (),
) -> Message:
    """Builds the message of one finished step.

    Args:
        run: id of the run.
        step: the step.
        maps: (words, h, w), NaN for a word without a map.
        images: encoded image of each view.
        guidance_range: values of black and white in the guidance image; None without guidance.
        exact: whether the VAE decoded the prediction.
        elapsed: seconds since the run began.
        previews: the images that are linear previews.

    Returns:
        The step message; its buffers are the images in the order of its ``views``, then the quantised maps.
    """
    quantised, scales = quantise(maps)
    views: list[View] = [view for view in VIEWS if view in images]
    content: Json = {
        "type": "step",
        "run": run,
        "index": step.index,
        "timestep": json_number(step.timestep),
        "sigma": json_number(step.sigma),
        "second_order": step.second_order,
        "maps": {"shape": list(maps.shape), "scales": scales},
        "exact": exact,
        "views": views,
        "guidance_range": None if guidance_range is None else [json_number(value) for value in guidance_range],
        "elapsed": round(elapsed, 3),
    }
    content |= {"previews": list(previews)} if previews else {}
    return Message(content, (*(images[view] for view in views), quantised.tobytes()))


def frame_message(run: str, index: int, image: bytes, view: View = "prediction") -> Message:
    """Builds the message with an exactly decoded image of a step, which replaces the preview on the page.

    Args:
        run: id of the run.
        index: of the step.
        image: the encoded image.
        view: which image of the step it is.

    Returns:
        The frame message.
    """
    content: Json = {"type": "frame", "run": run, "index": index, "exact": True}
    return Message(content if view == "prediction" else {**content, "view": view}, (image,))


def scores_message(
    run: str,
    start: int,
    concepts: Sequence[str],
    cosine: NDArray[np.floating[Any]],
    null_band: NDArray[np.floating[Any]],
    share: NDArray[np.floating[Any]] | None,
    emergence: NDArray[np.floating[Any]],
    meter: str | None,
    present: NDArray[np.floating[Any]] | None = None,
) -> Message:
    """Builds the message with concept scores of the steps from ``start`` on.

    Args:
        run: id of the run.
        start: first step.
        concepts: the K concepts.
        cosine: (rows, K).
        null_band: (rows, 2).
        share: (rows, K), or None for a single concept.
        emergence: (K,), NaN where a concept does not emerge.
        meter: name of the meter.
        present: (rows, K), 1 present, 0 absent, NaN not sure; None for a meter that is not calibrated.

    Returns:
        The scores message. Five digits are far below a cosine's own noise, and a third of the bytes.
    """

    def rows(values: NDArray[np.floating[Any]]) -> list[list[float | None]]:
        return [json_numbers(row, 5) for row in values]

    return Message(
        {
            "type": "scores",
            "run": run,
            "start": start,
            "concepts": list(concepts),
            "cosine": rows(cosine),
            "null_band": rows(null_band),
            "share": None if share is None else rows(share),
            "emergence": [None if math.isnan(step) else int(step) for step in emergence.tolist()],
            "meter": meter,
            **({} if present is None else {"present": rows(present)}),
        }
    )


def end_message(
    run: str,
    state: State,
    steps: int,
    seconds: float,
    error: str | None = None,
    image: bytes | None = None,
    note: str | None = None,
) -> Message:
    """Builds the message that ends a run.

    Args:
        run: id of the run.
        state: how it ended.
        steps: number of finished steps.
        seconds: its duration.
        error: what went wrong, None if nothing did.
        image: the final image as PNG, where there is one.
        note: why the final image is not the one that was decoded, None where it is.

    Returns:
        The end message.
    """
    content: Json = {"type": "end", "run": run, "state": state, "steps": steps, "error": error}
    content |= {"seconds": round(seconds, 3), **({} if note is None else {"note": note})}
    return Message(content, () if image is None else (image,))
