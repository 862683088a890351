"""Draws the view of a step: the image, heat maps over it, their contours and a framed region."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from diffvis_widget.explain.methods import method_label
from diffvis_widget.traces.colormap import apply_colormap, fade, word_colours
from diffvis_widget.traces.types import Floats, Images, Size
from diffvis_widget.wire.video_messages import shown_frames

from .contours import WHITE, Rgb, draw_outlined_lines, trace_contours

if TYPE_CHECKING:
    from diffvis_widget.traces import Trace

    from .view_options import Region, StepView


_LUMINOSITY = np.array([0.3, 0.59, 0.11], dtype=np.float32)  # of the blend mode "saturation" on the page
_WINNING = 16  # the larger, the sharper the border between the hues of words that overlap
_RASTER = 128  # cells on the longest side of a map whose contours are traced, as on the page


@dataclass(frozen=True)
class ColouredMap:
    """A map of values and the range that its colours span.

    The range is NaN where the map has no values: the word was not in the prompt at that step.

    Attributes:
        name: What the colour bar says.
        values: (h, w).
        low: The value of the first colour.
        high: The value of the last colour.
        word: The text of the word whose map it is; empty for other maps.
    """

    name: str
    values: Floats
    low: float
    high: float
    word: str = ""

    @property
    def has_values(self) -> bool:
        """Whether the map has values at this step."""
        return math.isfinite(self.low) and bool(np.isfinite(self.values).any())


def base_image(trace: Trace, view: StepView) -> tuple[Images, ColouredMap | None]:
    """The image of a view, without overlays.

    Args:
        trace: The trace.
        view: The view.

    Returns:
        uint8 (h, w, 3), and the map that it shows for the views "guidance" and "change".

    Raises:
        ValueError: The run has no such view, or not without a step.
    """
    step = view.step
    if view.view == "guidance":
        guidance = trace.guidance
        if guidance is None:
            raise ValueError('view="guidance": this run had no guidance (guidance_scale of 1 or less)')
        values = np.nanmean(guidance, axis=0) if step is None else guidance[step]
        values = values[view.frame] if values.ndim == 3 else values
        return _coloured_image("guidance", np.asarray(values, dtype=np.float32), view)
    if view.view == "change":
        if step is None:
            raise ValueError('view="change" needs a step: it shows what that step changed')
        steps = (max(step - 1, 0), step)
        before, after = (_still(trace, trace.frame("prediction", index), view).astype(np.float32) for index in steps)
        return _coloured_image("change of 255", np.abs(after - before).mean(axis=-1), view)
    if step is None and view.view == "prediction":
        # the maps belong to the decoded image, wherever the pipeline pasted it
        if (video := trace.video) is not None:
            return _still(trace, video, view), None
        is_pasted = trace.image.shape != trace.decoded_image.shape
        return trace.decoded_image if is_pasted else trace.image, None
    return _still(trace, trace.frame(view.view, -1 if step is None else step), view), None


def _still(trace: Trace, image: Images, view: StepView) -> Images:
    """The frame of a video that a view shows; an image as it is."""
    if image.ndim == 3:
        return image
    if view.output_frame is not None and len(image) != trace.frame_count:
        return image[min(view.output_frame, len(image) - 1)]
    return shown_frames(trace, image)[view.frame]


def _coloured_image(name: str, values: Floats, view: StepView) -> tuple[Images, ColouredMap]:
    low, high = _finite_range(values)
    if math.isnan(low):
        low = high = 0.0
    low = 0.0 if view.view == "change" else low
    if view.words or view.saliency is not None:  # stay grey under coloured heat maps
        grey = np.clip((np.nan_to_num(values) - low) / max(high - low, 1e-12) * 255, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1), ColouredMap(name, values, low, high)
    return apply_colormap(values, low, high, "magma"), ColouredMap(name, values, low, high)


def overlay_maps(trace: Trace, view: StepView) -> list[ColouredMap]:
    """The heat maps that are laid over the image of a view.

    Args:
        trace: The trace.
        view: The view.

    Returns:
        One map per word, or the map of the method.
    """
    maps: list[ColouredMap] = []
    if (saliency := view.saliency) is not None:
        name = method_label(saliency.method)
        maps.append(ColouredMap(name, saliency.map, *_finite_range(saliency.map)))
    for word in view.words:
        values = trace.heat_map(
            word, step=view.step, layer=view.layer, head=view.head, kind=view.kind, frame=view.frame
        )
        text = trace.words[word].text if isinstance(word, int) else word
        name = text + (", refined" if view.kind == "refined" else "")
        if view.layer is not None:
            name += f", {view.layer}" + ("" if view.head is None else f" head {view.head + 1}")
        maps.append(ColouredMap(name, values, *(view.value_range or _finite_range(values)), word=text))
    return maps


def _finite_range(values: Floats) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (math.nan, math.nan)


def draw_view(trace: Trace, view: StepView, size: int) -> Image.Image:
    """Draw the view of a step: the image with its heat maps, contours and framed region.

    Args:
        trace: The trace.
        view: The view.
        size: Pixels on the longest side.

    Returns:
        An RGB image.
    """
    pixels, _ = base_image(trace, view)
    image = Image.fromarray(pixels)
    scale = size / max(image.size)
    target = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    image = image.resize(target, Image.Resampling.BICUBIC if scale < 8 else Image.Resampling.NEAREST)
    maps = overlay_maps(trace, view)
    image = _blend_maps(image, maps, view.opacity)
    if view.contours:
        for overlay, colour in zip(maps, contour_colours(maps), strict=True):
            image = _draw_contours(image, overlay, colour)
    return image if view.region is None else _draw_region(image, trace, view.region)


def _blend_maps(image: Image.Image, maps: Sequence[ColouredMap], opacity: float) -> Image.Image:
    """Lays the maps over the image, which is grey there: a single one in the colormap, several in a hue each."""
    visible = [(index, overlay) for index, overlay in enumerate(maps) if overlay.has_values]
    if not visible:
        return image
    pixels = np.asarray(image, dtype=np.float32)
    levels = np.stack(
        [
            (_resize(overlay.values, image.size) - overlay.low) / max(overlay.high - overlay.low, 1e-12)
            for _, overlay in visible
        ]
    )
    weights = fade(levels) * np.float32(opacity)
    if len(maps) == 1:
        (overlay,) = maps
        colours = apply_colormap(_resize(overlay.values, image.size), overlay.low, overlay.high).astype(np.float32)
    else:  # where words overlap, the hue is nearly that of the largest map there, as on the page
        every_hue = word_colours([overlay.word for overlay in maps])
        hues = np.array([every_hue[index] for index, _ in visible], dtype=np.float32)
        shares = (weights / np.maximum(weights.max(axis=0), 1e-12)) ** _WINNING
        colours = np.tensordot(shares, hues, axes=(0, 0)) / np.maximum(shares.sum(axis=0), 1e-12)[..., None]
    cover = np.clip(weights.sum(axis=0), 0, 1)[..., None]
    # mixed with the image's colours, those of the maps would be others than in the colour bar
    pixels = pixels * (1 - cover) + (pixels @ _LUMINOSITY)[..., None] * cover
    return Image.fromarray(np.rint(pixels * (1 - cover) + colours * cover).astype(np.uint8))


def contour_colours(maps: Sequence[ColouredMap]) -> list[Rgb]:
    """The colour of each map's contour: white for a single map, its hue for each of several.

    Args:
        maps: The maps that are drawn together.

    Returns:
        Red, green and blue, 0..255, for each map.
    """
    return [WHITE] if len(maps) == 1 else word_colours([overlay.word for overlay in maps])


def _draw_contours(image: Image.Image, overlay: ColouredMap, colour: Rgb) -> Image.Image:
    if not overlay.has_values:
        return image
    scale = min(1.0, _RASTER / max(image.size))
    raster = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    values = _resize(overlay.values, raster)
    stretch = np.array(image.size) / raster
    paths = [path * stretch for path in trace_contours(values, (overlay.low + overlay.high) / 2)]
    return draw_outlined_lines(image, paths, max(1.0, image.width / 280), colour)


def _draw_region(image: Image.Image, trace: Trace, region: Region) -> Image.Image:
    """Frames the cells of the heat maps that a region touches; the region itself where the run has no maps."""
    left, top, right, bottom = region
    if trace.layers:
        _, rows, columns = trace.heat_maps(step=0).shape

        def cell(position: float, count: int) -> int:
            return min(count - 1, int(position * count))

        left, right = cell(left, columns) / columns, (cell(right, columns) + 1) / columns
        top, bottom = cell(top, rows) / rows, (cell(bottom, rows) + 1) / rows
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]) * image.size
    return draw_outlined_lines(image, [corners], max(1.0, image.width / 200))


def _resize(values: Floats, size: Size) -> Floats:
    smooth = Image.fromarray(np.nan_to_num(values).astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(smooth, dtype=np.float32)
