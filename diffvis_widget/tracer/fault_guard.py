"""Keeps the tracer's own errors away from the calls that it watches.

An error inside a hook must not end a call that would have worked without it. A guarded hook that fails lets the call go
on as if there was no hook; the error is stored, and reported once. Errors of the call itself, and of functions that the
user passed, go through, and so do interrupts.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from typing import Any


class CannotRecordError(RuntimeError):
    """A call cannot be recorded; the message says why, and what would work."""


class Original:
    """The function under a guarded hook: remembers whether it was called, and with what result.

    Args:
        function: The function.

    Attributes:
        function: The function.
        is_done: Whether it returned.
        result: What it returned last.
        error: What it raised, or None.
    """

    function: Callable[..., Any]
    is_done: bool
    result: Any
    error: BaseException | None

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.is_done = False
        self.result = None
        self.error = None
        self.__wrapped__ = function  # `inspect.signature` follows it

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function.

        Args:
            *args: Its positional arguments.
            **kwargs: Its keyword arguments.

        Returns:
            Its result.
        """
        try:
            self.result = self.function(*args, **kwargs)
        except BaseException as error:
            self.error = error
            raise
        self.is_done = True
        return self.result


class FaultGuard:
    """Guards the hooks of one recording.

    Args:
        subject: What messages call the pipeline.
        ends_calls: Whether an error ends the call nevertheless: where diffvis_widget itself makes the call.

    Attributes:
        errors: The errors so far, one a call.
        has_failed: Whether a hook failed in the call under way.
        on_failure: Called once in each call in which a hook fails.
    """

    errors: list[Exception]
    has_failed: bool
    on_failure: Callable[[Exception], object]

    def __init__(self, subject: str, ends_calls: bool = False) -> None:
        self.errors = []
        self.has_failed = False
        self.on_failure = lambda error: None
        self._subject = subject
        self._ends_calls = ends_calls
        self._passing: BaseException | None = None

    def reset(self) -> None:
        """Another call begins."""
        self.has_failed = False

    def user_function(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function that the user passed; its errors go through all hooks.

        Args:
            function: The function.
            *args: Its arguments.

        Returns:
            Its result.
        """
        try:
            return function(*args)
        except BaseException as error:
            self.let_pass(error)
            raise

    def let_pass(self, error: BaseException) -> None:
        """Let an error through all hooks: it is to end the call.

        Args:
            error: The error, about to be raised.
        """
        self._passing = error

    def warn_of_missing_words(self, reason: str, has_interventions: bool) -> None:
        """Warn that a call is traced without word maps.

        Args:
            reason: Why.
            has_interventions: Whether the call has interventions, which need the words.

        Raises:
            CannotRecordError: There are interventions; it ends the call.
        """
        if has_interventions:
            error = CannotRecordError(f"interventions cannot act in {self._subject}: {reason}")
            self.let_pass(error)
            raise error
        self.warn(f"{self._subject} is traced without word maps: {reason}")

    def watcher(self, watcher: Callable[..., Any]) -> Callable[..., Any]:
        """Guard a watcher, see `hooks.watch`.

        Args:
            watcher: Called as `watcher(original, *args, **kwargs)`.

        Returns:
            A watcher that returns the original result where `watcher` fails.
        """

        def guarded(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            remembered = Original(original)
            try:
                return watcher(remembered, *args, **kwargs)
            except Exception as error:  # noqa: BLE001 - whatever fails must not end the call
                if remembered.error is not None:
                    raise remembered.error from remembered.error.__cause__
                self._handle(error)
            return remembered.result if remembered.is_done else original(*args, **kwargs)

        return guarded

    def hook(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        """Guard a hook of a module, or any function whose result None means nothing.

        Args:
            hook: The function.

        Returns:
            A function that returns None where `hook` fails.
        """

        def guarded(*args: Any, **kwargs: Any) -> Any:
            try:
                return hook(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - as above
                self._handle(error)
                return None

        return guarded

    def warn(self, text: str) -> None:
        """Warn, also where warnings are errors: these would end the call.

        Args:
            text: The warning.
        """
        with contextlib.suppress(UserWarning):
            warnings.warn(text, stacklevel=2)

    def describe(self, error: Exception) -> str:
        """Describe an error in one sentence.

        Args:
            error: One of `errors`.

        Returns:
            The sentence, without a full stop.
        """
        reason = str(error)
        if not isinstance(error, CannotRecordError):
            reason = f"{type(error).__name__} in diffvis_widget: {reason}" if reason else type(error).__name__
        return f"this call of {self._subject} is not recorded any further: {reason}"

    def _handle(self, error: Exception) -> None:
        if error is self._passing or self._ends_calls:
            raise error
        if self.has_failed:
            return
        self.has_failed = True
        self.errors.append(error)
        self.warn(self.describe(error))
        try:
            self.on_failure(error)
        except Exception as another:  # noqa: BLE001 - as above
            self.errors.append(another)
