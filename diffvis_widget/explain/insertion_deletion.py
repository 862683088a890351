"""Insertion and deletion games: how fast a step's result changes when the pixels that a map ranks first are replaced.

V. Petsiuk, A. Das, K. Saenko, "RISE", BMVC 2018, arXiv 1806.07421; on diffusion models: J.-H. Park, Y.-J. Ju,
S.-W. Lee, Expert Systems with Applications 248 (2024) 123231, arXiv 2402.10404.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffvis_widget.arguments import MAX_SEED, choice, count, instance, items, optional_batch, shorten
from diffvis_widget.concepts import ConceptMeter, meter_for
from diffvis_widget.concepts.meter import check_meter
from diffvis_widget.tracer import Denoiser, denoiser
from diffvis_widget.traces import Trace
from diffvis_widget.traces.html_summary import CurveRow, card, curve_table, number
from diffvis_widget.traces.results.saliency import Saliency
from diffvis_widget.traces.types import Floats
from diffvis_widget.traces.values import ResultValue, data_frame

from .baseline_maps import baselines
from .distances import DISTANCES, Distance, frechet, pairwise
from .hidden_latents import HIDDEN, Hidden, hidden_latents
from .image_decoding import decode_images
from .map_similarity import blur
from .progress import Progress, batch_size, check_progress, tracking

Map = Saliency | NDArray[Any]
Curves = dict[str, Floats]
Target = Literal["previous_sample", "prediction"]


@dataclass(frozen=True, eq=False, repr=False)
class GameResult(ResultValue):
    """Curves of each map by name, over the moves 0..h of a latent grid (h, w); a move replaces w pixels.

    Attributes:
        deletion: float32 (h + 1,) by name, from 0 (nothing replaced) to 1 (all replaced); in between, higher is better.
        insertion: float32 (h + 1,) by name, from 1 (all blurred) to 0 (nothing replaced); in between, lower is better.
        normalizers: The distances scaled to 1, of deletion and of insertion; the same for all maps. The curves are NaN
            where such a distance is 0.
        distance: Name of the distance.

    Example:
        >>> import numpy as np
        >>> curves = {"mine": np.array([0, 0.5, 1], np.float32)}
        >>> dv.explain.GameResult(curves, curves, (1.0, 1.0), "ssim").deletion_auc
        {'mine': 0.5}
    """

    deletion: Curves
    insertion: Curves
    normalizers: tuple[float, float]
    distance: Distance

    def _repr_html_(self) -> str:
        tables = [
            curve_table(
                ("map", game, "area"), [CurveRow(name, curve, (number(area(curve)),)) for name, curve in curves.items()]
            )
            for game, curves in (("deletion", self.deletion), ("insertion", self.insertion))
        ]
        return card("Insertion and deletion", (f"distance {self.distance}",), *tables)

    def to_pandas(self) -> Any:
        """Make a table of the areas under the curves: a row for each map. It needs pandas.

        Returns:
            A pandas DataFrame.
        """
        return data_frame({"deletion": self.deletion_auc, "insertion": self.insertion_auc}, index_name="map")

    @property
    def deletion_auc(self) -> dict[str, float]:
        """Areas under the deletion curves by name, trapezoidal over moves scaled to 0..1."""
        return {name: area(curve) for name, curve in self.deletion.items()}

    @property
    def insertion_auc(self) -> dict[str, float]:
        """Areas under the insertion curves by name, trapezoidal over moves scaled to 0..1."""
        return {name: area(curve) for name, curve in self.insertion.items()}


def games(
    trace: Trace | Sequence[Trace],
    step: int,
    maps: Mapping[str, Map | Sequence[Map]],
    distance: Distance = "ssim",
    *,
    target: Target = "previous_sample",
    hidden: Hidden = "zeros",
    seed: int = 0,
    batch: int | None = None,
    meter: ConceptMeter | None = None,
    progress: Progress = True,
) -> GameResult:
    """Play both games with maps of one step and with "random", "centre" and "edge" baselines.

    Latent pixels are taken by falling saliency (ties at random), w per move. Deletion replaces them in the latents R of
    the step by zeros or noise. Insertion starts from a blurred R (Gaussian 11 x 11, sigma 5) and restores R's own
    values. After each move: one denoising step, decoding, and the distance to the image from the unmodified R.

    Args:
        trace: A run made in this process, or several of one size: the curves are then means, or distances of sets.
        step: Index into `trace.steps`.
        maps: Saliency or array (h, w) on the latent grid by name; a list of these, one per trace, for several traces.
            A map named like a baseline replaces it.
        distance: Distance of two images. "ssim" is 1 - mean SSIM: the paper's FID is defined for sets only; SSIM needs
            no other model and measures structure, as DF-RISE does. "pixels": root mean square over pixels of 0..1.
            "features": 1 - cosine of the meter's image features. "frechet": of the sets of features of all traces, as
            FID; needs two traces or more.
        target: "previous_sample", the latents one deterministic first-order step later, as in the paper; or
            "prediction", the predicted clean latents. At high noise the latents one step later are mostly noise, which
            every deletion changes alike, so that maps hardly differ; their predictions do.
        hidden: What deletion puts in: "zeros", as in the paper, which latents of no noise level look like; or "noise"
            of the step's level around the mean of the predicted clean latents, drawn once.
        seed: Seed of the random map and of ties.
        batch: Latents to evaluate at once; None chooses.
        meter: For features; None is the scenes CLIP for runs of the scenes model.
        progress: True, False, or a function of (done, total) that may raise to cancel.

    Returns:
        The curves of all maps, baselines included.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, a run has no live pipeline, or, for noise, its noise levels are not
            known.
        IndexError: If the step is out of range.

    Example:
        >>> trace = dv.trace(dv.load(), "a red circle", seed=7, num_inference_steps=2)
        >>> maps = {"circle": trace.heat_map("circle", step=1)}
        >>> list(dv.explain.games(trace, 1, maps, distance="pixels", progress=False).deletion)
        ['random', 'centre', 'edge', 'circle']
    """
    expected = "a Trace, or a list of traces"
    traces = [trace] if isinstance(trace, Trace) else items("trace", trace, expected)
    for run in traces:
        instance("trace", run, Trace, expected)
    instance("maps", maps, Mapping, 'a dict of maps by name, such as {"df_rise": saliency}')
    choice("distance", distance, DISTANCES)
    choice("target", target, ("previous_sample", "prediction"))
    choice("hidden", hidden, HIDDEN)
    if not traces or (distance == "frechet" and len(traces) < 2):
        raise ValueError(f'trace: {len(traces)} given; distance="frechet" compares sets of two or more, others one')
    size = optional_batch(batch)
    check_meter(meter)
    check_progress(progress)
    rng = np.random.default_rng(count("seed", seed, 0, MAX_SEED))
    probes = [denoiser(run, step) for run in traces]
    concept_meter = meter_for(traces[0], meter) if distance in ("features", "frechet") else None
    boards = [
        _GameInput(probe, run, _named(maps, run, probe, index, len(traces), rng), rng, target, hidden)
        for index, (probe, run) in enumerate(zip(probes, traces, strict=True))
    ]
    if len({(board.moves, tuple(board.orders)) for board in boards}) > 1:
        raise ValueError("trace: several traces need latents of one size")
    total = sum(board.positions for board in boards)
    measured: list[NDArray[np.float64]] = []
    with tracking(progress, total, "games") as tell:
        for board in boards:
            parts: list[NDArray[Any]] = []
            for part in board.play(batch_size(size, board.shape)):
                if distance == "frechet":
                    assert concept_meter is not None
                    parts.append(concept_meter.image_features(part))
                else:
                    parts.append(pairwise(distance, concept_meter)(part, board.unchanged))
                tell(len(part))
            measured.append(np.concatenate(parts))
    if distance == "frechet":
        assert concept_meter is not None
        whole = np.concatenate([concept_meter.image_features(board.unchanged) for board in boards])
        sets = np.stack(measured)
        distances = np.array([frechet(sets[:, position], whole) for position in range(sets.shape[1])])
    else:
        distances = np.mean(measured, axis=0)
    return _result(distances, list(boards[0].orders), boards[0].moves, distance)


class _GameInput:
    """The positions of both games for the maps of one trace.

    Args:
        probe: Denoiser of the step.
        trace: The run.
        maps: float32 (h, w) by name.
        rng: Source of the order of ties.
        target: "previous_sample" or "prediction".
        hidden: "zeros" or "noise".
    """

    def __init__(
        self,
        probe: Denoiser,
        trace: Trace,
        maps: Mapping[str, Floats],
        rng: np.random.Generator,
        target: Target,
        hidden: Hidden,
    ) -> None:
        self._probe, self._trace, self._target = probe, trace, target
        self.shape = tuple(probe.latents.shape)
        self.moves, self._width = self.shape[2], self.shape[3]
        # by falling saliency; equal values in random order
        self.orders = {name: np.lexsort((rng.random(values.size), -values.ravel())) for name, values in maps.items()}
        self._deleted = hidden_latents(probe, hidden)(rng, 1)
        self._blurred = blur(probe.latents.float(), 11, 5.0).to(probe.latents)
        self.unchanged = self._after(probe.latents)

    @property
    def positions(self) -> int:
        """Number of positions: the two ends that all maps share, and the moves in between, of each map and game."""
        return 2 + 2 * len(self.orders) * (self.moves - 1)

    def play(self, batch: int) -> Iterator[NDArray[np.uint8]]:
        """Decode all positions, in order: all deleted, all blurred; then per map the deletions and the insertions.

        Args:
            batch: Latents to evaluate at once.

        Yields:
            Images uint8 (n, H, W, 3), n up to `batch`.
        """
        waiting: list[Tensor] = []
        for position in self._positions():
            waiting.append(position)
            if len(waiting) == batch:
                yield self._after(torch.cat(waiting))
                waiting = []
        if waiting:
            yield self._after(torch.cat(waiting))

    def _positions(self) -> Iterator[Tensor]:
        latents = self._probe.latents
        yield self._deleted
        yield self._blurred
        for order in self.orders.values():
            first = [self._first(order, move) for move in range(1, self.moves)]
            yield from (torch.where(chosen, self._deleted, latents) for chosen in first)
            yield from (torch.where(chosen, latents, self._blurred) for chosen in first)

    def _first(self, order: NDArray[np.intp], move: int) -> Tensor:
        chosen = torch.zeros(self.moves * self._width, dtype=torch.bool)
        chosen[torch.from_numpy(order[: move * self._width])] = True
        return chosen.view(1, 1, self.moves, self._width).to(self._probe.device)

    def _after(self, latents: Tensor) -> NDArray[np.uint8]:
        output = self._probe(latents)
        if self._target == "prediction":
            return decode_images(self._trace, self._probe.clean(latents, output))
        return decode_images(self._trace, self._probe.advance(latents, output))


def _named(
    maps: Mapping[str, Map | Sequence[Map]], trace: Trace, probe: Denoiser, index: int, count: int, rng: Any
) -> dict[str, Floats]:
    """The maps of one trace by name, the baselines with them."""
    size = (int(probe.latents.shape[2]), int(probe.latents.shape[3]))
    named = baselines(trace.frames("prediction")[probe.index], size, rng)
    for name, maps_of_name in maps.items():
        several = isinstance(maps_of_name, list | tuple)
        if several and len(maps_of_name) != count:
            raise ValueError(f"maps: {name!r} holds {len(maps_of_name)} maps for {count} traces")
        if not several and count > 1:
            raise ValueError(f"maps: {name!r} must be a list of {count} maps, one per trace")
        heat_map: Any = maps_of_name[index] if several else maps_of_name
        try:
            values = np.asarray(heat_map.map if isinstance(heat_map, Saliency) else heat_map, dtype=np.float32)
        except (TypeError, ValueError):
            raise TypeError(f"maps: {name!r} must be a Saliency or an array, not {shorten(heat_map)}") from None
        if values.shape != size:
            raise ValueError(f"maps: {name!r} must lie on the latent grid {size}, not {values.shape}")
        if not np.isfinite(values).all():
            raise ValueError(f"maps: {name!r} must be finite; it holds NaN or infinite values")
        named[name] = values
    return named


def _result(distances: NDArray[np.float64], names: list[str], moves: int, distance: Distance) -> GameResult:
    ends = float(distances[0]), float(distances[1])
    played = distances[2:].reshape(len(names), 2, moves - 1)
    deletion: Curves = {}
    insertion: Curves = {}
    with np.errstate(invalid="ignore", divide="ignore"):
        for name, (deleted, inserted) in zip(names, played, strict=True):
            deletion[name] = (np.array([0.0, *deleted, ends[0]]) / ends[0]).astype(np.float32)
            insertion[name] = (np.array([ends[1], *inserted, 0.0]) / ends[1]).astype(np.float32)
    return GameResult(deletion, insertion, ends, distance)


def area(curve: Floats) -> float:
    """Compute the trapezoidal area under a curve over 0..1.

    Args:
        curve: float32 (n,), n of 2 or more.

    Returns:
        The area.
    """
    return float(np.trapezoid(curve, dx=1 / (len(curve) - 1)))
