"""The run that the page shows: its encoded messages, and which of them are still to be sent.

The outbox keeps the whole current run as encoded messages, so a page that reloads, a second view and a lost message
are served without the model. Sending is bounded: at most ``CAP`` bytes are on their way without an acknowledgement,
the newest step goes first when the page is slow, and the gaps are filled later. Every method takes the one lock, so
message handlers may call from any thread.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence

from diffvis_widget.wire.messages import RunPayload, ScoresPayload, View, frame_message
from diffvis_widget.wire.packed_run import Json, Message, RequestId
from diffvis_widget.wire.replies import error_message
from diffvis_widget.wire.video_messages import image_buffers

CAP = 4 * 1024 * 1024
MAX_MESSAGES = 1000  # on their way without an acknowledgement
MAX_WAITING = 64  # replies that wait for acknowledgements
MAX_ERROR = 2000  # characters

Key = tuple[str, int]
RUN, SCORES, END = ("run", 0), ("scores", 0), ("end", 0)
FRAMES: tuple[View, ...] = ("prediction", "latents")
"""The images of a step that may come as previews first. The key of such an image is its view and its step."""


class Outbox:
    """Holds the current run for the page and sends it, in order of use, within the cap.

    Of a message on its way only the size is kept. Replies wait while more than ``CAP`` bytes are on their way. A page
    that never acknowledges gets errors in their place once more than ``CAP`` bytes wait, and in the end nothing.

    Args:
        send: ``send(content, buffers)`` puts one message on the wire; it must not block and must not call back.
        cap: how many bytes may be on their way without an acknowledgement.

    Attributes:
        page_is_there: set once a page has said hello, or once nothing should wait for one any longer.
    """

    page_is_there: threading.Event

    def __init__(self, send: Callable[[Json, Sequence[bytes]], None], cap: int = CAP) -> None:
        self._send = send
        self._cap = cap
        self._lock = threading.RLock()
        self.page_is_there = threading.Event()
        self._seq = 0
        self._run: Message | None = None
        self._steps: dict[int, Message] = {}
        self._scores: ScoresPayload | None = None
        self._sent_scores: tuple[list[str], int] = ([], 0)
        self._end: Message | None = None
        self._pending: dict[Key, None] = {}
        self._in_flight: dict[int, tuple[int, list[Key]]] = {}  # size, and the exact images in the message
        self._bytes_in_flight = 0
        self._waiting: deque[Message] = deque()
        self._received_exact: set[Key] = set()  # exact images that the page has acknowledged

    @property
    def run(self) -> str | None:
        """The id of the current run."""
        with self._lock:
            return None if self._run is None else self._run.content["run"]

    @property
    def words(self) -> int | None:
        """How many words the current run has."""
        with self._lock:
            return None if self._run is None else len(self._run.content["words"])

    @property
    def in_flight(self) -> int:
        """Bytes sent and not acknowledged."""
        with self._lock:
            return self._bytes_in_flight

    def begin(self, message: Message) -> None:
        """Start a new run: nothing of the one before is kept or still sent.

        Args:
            message: the run message.
        """
        with self._lock:
            self._run, self._end, self._scores = message, None, None
            self._in_flight = {seq: (size, []) for seq, (size, _) in self._in_flight.items()}
            self._steps.clear()
            self._received_exact.clear()
            self._sent_scores = ([], 0)
            self._pending = {RUN: None}
            self._pump()

    def restate(self, message: Message) -> None:
        """Replace the run message of the current run; nothing happens for another run.

        Args:
            message: the run message, as it is by now.
        """
        with self._lock:
            if self._is_current(message):
                self._run = message
                self._enqueue(RUN)

    def step(self, message: Message) -> None:
        """Add a step of the current run; nothing happens for another run.

        Args:
            message: the step message.
        """
        with self._lock:
            if self._is_current(message):
                index = message.content["index"]
                self._steps[index] = message
                self._enqueue(("step", index))

    def frame(self, run: str, index: int, image: bytes | tuple[bytes, ...], view: View = "prediction") -> None:
        """Replace the preview of a step by its exact image; nothing happens for another run.

        Args:
            run: the id of the run.
            index: the step.
            image: the encoded image; of a video, that of each latent frame.
            view: which image of the step it is.
        """
        with self._lock:
            if self.run != run or index not in self._steps:
                return
            images = (image,) if isinstance(image, bytes) else image
            self._steps[index] = _with_exact(self._steps[index], view, images)
            if ("step", index) not in self._pending:  # a step still to be sent carries the new image itself
                self._enqueue((view, index))

    def scores(self, run: str, scores: ScoresPayload) -> None:
        """Set the concept scores; nothing happens for another run.

        Args:
            run: the id of the run.
            scores: all rows so far; only new ones are sent.
        """
        with self._lock:
            if self.run == run:
                self._scores = scores
                self._enqueue(SCORES)

    def end(self, message: Message) -> None:
        """End the current run; nothing happens for another run.

        Args:
            message: the end message.
        """
        with self._lock:
            if self._is_current(message):
                self._end = message
                self._enqueue(END)

    def error(self, message: str, request: RequestId | None = None) -> None:
        """Tell the page that one of its requests failed.

        Args:
            message: why.
            request: the id of the request; None where it had none.
        """
        with self._lock:
            self._put(error_message(self.run, message[:MAX_ERROR], request))

    def reply(self, message: Message) -> None:
        """Send a reply: at once, or when the page has acknowledged enough of what is on its way.

        Args:
            message: the reply.
        """
        with self._lock:
            waiting = sum(other.size for other in self._waiting)
            if (waiting and waiting + message.size > self._cap) or len(self._waiting) >= MAX_WAITING:
                self.error("the page has not acknowledged earlier replies: ask again later", message.content.get("id"))
                return
            self._waiting.append(message)
            self._pump()

    def acknowledge(self, seq: object) -> None:
        """Record that the page has handled a message.

        Args:
            seq: its number; anything unknown changes nothing.
        """
        with self._lock:
            entry = self._in_flight.pop(seq, None) if isinstance(seq, int) else None
            if entry is None:
                return
            size, exact = entry
            self._bytes_in_flight -= size
            self._received_exact.update(exact)
            self._pump()

    def hello(self, run: object, have: Collection[object]) -> None:
        """Send what a page that (re)appeared misses.

        Args:
            run: the id of the run that it shows.
            have: the indices of the steps that it has.
        """
        self.page_is_there.set()
        with self._lock:
            self._in_flight.clear()
            self._bytes_in_flight = 0
            if self._run is None:
                self._pump()
                return
            present = set(have) if run == self.run else set[object]()
            self._pending = {} if run == self.run else {RUN: None}
            for index in sorted(self._steps):
                if index not in present:
                    self._pending[("step", index)] = None
                else:
                    missing = [key for key in _exact_images(self._steps[index]) if key not in self._received_exact]
                    self._pending |= dict.fromkeys(missing)
            self._sent_scores = ([], 0)
            if self._scores is not None:
                self._pending[SCORES] = None
            if self._end is not None:
                self._pending[END] = None
            self._pump()

    def payload(self) -> RunPayload | None:
        """Collect the messages of the current run.

        Returns:
            The run as it stands; None before the first.
        """
        with self._lock:
            return None if self._run is None else RunPayload(self._run, dict(self._steps), self._scores, self._end)

    def show(self, payload: RunPayload) -> None:
        """Show another run, whole, in the place of the current one.

        Args:
            payload: the run.
        """
        with self._lock:
            self.begin(payload.run)
            self._steps.update(payload.steps)
            self._scores, self._end = payload.scores, payload.end
            self._pending |= {("step", index): None for index in sorted(payload.steps)}
            self._pending |= {key: None for key, part in ((SCORES, payload.scores), (END, payload.end)) if part}
            self._pump()

    def _is_current(self, message: Message) -> bool:
        return self._run is not None and message.content.get("run") == self._run.content["run"]

    def _enqueue(self, key: Key) -> None:
        self._pending[key] = None
        self._pump()

    def _pump(self) -> None:
        while self._waiting and self._bytes_in_flight < self._cap and len(self._in_flight) < MAX_MESSAGES:
            self._put(self._waiting.popleft())
        while self._pending and len(self._in_flight) < MAX_MESSAGES:
            key = self._next()
            message = self._build(key)
            in_flight = self.in_flight
            if in_flight and in_flight + message.size > self._cap:
                return
            del self._pending[key]
            if key == SCORES and self._scores is not None:
                self._sent_scores = (self._scores.concepts, len(self._scores.cosine))
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
        for view in FRAMES:
            if kind == view:
                step = self._steps[index]
                image = step.buffers[image_buffers(step.content, view)]
                return Message(frame_message(self._run.content["run"], index, image[0], view).content, image)
        if key == SCORES:
            assert self._scores is not None
            concepts, rows = self._sent_scores
            return self._scores.message(self._run.content["run"], rows if concepts == self._scores.concepts else 0)
        message = self._run if key == RUN else self._end
        assert message is not None
        return message

    def _put(self, message: Message) -> None:
        if len(self._in_flight) >= MAX_MESSAGES:
            return  # an error for a page that takes none
        seq, self._seq = self._seq, self._seq + 1
        message = message.stamped(seq)
        exact = _exact_images(message)
        self._in_flight[seq] = message.size, exact if exact and self._is_current(message) else []
        self._bytes_in_flight += message.size
        self._send(message.content, message.buffers)


def _exact_images(message: Message) -> list[Key]:
    """The keys of the images in a step or frame message that are no previews."""
    content = message.content
    if content.get("type") == "frame":
        return [(content.get("view", "prediction"), content["index"])]
    if content.get("type") != "step":
        return []
    previews = content.get("previews", [] if content["exact"] else ["prediction"])
    return [(view, content["index"]) for view in FRAMES if view in content["views"] and view not in previews]


def _with_exact(step: Message, view: View, image: tuple[bytes, ...]) -> Message:
    """A step message with an exact image in the place of a preview."""
    content = {**step.content, "exact": step.content["exact"] or view == "prediction"}
    content["previews"] = [other for other in content.get("previews", []) if other != view]
    if not content["previews"]:
        del content["previews"]
    place = image_buffers(content, view)
    return Message(content, (*step.buffers[: place.start], *image, *step.buffers[place.stop :]))


def _in_order(key: Key) -> tuple[int, bool]:
    return key[1], key[0] in FRAMES
