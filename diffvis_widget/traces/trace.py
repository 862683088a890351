"""One generation, as data: what a pipeline was asked, what it did at each step, and where its words looked.

A Trace is written by the tracer step by step and read by everything else, while it grows and afterwards. It knows
numpy and nothing of torch: decoding latents is a function that the tracer gives it, or frames that a file brings.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.traces.file.image_codec import Pictures
from diffvis_widget.traces.results.notes import Note, Region
from diffvis_widget.traces.results.relevance import WordRelevance
from diffvis_widget.traces.results.saliency import Saliency
from diffvis_widget.traces.results.scores import ConceptScores

from .heat_maps import Kind, StepMaps, WordMaps
from .resize import Floats, Size
from .selectors import pick_words

WordKind = Literal["word", "special", "template", "padding", "truncated"]
Keep = Literal["words", "layers", "heads"]
FrameKind = Literal["prediction", "latents", "guidance"]
Images = NDArray[np.uint8]
Decoder = Callable[[NDArray[Any]], Images]


@dataclass(frozen=True, slots=True)
class Word:
    """A word of the prompt as the denoiser sees it.

    text: as typed (punctuation is its own word); for other kinds the token's own text.
    tokens: positions along the text keys of the denoiser, start token included; empty if the word was cut off.
    kind: "word", "special" (start and end tokens), "template" (words that the pipeline adds), "padding" (one for
    all) or "truncated" (beyond what the text encoder reads).
    token_texts: the text of each token, for words that were split.
    encoder: the text encoder that read it, where a model sees the prompt through several ("CLIP" and "T5" in SD3).
    """

    text: str
    tokens: tuple[int, ...]
    kind: WordKind
    token_texts: tuple[str, ...] = ()
    encoder: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One evaluation of the denoiser that the scheduler consumed.

    sigma: noise over signal (the sigma of k-diffusion); for flow matching its own sigma, 0..1.
    second_order: a corrector's evaluation between two steps (Heun, KDPM2, PNDM's warm-up, ...).
    """

    index: int
    timestep: float
    sigma: float
    second_order: bool = False


@dataclass(frozen=True, slots=True)
class Layer:
    """A place in the denoiser where image positions attend to the words.

    name: dotted module path. kind: "cross" (keys are text only) or "joint" (keys are text and image).
    grid: (h, w) of its maps. default: whether `heat_map` averages over it when no layer is asked for.
    """

    name: str
    kind: Literal["cross", "joint"]
    heads: int
    grid: Size
    default: bool


@dataclass(frozen=True, slots=True)
class Record:
    """What one step adds to a trace.

    latents: (C, h, w) that entered the denoiser. result: (C, h, w) after the scheduler's step.
    visible: the factor that brings the latents to the scale the denoiser and the VAE know (1 unless the scheduler
    keeps its noise unscaled). maps: float16 (heads or 1, words, h, w), one per layer, or a single one of their mean;
    negative: the same of the negative prompt's words. reused: indices of layers that did not run at this step.
    outputs: as maps, in output space, where that was traced.
    """

    step: Step
    latents: NDArray[Any]
    result: NDArray[Any]
    prediction: NDArray[Any]
    guidance: Floats | None
    visible: float
    maps: StepMaps
    negative: StepMaps | None = None
    reused: tuple[int, ...] = ()
    outputs: StepMaps | None = None


class Trace:
    """One generation. T is the number of steps finished so far; a running trace only grows.

    Attributes: prompt, negative_prompt, words, layers (empty where the pipeline's attention to words cannot be read),
    keep ("words", "layers" or "heads": what of the maps was kept), negative_words (None without a negative prompt) and
    meta (seed, guidance_scale, scheduler, pipeline, fingerprint, versions, date; plain JSON values).

    What was found out about the run afterwards goes into its file and its page too: scores (what `dv.concept_scores`
    gave, or None), saliency (a list of what the methods of `dv.explain` gave), relevance (a list of WordRelevance, the
    newest of each schedule last) and notes (a list of Note).
    """

    def __init__(
        self,
        *,
        prompt: str,
        negative_prompt: str | None,
        words: Sequence[Word],
        layers: Sequence[Layer],
        keep: Keep,
        meta: Mapping[str, Any],
        negative_words: Sequence[Word] | None = None,
        records: Sequence[Record] = (),
        image: Images | None = None,
        pictures: Mapping[str, Pictures] | None = None,
        decoder: Decoder | None = None,
        notes: Sequence[Note] = (),
        scores: ConceptScores | None = None,
        saliency: Sequence[Saliency] = (),
        relevance: Sequence[WordRelevance] = (),
    ) -> None:
        self.prompt = prompt
        self.negative_prompt = negative_prompt
        self.words = list(words)
        self.layers = list(layers)
        self.keep: Keep = keep
        self.meta = dict(meta)
        self.negative_words = None if negative_words is None else list(negative_words)
        self._maps = WordMaps(self.words, self.layers, keep, self._prompt_maps, self._output_maps)
        self._records = list(records)
        self._image = image
        self._decoder = decoder
        self._pictures = dict(pictures or {})  # as a file has them
        self._frames: dict[str, dict[int, Images]] = {"prediction": {}, "latents": {}}
        self.notes = list(notes)
        self.scores = scores
        self.saliency = list(saliency)
        self.relevance = list(relevance)

    def __repr__(self) -> str:
        return f"Trace({self.prompt!r}, {len(self._records)} steps, {len(self.words)} words, {len(self.layers)} layers)"

    # -- growing -----------------------------------------------------------------------------------------------------

    def append(self, record: Record) -> None:
        """Add a finished step. Called by the tracer, in order."""
        self._records.append(record)

    def finish(self, *, image: Images | None = None, latents: NDArray[Any] | None = None) -> None:
        """Set what the pipeline ended with: its image uint8 (H, W, 3), its final latents (C, h, w)."""
        if image is not None:
            self._image = image
        if latents is not None and self._records:
            self._records[-1] = replace(self._records[-1], result=latents)

    # -- the run -----------------------------------------------------------------------------------------------------

    @property
    def records(self) -> list[Record]:
        """The finished steps with all that was kept of each."""
        return list(self._records)

    @property
    def steps(self) -> list[Step]:
        """One Step per denoiser evaluation that the scheduler consumed."""
        return [record.step for record in self._records]

    @property
    def timesteps(self) -> Floats:
        """float32 (T,)"""
        return np.array([record.step.timestep for record in self._records], dtype=np.float32)

    @property
    def sigmas(self) -> Floats:
        """float32 (T,): noise over signal at each step; for flow matching its own sigma."""
        return np.array([record.step.sigma for record in self._records], dtype=np.float32)

    @property
    def latents(self) -> NDArray[Any]:
        """(T + 1, C, h, w), float16 or float32: [0] the initial noise, [k] what entered step k, [T] the newest."""
        records = self._with_latents("latents")
        return np.stack([*(record.latents for record in records), records[-1].result])

    @property
    def predictions(self) -> NDArray[Any]:
        """(T, C, h, w): the clean latents predicted at each step, guidance applied, before any clipping."""
        records = self._with_latents("predictions")
        return np.stack([record.prediction for record in records])

    def _with_latents(self, name: str) -> list[Record]:
        records = list(self._records)
        if not records:
            raise ValueError(f"{name}: no step of this trace is finished yet")
        if self.is_compact:
            raise ValueError(
                f"{name}: this trace was opened from a compact file, which has none: open one that was saved whole"
            )
        return records

    @property
    def is_compact(self) -> bool:
        """Whether it was opened from a compact file: pictures and word maps for looking at, and no latents."""
        return bool(self._records) and self._records[0].latents.size == 0

    @property
    def is_complete(self) -> bool:
        """Whether the run got to the last step that was planned; False of one that was stopped, or failed."""
        planned = self.meta.get("planned_steps")
        return not isinstance(planned, int) or len(self._records) >= planned

    @property
    def guidance(self) -> Floats | None:
        """float32 (T, h, w): root mean square over channels of conditional minus unconditional output.

        None for a run without guidance; NaN at steps without, where others had it.
        """
        maps = [record.guidance for record in list(self._records)]
        some = next((part for part in maps if part is not None), None)
        if some is None:
            return None
        return np.stack([np.full_like(some, np.nan) if part is None else part for part in maps])

    # -- pictures ----------------------------------------------------------------------------------------------------

    @property
    def image(self) -> Images:
        """uint8 (H, W, 3): the picture the pipeline made; of an unfinished run, its latest latents decoded."""
        if self._image is None and (stored := self._pictures.get("prediction")) is not None:
            self._image = stored[-1]
        if self._image is None:
            self._image = self.decode(self.latents[-1:])[0]
        return self._image

    def frames(self, kind: FrameKind) -> Images:
        """uint8 (T, H, W, 3), decoded by the run's VAE when first asked for and then kept.

        kind: "prediction" (the predicted picture), "latents" (the noisy picture that entered the step) or
        "guidance" (grey on the latent grid, white is the largest value of the run).
        Raises ValueError for another kind, for "guidance" of a run without guidance, and where there is no decoder.
        """
        if kind == "guidance":
            return self._guidance_frames()
        if kind not in ("prediction", "latents"):
            raise ValueError(f'kind must be "prediction", "latents" or "guidance", not {kind!r}')
        records = list(self._records)
        if not records:
            raise ValueError("frames: no step of this trace is finished yet")
        known = self._frames[kind]
        if (stored := self._pictures.get(kind)) is not None:
            return np.stack([stored[index] for index in range(len(records))])
        missing = [index for index in range(len(records)) if index not in known]
        source = self.predictions if kind == "prediction" else self.visible_latents
        for start in range(0, len(missing), 4):  # few at a time: a VAE needs much memory
            part = missing[start : start + 4]
            known.update(zip(part, self.decode(source[part]), strict=True))
        return np.stack([known[index] for index in range(len(records))])

    def frame(self, kind: Literal["prediction", "latents"], index: int) -> Images:
        """uint8 (H, W, 3): one picture of `frames(kind)`, decoding no other. Raises what it raises, and IndexError."""
        index = range(len(self._records))[index]
        if (stored := self._pictures.get(kind)) is not None:
            return stored[index]
        known = self._frames[kind]
        if index not in known:
            one = self._with_latents("frame")[index]
            source = (
                one.prediction if kind == "prediction" else one.latents.astype(np.float32) * np.float32(one.visible)
            )
            known[index] = self.decode(source[None])[0]
        return known[index]

    def keep_frame(self, kind: Literal["prediction", "latents"], index: int, image: Images) -> None:
        """Keep a picture that was decoded elsewhere, uint8 (H, W, 3), so that `frames` need not decode it again."""
        if (stored := self._pictures.pop(kind, None)) is not None:
            self._frames[kind] = dict(enumerate(stored))
        self._frames[kind][index] = image

    def stored_pictures(self, kind: str) -> Pictures | None:
        """The encoded pictures of the file that this trace was opened from; None where there are none."""
        return self._pictures.get(kind)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays: latents, predictions, guidance, maps of every kind, and the frames decoded so far."""
        arrays: list[NDArray[Any]] = [*self._pictures.values()]
        arrays += [frame for frames in self._frames.values() for frame in list(frames.values())]
        for record in list(self._records):
            arrays += [record.latents, record.result, record.prediction]
            arrays += [] if record.guidance is None else [record.guidance]
            arrays += [*record.maps, *(record.negative or ()), *(record.outputs or ())]
        arrays += [] if self._image is None else [self._image]
        return sum(array.nbytes for array in {id(array): array for array in arrays}.values())  # some are shared

    def _guidance_frames(self) -> Images:
        guidance = self.guidance
        if guidance is None:
            raise ValueError("frames('guidance'): this run had no guidance (guidance_scale of 1 or less)")
        shown = np.nan_to_num(guidance)
        grey = np.round(shown * (255.0 / max(float(shown.max()), 1e-12))).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)

    def decode(self, latents: NDArray[Any]) -> Images:
        """Latents (n, C, h, w), on the scale of `visible_latents`, to pictures uint8 (n, H, W, 3), by the run's VAE.

        Raises ValueError for a trace that was opened from a file: it has no pipeline.
        """
        if self._decoder is None:
            raise ValueError(
                "this trace was opened from a file that holds no decoded frames, and has no pipeline to decode them: "
                "save it with frames=True"
            )
        return self._decoder(latents)

    def has_frames(self, kind: FrameKind) -> bool:
        """Whether `frames(kind)` can answer: it is decoded already, or there is something to decode it with."""
        if kind == "guidance":
            return self.guidance is not None
        return self._decoder is not None or kind in self._pictures or len(self._frames[kind]) >= len(self._records) > 0

    @property
    def visible_latents(self) -> Floats:
        """float32 (T, C, h, w): the latents that entered each step, on the scale that the VAE knows.

        Schedulers of the Euler kind keep latents whose noise grows to many times the picture; these are scaled down.
        """
        records = self._with_latents("latents")
        return np.stack([record.latents.astype(np.float32) * np.float32(record.visible) for record in records])

    # -- words -------------------------------------------------------------------------------------------------------

    def heat_map(
        self,
        word: str | int | Sequence[str | int],
        step: int | None = None,
        layer: str | int | Sequence[str | int] | None = None,
        head: int | None = None,
        size: Size | None = None,
        kind: Kind = "probability",
    ) -> Floats:
        """Attention probability (0..1) or output score of a word, float32 (h, w); see `WordMaps.heat_map`."""
        return self._maps.heat_map(word, step=step, layer=layer, head=head, size=size, kind=kind)

    def heat_maps(
        self,
        step: int | None = None,
        layer: str | int | Sequence[str | int] | None = None,
        head: int | None = None,
        size: Size | None = None,
        kind: Kind = "probability",
    ) -> Floats:
        """Maps of all words, float32 (len(words), h, w); see `WordMaps.heat_maps`."""
        return self._maps.heat_maps(step=step, layer=layer, head=head, size=size, kind=kind)

    @property
    def negative(self) -> WordMaps | None:
        """The negative prompt's words and where they looked in its own branch; None where there was none."""
        if self.negative_words is None:
            return None
        return WordMaps(self.negative_words, self.layers, self.keep, self._negative_maps)

    def _prompt_maps(self) -> list[StepMaps]:
        return [record.maps for record in list(self._records)]

    def _output_maps(self) -> list[StepMaps]:
        records = list(self._records)
        return [record.outputs for record in records if record.outputs is not None]

    def _negative_maps(self) -> list[StepMaps]:
        blank = [np.full_like(maps[:, :1], np.nan) for maps in self._records[0].maps] if self._records else []
        count = len(self.negative_words or ())
        missing = tuple(np.repeat(maps, count, axis=1) for maps in blank)
        return [missing if record.negative is None else record.negative for record in list(self._records)]

    @property
    def reused(self) -> NDArray[np.bool_]:
        """bool (T, len(layers)): where a layer did not run and a cache's older result stood in for it.

        Its map at such a step is that of the step in which it last ran.
        """
        found = np.zeros((len(self._records), len(self.layers)), dtype=bool)
        for index, record in enumerate(list(self._records)):
            found[index, list(record.reused)] = True
        return found

    def note(
        self,
        text: str,
        step: int | None = None,
        words: Sequence[str | int] = (),
        region: Region | None = None,
    ) -> Note:
        """Add a note and return it; see `Note`. Raises its errors, IndexError for a step and KeyError for a word."""
        note = Note(text, step, tuple(words), region)
        if note.step is not None and note.step >= len(self._records):
            raise IndexError(f"step {note.step} is out of range: this trace has steps 0 to {len(self._records) - 1}")
        if note.words:
            pick_words(self.words, list(note.words))
        self.notes.append(note)
        return note

    # -- file --------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], *, frames: bool = True, compact: bool = False) -> Path:
        """Write the trace to one file (see `open_trace`), whole or not at all. Returns the path.

        frames: also keep the decoded pictures of every step, so that the file can be viewed without the model: the
        predictions lossless, the noisy latents at WebP quality 90 where they are larger than 128 pixels.
        compact: a file for looking at, under 3 MB: the pictures as the widget shows them, one map for each word and
        step in 256 levels, no latents, no layers; the final picture, scores, saliency, curves of relevance and notes
        are whole. Maps of relevance are in it where the pictures need not be made smaller for them.
        Raises OSError where the file cannot be written (no such folder, disk full); nothing is left half-written.
        ValueError or KeyError where notes, scores, saliency or relevance are not of this trace.
        """
        from diffvis_widget.traces.file.reader import save

        return save(self, path, frames=frames, compact=compact)
