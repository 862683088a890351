"""The registry of explaining methods: one row for each method that maps the latent pixels of a step.

The widget, the figures, the offline page and the documentation read the names, labels, captions and findings from here.
`register_method` adds a row. Importing this module loads no torch: each row imports its method when it is called.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from diffvis_widget.arguments import choice, count, function, instance, text
from diffvis_widget.traces import Saliency, Trace

from .progress import Progress

MAX_EVALUATIONS = 1_000_000
ATTENTION = "attention"  # the widget's other overlay: no method may take its name


class MethodFunction(Protocol):
    """Computes the map of one step."""

    def __call__(self, trace: Trace, step: int, *, batch: int | None, progress: Progress) -> Saliency:
        """Compute the map.

        Args:
            trace: A run made in this process.
            step: Index into `trace.steps`.
            batch: Number of latents to evaluate at once; None leaves it to the method.
            progress: True, False, or a function of (done, total). What it raises must pass through: it cancels.

        Returns:
            A map on the latent grid. Its `method` is the name under which the function is registered.
        """
        ...


@dataclass(frozen=True)
class Method:
    """One row of the registry.

    Attributes:
        name: Identifier, as in `Saliency.method`, files and `DiffVis.overlay`: lower case letters, digits, underscores.
        label: Name for readers, such as "DF-RISE".
        caption: One or two sentences: what the map shows, and what it does not show.
        finding: How far the map can be trusted, as measured; empty where nothing was measured.
        evaluations: Cost of one map: how many evaluations of the denoiser it takes at most. A gradient counts as two.
        function: Computes the map.
        usual_evaluations: How many evaluations a map usually takes, where a method stops once its map has converged; 0
            where it always takes all of them.

    Example:
        >>> dv.explain.registered_methods()[0].label
        'DF-RISE'
    """

    name: str
    label: str
    caption: str
    finding: str
    evaluations: int
    function: MethodFunction
    usual_evaluations: int = 0

    def __post_init__(self) -> None:
        for field in ("name", "label", "caption", "finding"):
            text(field, getattr(self, field))
        count("evaluations", self.evaluations, 1, MAX_EVALUATIONS)
        count("usual_evaluations", self.usual_evaluations, 0, self.evaluations)
        function("function", self.function, "a function of (trace, step, *, batch, progress) that returns a Saliency")


def register_method(method: Method) -> None:
    """Add a method to the registry: `dv.explain.overlay`, the widget, figures and pages then know its name.

    Args:
        method: The row. Methods are shown in the order of their registration.

    Raises:
        TypeError: If `method` is no Method.
        ValueError: If the name is no identifier or is taken, or if the label is empty.

    Example:
        >>> import numpy as np
        >>> import diffvis_widget as dv
        >>> def strength(trace, step, *, batch, progress):
        ...     values = np.abs(trace.latents[step].astype(np.float32)).mean(axis=0)
        ...     return dv.Saliency("strength", step, values)
        >>> row = dv.explain.Method("strength", "Strength", "Mean absolute latent value.", "", 1, strength)
        >>> dv.explain.register_method(row)
        >>> [method.label for method in dv.explain.registered_methods()]
        ['DF-RISE', 'RISE, smooth masks', 'DF-CAM', 'DF-LIME', 'Strength']
        >>> dv.explain.unregister_method("strength")
    """
    instance("method", method, Method, "a dv.explain.Method")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", method.name) or method.name == ATTENTION:
        raise ValueError(
            f'name must be lower case letters, digits and underscores, such as "my_method", and not "{ATTENTION}"; '
            f"got {method.name!r}"
        )
    if method.name in _METHODS:
        raise ValueError(f"name {method.name!r} is taken: choose another one, or call unregister_method first")
    if not method.label.strip():
        raise ValueError(f"label must name the method for readers, got {method.label!r}")
    _METHODS[method.name] = method


def unregister_method(name: str) -> None:
    """Remove a method from the registry. Maps that traces keep stay there.

    Args:
        name: Of a registered method.

    Raises:
        ValueError: If no such method is registered.

    Example:
        >>> import diffvis_widget as dv
        >>> dv.explain.unregister_method("lrp")
        Traceback (most recent call last):
        ValueError: name must be one of 'df_rise', 'smooth_rise', 'df_cam', 'df_lime', not 'lrp'
    """
    del _METHODS[find_method(name, "name").name]


def registered_methods() -> list[Method]:
    """List the explaining methods, in the order in which they are shown.

    Returns:
        The rows of the registry: those of the paper, then those that were added.

    Example:
        >>> import diffvis_widget as dv
        >>> [method.name for method in dv.explain.registered_methods()]
        ['df_rise', 'smooth_rise', 'df_cam', 'df_lime']
    """
    return list(_METHODS.values())


def find_method(name: str, argument: str = "method") -> Method:
    """Find a method by its name.

    Args:
        name: Of a registered method.
        argument: The argument that names it, for the error.

    Returns:
        Its row.

    Raises:
        ValueError: If no such method is registered; the message lists those that are.
    """
    return _METHODS[choice(argument, name, list(_METHODS))]


def overlay_names(trace: Trace | None) -> list[str]:
    """List what the widget can lay over the image.

    Args:
        trace: The run that it shows, or None.

    Returns:
        "attention", the names of the registered methods, and those of other methods whose maps the trace stores.
    """
    stored = [] if trace is None else [saliency.method for saliency in trace.saliency]
    return list(dict.fromkeys([ATTENTION, *_METHODS, *stored]))


def method_label(name: str) -> str:
    """Name a method for readers.

    Args:
        name: Of any method; a file can hold maps of one that is not registered here.

    Returns:
        Its label, or the name itself where it is not registered.
    """
    return _METHODS[name].label if name in _METHODS else name


def method_rows() -> list[dict[str, str]]:
    """Describe the methods for a page.

    Returns:
        For each method its name, label, caption and finding.
    """
    fields = ("name", "label", "caption", "finding")
    return [{field: getattr(method, field) for field in fields} for method in registered_methods()]


def _df_rise(trace: Trace, step: int, *, batch: int | None, progress: Progress) -> Saliency:
    from .rise import df_rise

    return df_rise(trace, step, 500, coverage="actual", batch=batch, progress=progress)


def _smooth_rise(trace: Trace, step: int, *, batch: int | None, progress: Progress) -> Saliency:
    from .masked_regions import smooth_rise

    return smooth_rise(trace, step, masks=100, batch=batch, progress=progress)


def _df_cam(trace: Trace, step: int, *, batch: int | None, progress: Progress) -> Saliency:
    from .cam import df_cam

    return df_cam(trace, step)


def _df_lime(trace: Trace, step: int, *, batch: int | None, progress: Progress) -> Saliency:
    from .lime import df_lime

    return df_lime(trace, step, 300, batch=batch, progress=progress)


_METHODS: dict[str, Method] = {}

# The findings quote benchmarks/explain/README.md, "Maps of steps"; a test compares them with the measurements.
for _row in (
    Method(
        name="df_rise",
        label="DF-RISE",
        caption="Shows which latent pixels preserve the output of this step while other pixels are masked at random. "
        "It does not show for which word.",
        finding="The maximum of its map lies on an object in 5% of known scenes at high noise and in 10% at low noise. "
        "The distance to the centre alone reaches 19%.",
        evaluations=500,
        function=_df_rise,
        usual_evaluations=110,  # of the scenes model: 100 to 108 at the first and a middle step
    ),
    Method(
        name="smooth_rise",
        label="RISE, smooth masks",
        caption="Shows which regions of the latents preserve the output of this step while others are replaced by "
        "noise, from 100 coarse masks. It shows nothing finer than a region; dv.explain.smooth_rise maps words too.",
        finding="The maximum of its map lies on an object in 80% of known scenes at low noise. An edge filter on the "
        "predicted image reaches 66%. In the deletion game it is better than a random order, by 0.04 of the area with "
        "the paper's rules, and by 0.16 where predicted images are compared; so is the edge filter.",
        evaluations=100,
        function=_smooth_rise,
    ),
    Method(
        name="df_cam",
        label="DF-CAM",
        caption="Shows where layers are active on which the output of this step depends, averaged over the layers. "
        "It does not show what would change without them.",
        finding="The maximum of its map lies on an object in 5% of known scenes at high noise and in 20% at low noise. "
        "The distance to the centre alone reaches 19%.",
        evaluations=3,
        function=_df_cam,
    ),
    Method(
        name="df_lime",
        label="DF-LIME",
        caption="Shows how much the output of this step changes with each superpixel, from 300 samples (the paper "
        "takes 1000). It shows nothing finer than a superpixel.",
        finding="The maximum of its map lies on an object in 8% of known scenes at high noise and in 18% at low noise. "
        "The distance to the centre alone reaches 19%.",
        evaluations=300,
        function=_df_lime,
    ),
):
    register_method(_row)
