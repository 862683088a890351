"""The pipeline that a session runs, and what is known about its model."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from diffvis_widget.call_defaults import CallDefaults, call_defaults
from diffvis_widget.loading import load_in_stages
from diffvis_widget.shipped import is_scenes_model
from diffvis_widget.widget import jupyter
from diffvis_widget.wire.messages import RunRequest

from .sampling import check_settings

PATIENCE = 1.0  # seconds

if TYPE_CHECKING:
    from diffvis_widget.traces import Trace


class SessionPipeline:
    """The pipeline of a session: passed in, still to be loaded by its name, or absent where a recorded run is shown.

    Args:
        source: a pipeline, the name of one, None for the scenes model, or a Trace.
        page_is_there: set once the page is drawn, or once nothing should wait for it any longer.

    Attributes:
        recorded: the Trace, where the source is one.
        name: the name, where the source is one.
        pipe: the pipeline; None until it is loaded, and for a Trace.
    """

    recorded: Trace | None
    name: str | None
    pipe: Any

    def __init__(self, source: Any, page_is_there: threading.Event) -> None:
        from diffvis_widget.traces import Trace

        self._page_is_there = page_is_there
        self.recorded = source if isinstance(source, Trace) else None
        self.name = source if isinstance(source, str) else None
        self.pipe = None if source is None or self.name or self.recorded else source

    @property
    def needs_loading(self) -> bool:
        """Whether there is neither a pipeline nor a trace yet."""
        return self.recorded is None and self.pipe is None

    @property
    def notice(self) -> str:
        """What the page says while the pipeline loads."""
        return f"Loading {self.name or 'the scenes model'}"

    @property
    def defaults(self) -> CallDefaults:
        """The defaults of the loaded pipeline."""
        return call_defaults(self.pipe)

    def load(self, set_traits: Callable[..., None]) -> Any:
        """Load the pipeline, once the page is drawn or `PATIENCE` has passed. Raises what loading it raises.

        The imports hold the interpreter for up to half a second at a time: the kernel's main thread could not send the
        widget, with its recorded run, in between.

        Args:
            set_traits: sets traits of the widget by name: the page shows what is being loaded, and how far it is.

        Returns:
            The pipeline, which is not this session's yet.
        """

        def report(stage: str, share: float) -> None:
            set_traits(_notice=f"{self.notice}: {stage}", progress=share)

        if jupyter.has_page():
            self._page_is_there.wait(PATIENCE)
        return load_in_stages(self.name, report)

    def check(self, request: RunRequest) -> None:
        """Refuse settings that the pipeline would ignore, if it is there yet.

        Args:
            request: what to run.

        Raises:
            ValueError: names the setting.
        """
        if self.pipe is not None:
            check_settings(self.pipe, request)

    def is_scenes(self) -> bool:
        """Whether the pipeline is the built-in model, whose words and concept meter are known.

        Returns:
            Whether the runs are those of the built-in model.
        """
        from diffvis_widget import scenes

        if self.recorded is not None:
            return is_scenes_model(self.recorded.meta.get("fingerprint"))
        return scenes.is_scenes(self.pipe)

    def vocabulary(self) -> dict[str, list[str]]:
        """The words that the model was trained on, in groups, as far as they are known.

        Returns:
            As `scenes.vocabulary_groups`; nothing for models other than the built-in one.
        """
        from diffvis_widget import scenes

        return scenes.vocabulary_groups() if self.is_scenes() else {}

    def takes_concepts(self) -> bool:
        """Whether runs can have heat maps of words outside the prompt.

        Returns:
            False where that is not known of the pipeline, or it is not loaded.
        """
        if self.pipe is None:
            return False
        from diffvis_widget.tracer.concept_encoding import traceable_concepts

        return bool(traceable_concepts(self.pipe, ["sky"]))

    def unknown_words(self, prompt: str) -> set[str]:
        """The words that the model was never trained on, as far as that is known.

        Args:
            prompt: the prompt.

        Returns:
            Words in lower case; none for models other than the built-in one.
        """
        from diffvis_widget import scenes

        return set(scenes.unknown_words(prompt)) if self.is_scenes() else set()
