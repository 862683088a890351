"""What a session runs: a pipeline, and what is known of its words."""

from __future__ import annotations

from typing import Any

from diffvis_widget.shipped import is_scenes_model


class SessionPipeline:
    """The pipeline of a session: given, still to be loaded by its name, or none where a recorded run is shown.

    ``source`` is a pipeline, the name of one, None for the scenes model, or a Trace.
    """

    def __init__(self, source: Any) -> None:
        from diffvis_widget.traces import Trace

        self.recorded = source if isinstance(source, Trace) else None
        self.name = source if isinstance(source, str) else None
        self.pipe: Any = None if source is None or self.name or self.recorded else source

    @property
    def loading(self) -> str:
        return f"Loading {self.name or 'the scenes model'}"

    def is_scenes(self) -> bool:
        """Whether the runs are those of the built-in model, whose words and whose meter are known."""
        from diffvis_widget import scenes

        if self.recorded is not None:
            return is_scenes_model(self.recorded.meta.get("fingerprint"))
        return scenes.is_scenes(self.pipe)

    def unknown(self, prompt: str) -> set[str]:
        """Words that the model never saw, as far as that is known."""
        from diffvis_widget import scenes

        return set(scenes.unknown_words(prompt)) if self.is_scenes() else set()
