"""What one position of the image attends to: words, other positions of the image, and reference images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from diffvis_widget.arguments import did_you_mean, items, real, shorten, step_index

from .resize import finest, spread
from .results import ImageAttention, ResultStore
from .selectors import pick_layers, pick_steps
from .types import Floats, PositionAttention, Size
from .worded_steps import WordedSteps

MOST_BYTES = 2**26  # of stored rows: 64 MB


class AttentionSource(Protocol):
    """Evaluates the denoiser of a trace again."""

    def rows(
        self, trace: Any, step: int, position: tuple[float, float], layers: Sequence[int]
    ) -> Sequence[PositionAttention]:
        """Compute what one position attends to in some layers.

        Args:
            trace: the trace.
            step: index of a step.
            position: (y, x) as shares of the image, 0..1.
            layers: indices of the layers.

        Returns:
            One entry for each of these.
        """
        ...

    def matrix(self, trace: Any, step: int, grids: Sequence[Size]) -> Floats:
        """Compute what every position attends to, mean over the default layers.

        Args:
            trace: the trace.
            step: index of a step.
            grids: (h, w) of the positions, then of the tokens of each reference image.

        Returns:
            float32 (positions, keys): positions of the image, then the tokens of each reference image.
        """
        ...


class AttendedPositions(WordedSteps, ResultStore):
    """The part of a trace that answers what a position of the image attends to."""

    _attention_source: AttentionSource | None = None

    def set_attention_source(self, source: AttentionSource | None) -> None:
        """Sets what evaluates the denoiser again. The tracer calls it.

        Args:
            source: None for a trace without a pipeline.
        """
        self._attention_source = source

    def attention_from(
        self,
        position: tuple[float, float],
        step: int,
        layer: str | int | Sequence[str | int] | None = None,
        to: str = "image",
    ) -> Floats:
        """Computes what one position of the image attends to: exact attention probabilities, mean over heads.

        The denoiser is evaluated once more for the prompt, with the latents of the step, and the row of this position
        is computed among all keys; the matrix of all positions with all positions never is. What is needed for the next
        position of the step is kept where it is small. The words are those of the trace, and need no evaluation.

        Args:
            position: (y, x) as shares of the image, 0..1; (0, 0) is the upper left corner. Each layer takes the image
                token that covers it.
            step: index of a step; negative ones count from the end.
            layer: a name, an index, a list of these, "all", or None for the mean over the default layers. In a model
                with cross-attention, positions of the image attend to one another in the self-attention of the same
                block; the mean over the default layers leaves out blocks without.
            to: "image", "text", or a reference image of an editing model: "reference 0" for the first one.

        Returns:
            For "text", float32 (len(words),), subword tokens summed: in joint attention, with the image and references
            the row sums to 1 at most, and NaN for padding; in cross-attention it sums to 1 alone. NaN for truncated
            words. For "image" and "reference k", float32 (h, w) on the grid of the layer; of layers on several grids,
            on the finest, where a coarser layer spreads each probability evenly over the area of its token.

        Raises:
            TypeError: an argument has a wrong type.
            ValueError: the position is outside the image, there is no such reference, or the model cannot be evaluated
                again: the trace is from a file, of a video, or its pipeline is gone or has changed.
            IndexError: there is no such step or layer.
            KeyError: there is no such layer.

        Example:
            >>> trace = dv.trace(dv.load(), "a red circle", seed=7, num_inference_steps=2)
            >>> trace.attention_from((0.5, 0.5), step=1).shape
            (12, 12)
            >>> words = trace.attention_from((0.5, 0.5), step=1, to="text")
            >>> words.shape == (len(trace.words),)
            True
        """
        place = check_position(position)
        index = step_index(step, len(self.records))
        reference = self._check_target(to)
        if to != "text":
            return self._maps_from(place, index, layer)[0 if reference is None else reference + 1]
        self._check_attention()
        if (words := self._recorded_words(place, index, layer)) is not None:
            return words
        return _mean([row.words for row in self.attention_rows(place, index, pick_layers(self.layers, layer))])

    def attention_maps(self, position: tuple[float, float], step: int) -> list[Floats]:
        """Computes what one position attends to in the image and in each reference image, in one evaluation.

        Args:
            position: (y, x) as shares of the image, 0..1.
            step: index of a step; negative ones count from the end.

        Returns:
            `attention_from` of the image, then of each reference image.

        Raises:
            TypeError: an argument has a wrong type.
            ValueError: as for `attention_from`.
            IndexError: there is no such step.

        Example:
            >>> trace = dv.trace(dv.load(), "a red circle", seed=7, num_inference_steps=2)
            >>> [part.shape for part in trace.attention_maps((0.5, 0.5), step=1)]
            [(12, 12)]
        """
        return self._maps_from(check_position(position), step_index(step, len(self.records)), None)

    def _maps_from(self, position: tuple[float, float], step: int, layer: Any) -> list[Floats]:
        if layer is None and (stored := self._stored_maps(position, step)) is not None:
            return stored
        self._check_attention()
        rows = self.attention_rows(position, step, pick_layers(self.layers, layer))
        if layer is None:  # blocks without self-attention have no part in the mean
            rows = [row for row in rows if row.image is not None] or rows
        maps = [[self._image_map(row), *row.references] for row in rows]
        return [_mean(_on_one_grid(parts)) for parts in zip(*maps, strict=True)]

    def _check_attention(self) -> None:
        if not self.layers:
            raise ValueError("attention_from: this pipeline has no attention that can be read; `layers` is empty")
        if self.frame_count > 1:
            raise ValueError("attention_from: this trace is of a video, and positions are read in images")

    def attention_rows(
        self, position: tuple[float, float], step: int, layers: Sequence[int] | None = None
    ) -> Sequence[PositionAttention]:
        """Computes what one position attends to, layer by layer.

        Args:
            position: (y, x) as shares of the image, 0..1.
            step: index of a step.
            layers: indices of the layers; None for all.

        Returns:
            One entry for each of these.

        Raises:
            ValueError: the model cannot be evaluated again.
        """
        if self._attention_source is None:
            raise ValueError(
                "attention_from: this trace has no live pipeline: it was opened from a file, copied or pickled. Only "
                'to="text" works without; run it again with dv.trace(pipe, prompt, seed=...), the seed is in '
                "trace.meta, and call its keep_attention() before it is saved"
            )
        return self._attention_source.rows(self, step, position, range(len(self.layers)) if layers is None else layers)

    def keep_attention(self, steps: Sequence[int] | None = None) -> ImageAttention:
        """Stores what every position attends to, so that files and pages know it without the model.

        It evaluates the denoiser once for each step. Stored are probabilities in float16, mean over the default layers
        and their heads. `attention_from` then reads them where the trace has no pipeline and no layer is named.

        Args:
            steps: indices of the steps; None for all.

        Returns:
            The stored result; an earlier one is replaced.

        Raises:
            IndexError: there is no such step.
            TypeError: `steps` is no list of integers.
            ValueError: the rows would take more than 64 MB, or the model cannot be evaluated again.

        Example:
            >>> trace = dv.trace(dv.load(), "a red circle", seed=7, num_inference_steps=2)
            >>> trace.keep_attention().rows.shape
            (2, 144, 144)
        """
        indices = pick_steps(len(self.records), None if steps is None else items("steps", steps, "a list of steps"))
        if self._attention_source is None or not self.layers or self.frame_count > 1:
            self.attention_rows((0, 0), indices[0])
            raise ValueError("keep_attention: this pipeline has no attention among image positions that can be read")
        layers = [self.layers[layer] for layer in pick_layers(self.layers, None)]
        grid = finest([layer.grid for layer in layers])
        references = tuple(finest(grids) for grids in zip(*(layer.reference_grids for layer in layers), strict=True))
        positions = grid[0] * grid[1]
        keys = positions + sum(height * width for height, width in references)
        size = 2 * len(indices) * positions * keys
        if size > MOST_BYTES:
            raise ValueError(
                f"keep_attention: {len(indices)} steps of {positions} positions and {keys} keys take "
                f"{size / 2**20:.0f} MB, and at most {MOST_BYTES // 2**20} are stored: name fewer steps, or ask for "
                "single positions with attention_from"
            )
        rows = [self._attention_source.matrix(self, index, (grid, *references)).astype(np.float16) for index in indices]
        stored = ImageAttention(tuple(indices), grid, references, np.stack(rows))
        self.results(ImageAttention)[:] = [stored]
        return stored

    def _stored_maps(self, position: tuple[float, float], step: int) -> list[Floats] | None:
        """What a position attends to, where that was stored and the model is not there."""
        if self._attention_source is not None:
            return None
        for stored in self.results(ImageAttention):
            row = stored.row(step, token_at(position, stored.grid))
            if row is not None:
                grids = (stored.grid, *stored.reference_grids)
                return [row[span].reshape(grid) for span, grid in zip(stored.spans, grids, strict=True)]
        return None

    def _recorded_words(self, position: tuple[float, float], step: int, layer: Any) -> Floats | None:
        """The words that a position attends to, from the maps of the trace; None where these have no layers."""
        if self.keep == "words":
            if layer is not None and self._attention_source is not None:
                return None
            maps = [self.heat_maps(step=step, layer=layer)]
        else:
            maps = [self.heat_maps(step=step, layer=index) for index in pick_layers(self.layers, layer)]
        rows = [part[:, *token_at(position, (part.shape[1], part.shape[2]))] for part in maps]
        return _mean(rows)

    def _check_target(self, to: Any) -> int | None:
        """The index of a reference image; None for the others."""
        stored = self.results(ImageAttention)
        count = len(self.layers[0].reference_grids if self.layers else stored[0].reference_grids if stored else ())
        targets = ["image", "text", *(f"reference {index}" for index in range(count))]
        if not isinstance(to, str):
            raise TypeError(f"to must be a text, such as 'image', not {shorten(to)}")
        if to not in targets:
            names = ", ".join(map(repr, targets))
            none = "" if count else "; this run had no reference image whose tokens are known"
            raise ValueError(f"to must be one of {names}, not {shorten(to)}{none}{did_you_mean(to, targets)}")
        return int(to.split()[1]) if to.startswith("reference") else None

    def _image_map(self, row: PositionAttention) -> Floats:
        if row.image is None:
            raise ValueError(f'attention_from: {no_self_attention(self.layers[row.layer].name)}; to="text" works')
        return row.image


def no_self_attention(layer: str) -> str:
    """Says why a layer has no attention among positions of the image.

    Args:
        layer: its name.

    Returns:
        A sentence without its beginning and its end.
    """
    return (
        f"no softmax attention among positions of the image was read beside {layer}: linear attention, as in Sana, "
        "has no attention probabilities, some blocks have no self-attention, and a family of your own names it in "
        "Family.self_attention"
    )


def _on_one_grid(maps: Sequence[Floats]) -> list[Floats]:
    """Maps of several layers on the finest of their grids."""
    grid = finest([(int(part.shape[0]), int(part.shape[1])) for part in maps])
    return [spread(part, grid) for part in maps]


def _mean(parts: Sequence[Floats]) -> Floats:
    return np.asarray(np.mean(parts, axis=0, dtype=np.float32), dtype=np.float32)


def check_position(position: Any) -> tuple[float, float]:
    """Checks a position in the image.

    Args:
        position: (y, x), each 0..1.

    Returns:
        The position.

    Raises:
        TypeError: it is no pair of numbers.
        ValueError: it is outside the image.
    """
    try:
        y, x = position
    except (TypeError, ValueError):
        raise TypeError(f"position must be (y, x), such as (0.5, 0.5), not {shorten(position)}") from None
    return real("position", y, 0, 1), real("position", x, 0, 1)


def token_at(position: tuple[float, float], grid: tuple[int, int]) -> tuple[int, int]:
    """Finds the image token that covers a position.

    Args:
        position: (y, x) as shares of the image, 0..1.
        grid: (h, w) of the image tokens.

    Returns:
        Its row and column.
    """
    (y, x), (height, width) = position, grid
    return min(int(y * height), height - 1), min(int(x * width), width - 1)
