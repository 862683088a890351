"""Session state shared by its threads, guarded by one condition variable, and the trait updates that follow from it."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from diffvis_widget.arguments import real

from .run import Run

if TYPE_CHECKING:
    from diffvis_widget.traces import Trace

log = logging.getLogger(__name__)


class TraitQueue:
    """Sets the widget's traits in the order in which they were queued, without holding a lock.

    Setting a trait calls functions of the notebook that observe it, which may take any time. So one thread at a time
    sets what is queued, and every other thread only adds to the queue and returns.

    Args:
        set_trait: sets one trait, by name and value. What it raises is logged.
    """

    def __init__(self, set_trait: Callable[[str, Any], None]) -> None:
        self._set_trait = set_trait
        self._changed = threading.Condition()  # re-entrant: the garbage collector may close a widget in any thread
        self._updates: deque[tuple[str, Any]] = deque()
        self._setter: int | None = None  # the thread that is setting traits

    def put(self, **traits: Any) -> None:
        """Queue new values of traits.

        Args:
            **traits: the values by name.
        """
        with self._changed:
            self._updates.extend(traits.items())

    def flush(self) -> None:
        """Set what is queued in this thread, unless a thread is already setting traits: that one goes on with it."""
        with self._changed:
            if self._setter is not None:
                return
            self._setter = threading.get_ident()
        try:
            while (update := self._next()) is not None:
                try:
                    self._set_trait(*update)
                except Exception:
                    log.exception("a function that observes %s failed", update[0])
        except BaseException:  # an interrupt: the next call continues
            self._release()
            raise

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until everything queued is set. Inside an observer this returns at once.

        Args:
            timeout: seconds; None waits without limit.

        Returns:
            Whether everything was set in time.
        """
        with self._changed:
            if self._setter == threading.get_ident():
                return True
        self.flush()  # an interrupt may have left some
        with self._changed:
            return self._changed.wait_for(lambda: self._setter is None and not self._updates, timeout)

    def _next(self) -> tuple[str, Any] | None:
        """The next update; after the last one this thread is no longer the setter, within one critical section."""
        with self._changed:
            if self._updates:
                return self._updates.popleft()
            self._release()
            return None

    def _release(self) -> None:
        with self._changed:
            self._setter = None
            self._changed.notify_all()


class SessionState:
    """The requests to a session, and what it is doing.

    Hold ``changed`` to read the attributes, and change them inside `update`.

    Args:
        set_trait: sets one trait of the widget, by name and value.
        loading: whether there is a pipeline to load.
        recorded: the recorded run that a widget without a pipeline shows.
        page_is_there: set as soon as a thread waits: no page may appear while a cell waits.

    Attributes:
        changed: the lock of all the others, notified after every change.
        loading: the pipeline is still to be loaded.
        recorded: a recorded run that is still to be published.
        requested: a run that waits for its turn.
        following: the runs after it, which were requested together with it.
        active: the run in progress.
        latest: the last run that ended, in whatever state.
        shown: the run on the page.
        to_replay: a finished run that is to be shown again.
        to_compare: a recorded run that is to be the comparison run.
        comparing: the one that is being prepared; None once it is no longer requested.
        replaying: a finished run is being published.
        closed: the session takes no more requests, and its worker ends.
    """

    changed: threading.Condition
    loading: bool
    recorded: Trace | None
    requested: Run | None
    following: list[Run]
    active: Run | None
    latest: Run | None
    shown: Run | None
    to_replay: Run | None
    to_compare: Trace | None
    comparing: Trace | None
    replaying: bool
    closed: bool

    def __init__(
        self,
        set_trait: Callable[[str, Any], None],
        loading: bool = False,
        recorded: Trace | None = None,
        page_is_there: threading.Event | None = None,
    ) -> None:
        self.changed = threading.Condition()
        self._page_is_there = page_is_there or threading.Event()
        self._traits = TraitQueue(set_trait)
        self.loading = loading
        self.recorded = recorded
        self.requested = None
        self.following = []
        self.active = None
        self.latest = None
        self.shown = None
        self.to_replay = None
        self.to_compare = None
        self.comparing = None
        self.replaying = False
        self.closed = False

    @property
    def busy(self) -> bool:
        """Whether something is requested, loading, running or being shown."""
        if self.closed:
            return False
        pending = (self.recorded, self.requested, self.to_replay, self.to_compare, self.active)
        return self.loading or self.replaying or any(entry is not None for entry in pending)

    def follows(self, run: Run) -> bool:
        """Whether another run follows one that ends. Hold the lock, or call it where an outdated answer will do.

        Args:
            run: the run in progress, in its final ``state``.

        Returns:
            True if one was requested, or if this one is done and others were requested together with it.
        """
        return self.requested is not None or (run.state == "done" and bool(self.following))

    def advance(self, run: Run) -> None:
        """Request the next of several runs that were requested together. Call it inside `update`.

        Args:
            run: the run that ends; unless it is done, those after it are forgotten.
        """
        if self.requested is None and self.follows(run):
            self.requested = self.following.pop(0)
        elif self.requested is None:
            self.following.clear()

    @contextlib.contextmanager
    def update(self) -> Iterator[None]:
        """Hold the lock; afterwards wake all waiting threads and set the traits queued inside.

        Never nest it: observers must not run while this thread holds the lock.

        Yields:
            Nothing.
        """
        with self.changed:
            yield
            self.changed.notify_all()
        self._traits.flush()

    def queue_traits(self, **traits: Any) -> None:
        """Set traits of the widget once the lock is released. Call it inside `update`.

        Args:
            **traits: the values by name.
        """
        self._traits.put(**traits)

    def set_traits(self, **traits: Any) -> None:
        """Set traits of the widget. Call it without holding the lock.

        Args:
            **traits: the values by name.
        """
        with self.update():
            self.queue_traits(**traits)

    def wake(self) -> None:
        """Wake all waiting threads: there is another job."""
        with self.changed:
            self.changed.notify_all()

    def check_open(self) -> None:
        """Refuse what a closed session cannot do. Call it while holding the lock.

        Raises:
            RuntimeError: the session is closed.
        """
        if self.closed:
            raise RuntimeError("this widget is closed: make a new DiffVis")

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is busy and the traits say so.

        Args:
            timeout: seconds, 0 or more; None waits without limit.

        Returns:
            Whether that happened in time.

        Raises:
            TypeError: timeout is no number.
            ValueError: it is negative or not finite.
        """
        if timeout is not None:
            timeout = real("timeout", timeout, 0, threading.TIMEOUT_MAX)
        self._page_is_there.set()
        deadline = None if timeout is None else time.monotonic() + timeout
        with self.changed:
            if not self.changed.wait_for(lambda: not self.busy, timeout):
                return False
            if self.closed:
                return True
        return self._traits.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
