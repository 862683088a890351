"""The record of one generation: prompt, words, steps, images and attention maps.

The tracer writes a Trace step by step; everything else reads it, while it grows and afterwards. It needs numpy and no
torch: latents are decoded by a function that the tracer passes, or come as frames from a file.
"""

from __future__ import annotations

import copy
import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from numpy.typing import NDArray

from diffvis_widget import file_formats
from diffvis_widget.arguments import flag, step_index
from diffvis_widget.traces.file.image_codec import EncodedImages
from diffvis_widget.traces.file.reader import TraceContent
from diffvis_widget.traces.file.writer import save
from diffvis_widget.traces.results import Note, Region, ResultStore, StoredResult

from .array_checks import check_image, check_latents
from .decoded_steps import DecodedSteps
from .final_image import FinalImage, still
from .html_summary import card, final_thumbnail, prompt_lines, side_by_side
from .types import Decoder, HasBytes, Images, Keep, Layer, Record, Word
from .values import Comparable


class Trace(Comparable, DecodedSteps):
    """One generation. T is the number of finished steps; the trace of a run under way only grows.

    What was passed for ``prompt`` to ``negative_words`` is in attributes of the same names.

    Args:
        prompt: the text that the denoiser was given.
        negative_prompt: the negative prompt, None without.
        words: the words of the prompt.
        layers: the traced layers; empty where the pipeline's attention to words cannot be traced.
        keep: what of the attention maps was kept: "words" (mean over layers and heads), "layers" or "heads".
        meta: seed, guidance_scale, scheduler, pipeline, fingerprint, versions, date; plain JSON values. image_note
            says why `image` is not `decoded_image`, and crop, where that was pasted; typed_prompt is there where a
            model rewrote what was typed.
        negative_words: the words of the negative prompt, None without.
        records: finished steps to begin with.
        image: the final image, uint8 (H, W, 3); of a video, all its frames (frames, H, W, 3).
        decoded_image: the final latents decoded, where that is another image or video.
        frames: encoded frames of every step by kind, as a file has them.
        decoder: decodes latents; None for a trace without a pipeline.
        results: stored results by kind.

    Example:
        >>> trace = Trace(prompt="a circle", negative_prompt=None, words=[Word("a", (1,), "word")], layers=[],
        ...               keep="layers", meta={"seed": 7})
        >>> len(trace.steps)
        0
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
        decoded_image: Images | None = None,
        frames: Mapping[str, EncodedImages] | None = None,
        decoder: Decoder | None = None,
        results: Mapping[str, Sequence[StoredResult]] | None = None,
    ) -> None:
        DecodedSteps.__init__(self, records, layers, words, negative_words, keep, frames or {}, decoder)
        ResultStore.__init__(self, results)
        self.prompt = prompt
        self.negative_prompt = negative_prompt
        self.meta = dict(meta)
        self._final = FinalImage(image, decoded_image)

    @classmethod
    def from_content(cls, content: TraceContent) -> Trace:
        """Makes a trace of the content of a file.

        Args:
            content: what the reader returned.

        Returns:
            The trace, without a decoder.
        """
        header = content.header
        return cls(
            prompt=header.prompt,
            negative_prompt=header.negative_prompt,
            words=header.words,
            negative_words=header.negative_words,
            layers=header.layers,
            keep=header.keep,
            meta=header.meta,
            records=content.records,
            image=content.image,
            decoded_image=content.decoded_image,
            frames=content.frames,
            results=content.results,
        )

    def compared(self) -> tuple[Any, ...]:
        """Lists what `equals` compares: prompts, words, layers, ``meta``, steps with their arrays, and stored results.

        Returns:
            Values.
        """
        texts = (self.prompt, self.negative_prompt, self.words, self.negative_words, self.keep, self.meta)
        return *texts, self.layers, self.records, self.stored_results

    @property
    def typed_prompt(self) -> str:
        """What was typed: the prompt, unless a model of the pipeline rewrote it before it was encoded."""
        return str(self.meta.get("typed_prompt", self.prompt))

    def __getstate__(self) -> dict[str, Any]:
        # for worker processes: the function that decodes latents holds the pipeline and stays behind
        return {**vars(self), "_decoder": None, "_attention_source": None}

    def __deepcopy__(self, memo: dict[int, Any]) -> Trace:
        clone = type(self).__new__(type(self))
        memo[id(self)] = clone
        clone.__dict__ |= copy.deepcopy(self.__getstate__(), memo)
        clone._decoder = self._decoder
        return clone

    def __copy__(self) -> Trace:
        arrays = {id(array): array for record in self.records for array in record.arrays()}
        return copy.deepcopy(self, cast("dict[int, Any]", arrays))  # shares the arrays of the steps

    def __repr__(self) -> str:
        prompt = textwrap.shorten(self.prompt, 60, placeholder="...")
        return f"Trace({prompt!r}, {len(self._records)} steps, {len(self.words)} words, {len(self.layers)} layers)"

    def _repr_html_(self) -> str:
        seed, scheduler = self.meta.get("seed"), self.meta.get("scheduler")
        planned = "" if self.is_complete else f" of {self.meta['planned_steps']}"
        frames = f"{self.frame_count} latent frames" if self.frame_count > 1 else ""
        steps = f"{len(self._records)}{planned} steps"
        facts = (steps, frames, "" if seed is None else f"seed {seed}", str(scheduler or ""))
        typed = None if self.typed_prompt == self.prompt else self.typed_prompt
        described = prompt_lines(self.prompt, self.negative_prompt, self.words, typed)
        return card("Trace", facts, side_by_side(final_thumbnail(self, "final image"), described))

    # -- growing -----------------------------------------------------------------------------------------------------

    def finish(
        self, *, image: Images | None = None, decoded: Images | None = None, latents: NDArray[Any] | None = None
    ) -> None:
        """Sets the output of the pipeline.

        Args:
            image: the image that the pipeline returned, uint8 (H, W, 3); of a video, (frames, H, W, 3).
            decoded: the final latents decoded, in the same form.
            latents: the final latents, (C, h, w) or (C, F, h, w).

        Raises:
            TypeError: an argument is no array.
            ValueError: an array has another dtype or shape.
        """
        is_video = self.frame_count > 1
        if latents is not None and self._records:
            result = check_latents("latents", latents, 3, is_video=is_video)
            self._records[-1] = replace(self._records[-1], result=result)
        if image is not None or decoded is not None:
            returned = None if image is None else check_image("image", image, is_video)
            self._final = FinalImage(returned, None if decoded is None else check_image("decoded", decoded, is_video))

    # -- the run -----------------------------------------------------------------------------------------------------

    @property
    def is_complete(self) -> bool:
        """Whether the run reached its last planned step; False for one that was stopped, or failed."""
        planned = self.meta.get("planned_steps")
        return not isinstance(planned, int) or len(self._records) >= planned

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays that it holds: latents, maps, results, and encoded and decoded images.

        Arrays of a trace that was opened from a large file count too, although they are read on use.
        """
        arrays: list[HasBytes] = [array for record in self.records for array in record.arrays()]
        arrays += [*self._frames.arrays(), *self._final.arrays()]
        for stored in self.stored_results.values():
            arrays += [array for result in stored for array in result.tensors().values()]
        distinct = {id(array): array.nbytes for array in arrays}  # the result of a step is the next step's latents
        return sum(distinct.values()) + self._frames.encoded_nbytes

    # -- images ------------------------------------------------------------------------------------------------------

    @property
    def image(self) -> Images:
        """uint8 (H, W, 3): the image that the pipeline returned, else `decoded_image`; of a video, the first frame."""
        return still(self._output())

    @property
    def video(self) -> Images | None:
        """uint8 (frames, H, W, 3): the video that the pipeline returned, else the decoded one; None for an image."""
        return self._output() if self.frame_count > 1 else None

    @property
    def decoded_video(self) -> Images | None:
        """uint8 (frames, h, w, 3): the latest latents decoded, as `decoded_image` is for an image; None for that."""
        return self._decoded_output() if self.frame_count > 1 else None

    def _output(self) -> Images:
        return self._decoded_output() if self._final.returned is None else self._final.returned

    @property
    def decoded_image(self) -> Images:
        """uint8 (h, w, 3): the latest latents decoded; in a compact file, the last prediction.

        It is `image` unless the pipeline changed that afterwards; `meta["image_note"]` then says how.
        """
        return still(self._decoded_output())

    def _decoded_output(self) -> Images:
        final = self._final
        decoded = final.decoded
        if decoded is None and not (self.is_compact and "image_note" in self.meta):
            decoded = final.returned
        if decoded is not None:
            return decoded
        if (encoded := self._frames.encoded("prediction")) is not None:
            return encoded[-1]
        return final.latest(self._with_latents("image")[-1].result, self.decode)

    # -- notes ---------------------------------------------------------------------------------------------------------

    def note(
        self,
        text: str,
        step: int | None = None,
        words: Sequence[str | int] = (),
        region: Region | None = None,
        expects: str | None = None,
    ) -> Note:
        """Adds a note.

        Args:
            text: what to look at, 1 to 4000 characters.
            step: index of the step, or None for the whole run.
            words: words of the prompt, texts or indices.
            region: (left, top, right, bottom) as shares of the image, 0..1.
            expects: what a run must show, such as ``prompt has "moon"``; see `Note`.

        Returns:
            The note.

        Raises:
            IndexError: there is no such step.
            KeyError: there is no such word.
            TypeError: ``words`` is no sequence of words.
            ValueError: another argument has a wrong type or range.

        Example:
            >>> trace = dv.trace(dv.load(), "a red circle", seed=7, num_inference_steps=2)
            >>> trace.note("The circle appears", step=1, words=["circle"]).step
            1
        """
        note = Note(text, step, words, region, expects)  # pyright: ignore[reportArgumentType]
        if note.step is not None:
            step_index(note.step, len(self._records))
        note.check(self)
        self.notes.append(note)
        return note

    # -- file --------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], *, frames: bool = True, compact: bool = False) -> Path:
        """Writes the trace to one file, whole or not at all; `dv.open_trace` reads it.

        Args:
            path: of the file; an existing one is replaced, and its mode stays. A symbolic link stays, and its target is
                written.
            frames: whether to store the decoded images of every step, so that the file can be viewed without the model:
                predictions without loss, noisy latents at WebP quality 90 where they are larger than 128 pixels. The
                final image is stored in any case.
            compact: whether to write a file for viewing, below 3 MB: the images as the widget shows them, one map per
                word and step in 256 levels, no latents and no layers. The final image and stored results are whole;
                maps of relevance are left out where images would have to be made smaller for them.

        Returns:
            The path.

        Raises:
            TypeError: an argument has another type.
            OSError: the file cannot be written (no such folder, a device or a pipe, disk full); nothing is left
                half-written.
            ValueError: no step is finished, ``meta`` is no JSON, or a stored result does not belong to this trace.
            KeyError: a stored result names a word that the prompt does not have.

        Example:
            >>> trace = dv.trace(dv.load(), "a red circle", seed=7, num_inference_steps=2)
            >>> dv.open_trace(trace.save("run.safetensors")).equals(trace)
            True
        """
        frames, compact = flag("frames", frames), flag("compact", compact)
        write = file_formats.writer("compact") if compact else None
        return save(self, path, frames=frames, compact=None if write is None else lambda: write(self))
