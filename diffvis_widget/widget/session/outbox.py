"""The run that the page shows: what there is to see of it, and what of that is on its way.

The store keeps everything of the current run as encoded messages, so that a page that reloads, a second view or a lost
message is served without touching the model. Sending is bounded: at most ``CAP`` bytes are under way without an
acknowledgement, the newest step goes first when the page is slow, and the gaps are filled later. Every method takes
the one lock, so message handlers may call from any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from diffvis_widget.wire.messages import RunPayload, ScoresPayload, frame_message
from diffvis_widget.wire.packed_run import Json, Message, RequestId
from diffvis_widget.wire.replies import error_message

if TYPE_CHECKING:
    pass

CAP = 4 * 1024 * 1024

Key = tuple[str, int]
RUN, SCORES, END = ("run", 0), ("scores", 0), ("end", 0)


class Outbox:
    """Holds the current run for the page and sends it, in order of use, within the cap.

    ``send(content, buffers)`` puts one message on the wire; it must not block and must not call back.
    """

    def __init__(self, send: Callable[[Json, Sequence[bytes]], None], cap: int = CAP) -> None:
        self._send = send
        self._cap = cap
        self._lock = threading.RLock()
        self._seq = 0
        self._run: Message | None = None
        self._steps: dict[int, Message] = {}
        self._scores: ScoresPayload | None = None
        self._rows_sent: tuple[list[str], int] = ([], 0)
        self._end: Message | None = None
        self._pending: dict[Key, None] = {}
        self._in_flight: dict[int, Message] = {}
        self._seen_exact: set[int] = set()  # steps whose exact picture the page is known to have

    @property
    def run(self) -> str | None:
        """The id of the run that the store holds."""
        with self._lock:
            return None if self._run is None else self._run.content["run"]

    @property
    def words(self) -> int | None:
        """How many words the run has that the store holds."""
        with self._lock:
            return None if self._run is None else len(self._run.content["words"])

    @property
    def in_flight(self) -> int:
        """Bytes sent and not acknowledged."""
        with self._lock:
            return sum(message.size for message in self._in_flight.values())

    def begin(self, message: Message) -> None:
        """A new run: nothing of the one before is kept or still sent."""
        with self._lock:
            self._run, self._end, self._scores = message, None, None
            self._steps.clear()
            self._seen_exact.clear()
            self._rows_sent = ([], 0)
            self._pending = {RUN: None}
            self._pump()

    def again(self, message: Message) -> None:
        """The beginning of the run that is here, as it is by now."""
        with self._lock:
            if self._current(message):
                self._run = message
                self._want(RUN)

    def step(self, message: Message) -> None:
        with self._lock:
            if self._current(message):
                index = message.content["index"]
                self._steps[index] = message
                self._want(("step", index))

    def frame(self, run: str, index: int, image: bytes) -> None:
        """The exact picture of a step that is already here."""
        with self._lock:
            if self.run != run or index not in self._steps:
                return
            step = self._steps[index]
            self._steps[index] = Message({**step.content, "exact": True}, (image, *step.buffers[1:]))
            if ("step", index) not in self._pending:  # a step still to be sent carries the new picture itself
                self._want(("frame", index))

    def scores(self, run: str, scores: ScoresPayload) -> None:
        with self._lock:
            if self.run == run:
                self._scores = scores
                self._want(SCORES)

    def end(self, message: Message) -> None:
        with self._lock:
            if self._current(message):
                self._end = message
                self._want(END)

    def error(self, message: str, request: RequestId | None = None) -> None:
        """Tell the page that what it asked for could not be done."""
        self.answer(error_message(self.run, message, request))

    def answer(self, message: Message) -> None:
        """Send what the page has asked for; it asks for one thing at a time, so nothing queues up here."""
        with self._lock:
            self._put(message)

    def acknowledge(self, seq: object) -> None:
        """The page has handled message ``seq``."""
        with self._lock:
            message = self._in_flight.pop(seq, None) if isinstance(seq, int) else None
            if message is None:
                return
            if message.content.get("exact") and self._current(message):
                self._seen_exact.add(message.content["index"])
            self._pump()

    def hello(self, run: object, have: Collection[object]) -> None:
        """A page that shows ``run`` and has the steps ``have`` (re)appeared: send what it misses."""
        with self._lock:
            self._in_flight.clear()
            if self._run is None:
                return
            known = set(have) if run == self.run else set[object]()
            self._pending = {} if run == self.run else {RUN: None}
            for index in sorted(self._steps):
                if index not in known:
                    self._pending[("step", index)] = None
                elif self._steps[index].content["exact"] and index not in self._seen_exact:
                    self._pending[("frame", index)] = None
            self._rows_sent = ([], 0)
            if self._scores is not None:
                self._pending[SCORES] = None
            if self._end is not None:
                self._pending[END] = None
            self._pump()

    def told(self) -> RunPayload | None:
        """The whole run as it stands."""
        with self._lock:
            return None if self._run is None else RunPayload(self._run, dict(self._steps), self._scores, self._end)

    def show(self, told: RunPayload) -> None:
        """Another run, whole, in the place of the one before."""
        with self._lock:
            self.begin(told.run)
            self._steps.update(told.steps)
            self._scores, self._end = told.scores, told.end
            self._pending |= {("step", index): None for index in sorted(told.steps)}
            self._pending |= {key: None for key, there in ((SCORES, told.scores), (END, told.end)) if there}
            self._pump()

    def _current(self, message: Message) -> bool:
        return self._run is not None and message.content["run"] == self._run.content["run"]

    def _want(self, key: Key) -> None:
        self._pending[key] = None
        self._pump()

    def _pump(self) -> None:
        while self._pending:
            key = self._next()
            message = self._build(key)
            under_way = self.in_flight
            if under_way and under_way + message.size > self._cap:
                return
            del self._pending[key]
            if key == SCORES and self._scores is not None:
                self._rows_sent = (self._scores.concepts, len(self._scores.cosine))
            self._put(message)

    def _next(self) -> Key:
        """Run first, then the newest step, then the small messages, then the gaps from the start."""
        if RUN in self._pending:
            return RUN
        newest = ("step", max(self._steps, default=-1))
        return next((key for key in (newest, END, SCORES) if key in self._pending), min(self._pending, key=_in_order))

    def _build(self, key: Key) -> Message:
        kind, index = key
        assert self._run is not None  # nothing is pending before the first run
        if kind == "step":
            return self._steps[index]
        if kind == "frame":
            return frame_message(self._run.content["run"], index, self._steps[index].buffers[0])
        if key == SCORES:
            assert self._scores is not None
            concepts, rows = self._rows_sent
            return self._scores.message(self._run.content["run"], rows if concepts == self._scores.concepts else 0)
        message = self._run if key == RUN else self._end
        assert message is not None
        return message

    def _put(self, message: Message) -> None:
        seq, self._seq = self._seq, self._seq + 1
        self._in_flight[seq] = message = message.stamped(seq)
        self._send(message.content, message.buffers)


def _in_order(key: Key) -> tuple[int, bool]:
    return key[1], key[0] == "frame"
