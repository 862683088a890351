"""The words of a run and their heat maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from diffvis_widget.arguments import choice

from .guided_resize import guided_resize
from .heat_maps import WordMaps
from .map_description import MapDescription, describe_map
from .recorded_steps import RecordedSteps
from .selectors import pick_frame, pick_steps
from .types import Floats, FrameSelection, Images, Keep, Layer, MapKind, Record, Size, StepMaps, StepSelection, Word


class WordedSteps(RecordedSteps):
    """The part of a trace that has the words of the prompt and their heat maps.

    Args:
        records: finished steps to begin with.
        layers: the traced layers.
        words: the words of the prompt.
        negative_words: the words of the negative prompt, None without.
        keep: what of the attention maps was kept.
        predicted_image: (step, latent frame) -> the predicted image, uint8 (H, W, 3).
    """

    def __init__(
        self,
        records: Sequence[Record],
        layers: Sequence[Layer],
        words: Sequence[Word],
        negative_words: Sequence[Word] | None,
        keep: Keep,
        predicted_image: Callable[[int, int], Images],
    ) -> None:
        super().__init__(records, layers)
        self.words = list(words)
        self.keep: Keep = keep
        self._predicted_image = predicted_image
        self.negative_words = None if negative_words is None else list(negative_words)
        self._maps = WordMaps(self.words, self.layers, keep, self._prompt_maps, self._output_maps, self._refined_maps)

    def heat_map(
        self,
        word: str | int | Sequence[str | int],
        step: StepSelection | None = None,
        layer: str | int | Sequence[str | int] | None = None,
        head: int | None = None,
        size: Size | Literal["image"] | None = None,
        kind: MapKind = "probability",
        among: Sequence[str | int] | None = None,
        frame: FrameSelection = None,
    ) -> Floats:
        """Computes the heat map of a word; see `WordMaps.heat_map` for details and errors.

        Args:
            word: a text of the prompt, an index, or a list of these (their sum).
            step: index of a step, or a slice or list of them (their mean); None is the mean over all steps.
            layer: a name, an index, a list of these, "all", or None for the mean over the default layers.
            head: index of a head; None is the mean over heads.
            size: (h, w) to resize to bilinearly. "image": the size of the image, along the edges of the predicted
                image of the step, or of the last one (`guided_resize`); of a trace that can decode, or has frames.
            kind: "probability" (0..1), "output" (output-space score), or "refined" (follows objects best; in multiples
                of the map's mean).
            among: words that compete for each position: the result is the share of `word` among these and the rest.
            frame: of a video, the index of a latent frame, "all", or None for the mean over frames.

        Returns:
            float32 (h, w); with frame="all", (frames, h, w).

        Example:
            >>> trace = dv.trace(dv.load(), "a red circle", seed=7, num_inference_steps=2)
            >>> trace.heat_map("circle").shape
            (12, 12)
            >>> trace.heat_map("circle", step=1, layer=0, size=(24, 24)).shape
            (24, 24)
        """
        if isinstance(size, str):
            choice("size", size, ("image",))
            chosen = pick_frame(self.frame_count, frame)
            if chosen == "all" or (chosen is None and self.frame_count > 1):
                raise ValueError('size="image" follows the edges of one frame of a video: name it, as frame=0')
            heat = self._maps.heat_map(word, step=step, layer=layer, head=head, kind=kind, among=among, frame=chosen)
            return guided_resize(heat, self._predicted_image(pick_steps(len(self.records), step)[-1], chosen or 0))
        return self._maps.heat_map(
            word, step=step, layer=layer, head=head, size=size, kind=kind, among=among, frame=frame
        )

    def heat_maps(
        self,
        step: StepSelection | None = None,
        layer: str | int | Sequence[str | int] | None = None,
        head: int | None = None,
        size: Size | None = None,
        kind: MapKind = "probability",
        frame: FrameSelection = None,
    ) -> Floats:
        """Computes the heat maps of all words; see `WordMaps.heat_maps` for details and errors.

        Args:
            step: index of a step, or a slice or list of them (their mean); None is the mean over all steps.
            layer: a name, an index, a list of these, "all", or None for the mean over the default layers.
            head: index of a head; None is the mean over heads.
            size: (h, w) to resize to.
            kind: "probability" (0..1), "output" (output-space score) or "refined" (in multiples of the mean).
            frame: of a video, the index of a latent frame, "all", or None for the mean over frames.

        Returns:
            float32 (len(words), h, w); with frame="all", (len(words), frames, h, w).

        Example:
            >>> trace = dv.trace(dv.load(), "a red circle", seed=7, num_inference_steps=2)
            >>> trace.heat_maps(step=1).shape == (len(trace.words), 12, 12)
            True
        """
        return self._maps.heat_maps(step=step, layer=layer, head=head, size=size, kind=kind, frame=frame)

    def describe_map(
        self,
        word: str | int | Sequence[str | int],
        step: StepSelection | None = None,
        layer: str | int | Sequence[str | int] | None = None,
        head: int | None = None,
        kind: MapKind = "probability",
        among: Sequence[str | int] | None = None,
    ) -> MapDescription:
        """Describes why a heat map looks as it does: what it averages, how focused it is, and what it resembles.

        Args:
            word: a text of the prompt, an index, or a list of these.
            step: index of a step, or a slice or list of them; None for all steps.
            layer: a name, an index, a list of these, "all", or None for the default layers.
            head: index of a head; None for the mean over heads.
            kind: "probability", "output" or "refined".
            among: words that compete for each position, as for `heat_map`.

        Returns:
            Layers, steps and kind; entropy and contrast; the shares of attention that go to the word and to special
            tokens; and the words with the most similar maps. `print` it for sentences.

        Raises:
            KeyError: there is no such word or layer.
            IndexError: there is no such step or head.
            ValueError: the layer, the head or the kind was not kept.
            TypeError: an argument has a wrong type.

        Example:
            >>> trace = dv.trace(dv.load(), "a red circle", seed=7, num_inference_steps=2)
            >>> trace.describe_map("circle", kind="refined").kind
            'refined'
        """
        return describe_map(self._maps, word, step, layer, head, kind, among, self.meta.get("refined_shares", ()))

    @property
    def negative(self) -> WordMaps | None:
        """The heat maps of the negative prompt's words in the unconditional branch; None without a negative prompt."""
        if self.negative_words is None:
            return None
        return WordMaps(self.negative_words, self.layers, self.keep, self._negative_maps)

    def _prompt_maps(self) -> list[StepMaps]:
        return [record.maps for record in self.records]

    def _output_maps(self) -> list[StepMaps]:
        return [record.outputs for record in self.records if record.outputs is not None]

    def _refined_maps(self) -> list[StepMaps]:
        return [(record.refined,) for record in self.records if record.refined is not None]

    @property
    def has_refined_maps(self) -> bool:
        """Whether `heat_map(kind="refined")` works: not where self-attention could not be read, and in older files."""
        return any(record.refined is not None for record in self.records[:1])

    def _negative_maps(self) -> list[StepMaps]:
        records = self.records
        blank = [np.full_like(maps[:, :1], np.nan) for maps in records[0].maps] if records else []
        count = len(self.negative_words or ())
        missing = tuple(np.repeat(maps, count, axis=1) for maps in blank)
        return [missing if record.negative is None else record.negative for record in records]
